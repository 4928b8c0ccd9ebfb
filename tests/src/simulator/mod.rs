//! The deterministic simulator: the shipped core, rings and journals of a whole cluster in one thread, on
//! virtual time, from one seed.
//!
//! Disks, network, clocks and clients are simulated behind the engine's own traits; everything between
//! them is the code that ships. One seed is one history. It has two phases: accidents of every class that
//! the seed knows, during which nothing may ever be wrong (safety); then a quorum heals for good, and must
//! elect, serve and agree within stated times (liveness). An observer who sees every frame, record,
//! execution and answer judges each of them: see [`Oracle`](crate::world::Oracle) and the ledger of
//! clients' commands.

mod accident;
mod class;
mod client;
mod clock;
mod disk;
mod failure;
mod fuse;
mod identities;
mod ledger;
mod machine;
mod medium;
mod network;
mod node;
mod plan;
mod scene;
mod sessions;
mod shape;
mod simulation;
mod summary;
mod wire;

pub use failure::{Failure, play};
pub use plan::{DiskPlan, LoadPlan, NetworkPlan, Plan, ProcessPlan};
pub use simulation::Simulation;
pub use summary::Summary;
