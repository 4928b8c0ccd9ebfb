//! Fuzzes the superblock of a data directory.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(SUPERBLOCK);
