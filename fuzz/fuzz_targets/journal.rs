//! Fuzzes recovery over a medium that holds anything.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(JOURNAL);
