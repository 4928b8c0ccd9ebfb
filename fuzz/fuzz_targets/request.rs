//! Fuzzes requests of clients of the key-value example.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(REQUEST);
