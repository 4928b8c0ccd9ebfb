//! Fuzzes the cutting of a stream into frames.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(SPLITTER);
