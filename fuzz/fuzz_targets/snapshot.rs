//! Fuzzes the reading and receiving of snapshots.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(SNAPSHOT);
