//! Fuzzes the header of a journal segment.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(SEGMENT_HEADER);
