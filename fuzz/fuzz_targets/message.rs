//! Fuzzes frames between members, handed to a ring.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(MESSAGE);
