//! Fuzzes commands of the key-value example as the log holds them.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(COMMAND);
