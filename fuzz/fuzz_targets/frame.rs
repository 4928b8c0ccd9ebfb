//! Fuzzes frames.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(FRAME);
