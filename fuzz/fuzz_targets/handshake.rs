//! Fuzzes the handshake of a connection, from the side that listens.
#![cfg_attr(fuzzing, no_main)]

annulus_fuzz::fuzz!(HANDSHAKE);
