//! Fuzzes the commands of a batch.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(BATCH);
