//! The deterministic simulator: the shipped core, rings and journals of a whole cluster in one thread, on
//! virtual time, from one seed.
//!
//! Disks, network, clocks and clients are simulated behind the engine's own traits; everything between
//! them is the code that ships. One seed is one history. It has two phases: accidents of every class that
//! the seed knows, during which nothing may ever be wrong (safety); then what is left heals for good, and
//! where that is enough it must elect, serve and agree within stated times (liveness).
//!
//! Most accidents pass. Harm to what a disk holds does not: a node that finds its disk damaged says so and
//! stops for good, and only then; one that does not start from a sound disk breaks a rule (G11), and so does
//! one that starts over damage to what was durable, writes it again or erases it (A10). In most seeds only a
//! minority of disks is ever harmed; in some it may be all, and then the cluster may stop, but never disagree.
//!
//! In most seeds rings are saved to a simulated vault, and their journals cut below; in some of them space is so
//! short that journals fill. What a vault publishes and a state machine takes must be the state of what is chosen
//! (G6); what is freed must be covered by it (T1); a cluster that nobody asks anything comes to rest (G12).
//!
//! An observer who sees every frame, record, execution and answer judges each of them: see
//! [`Oracle`](crate::world::Oracle) and the ledger of clients' commands. In some seeds clients use
//! registers, and what they saw is judged by itself: see [`linearizability`](crate::linearizability).

mod accident;
mod class;
mod client;
mod clock;
mod command;
mod connections;
mod coverage;
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
mod reduction;
mod saving;
mod scene;
mod session;
mod shape;
mod shrink;
mod simulation;
mod summary;
mod vault;
mod wire;

pub use coverage::{Coverage, State};
pub use failure::{Failure, play, play_reduced};
pub use plan::{DiskPlan, LoadPlan, NetworkPlan, Plan, ProcessPlan, RegisterPlan};
pub use reduction::Reduction;
pub use saving::{SavingAccidents, SavingPlan};
pub use shrink::{Extent, shrink};
pub use simulation::Simulation;
pub use summary::{Registers, Summary};
