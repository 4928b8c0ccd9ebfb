//! What the tests of the workspace share.
//!
//! [`repository`] is the source tree as data, for the rules that it keeps. [`world`] is a cluster of
//! pure rings whose network, disks and time are in the test's hands; [`scenario`] drives it by golden
//! scripts and [`chaos`] by seeded accidents. [`explore`] walks through every state of a small one, and
//! [`simulator`] runs whole cores over simulated devices; [`linearizability`] judges what its clients saw,
//! [`reach`] tells what all of them came past, and [`faults`] which mistakes of other engines are tried on
//! them; [`output`] is how its programs print.
#![forbid(unsafe_code)]

pub mod chaos;
pub mod explore;
pub mod faults;
pub mod linearizability;
pub mod output;
pub mod reach;
pub mod repository;
pub mod scenario;
pub mod simulator;
pub mod world;
