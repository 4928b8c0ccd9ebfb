//! A thread-per-core Multi-Paxos replication engine, to embed in latency-sensitive services.
//!
//! Implement one trait, start one engine per node, and every command that is [`Outcome::Committed`] is on a
//! majority's disks and executed in the same order everywhere:
//!
//! ```
//! use annulus::{Committed, Engine, JournalKind, NodeId, Outcome, Replies, RingId, StateMachine};
//!
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
//!         for _command in committed.commands() {
//!             self.0 += 1;
//!             replies.push(self.0.to_string().as_bytes());
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder()
//!     .node(NodeId(1))
//!     .peer(NodeId(1), "127.0.0.1:0") // and every other node of the cluster
//!     .journal(JournalKind::Memory)   // or .data_dir("/nvme/annulus")
//!     .start()?;
//! let ring = engine.create_ring(RingId(1), Counter::default)?;
//! ring.wait_for_leader(std::time::Duration::from_secs(10));
//! assert!(matches!(ring.propose(b"count").wait(), Outcome::Committed { reply, .. } if reply == b"1"));
//! # Ok(())
//! # }
//! ```
//!
//! A client on another thread uses a [`RingHandle`]; one that lives on the core is a [`Service`] and costs no
//! channel. Where the microseconds go is in [`Engine::stages`].
#![deny(unsafe_code)]

mod builder;
pub mod clock;
pub mod core;
mod core_thread;
mod engine;
mod error;
mod handle;
mod idle;
mod limits;
mod local;
mod machine;
mod mailbox;
#[cfg(all(test, loom))]
mod models;
mod outcome;
mod placement;
mod plans;
mod proposal;
mod runner;
mod service;
mod settings;
pub mod snapshot;
pub mod stages;
mod status;
mod sync;
mod ticket;
mod vitals;
mod watchdog;

pub use annulus_rings::{Ballot, ClusterId, CoreId, Incarnation, NodeId, Progress, RingId, Role, Slot, Time};
pub use annulus_storage::{JournalStatistics, SyncMode};
pub use annulus_transport::{
    LoopbackHub, LoopbackOptions, NetworkStatistics, PeerAddress, PeerReport as ConnectionReport, ReceivePath,
};

pub use crate::builder::Builder;
pub use crate::core::{CoreReport, Statistics};
pub use crate::engine::{CoreFailed, Engine, NodeFailed};
pub use crate::error::{CreateError, StartError};
pub use crate::handle::RingHandle;
pub use crate::idle::Idle;
pub use crate::local::Local;
pub use crate::machine::{Committed, Replies, StateMachine};
pub use crate::mailbox::MachineFactory;
pub use crate::outcome::{Completion, Outcome, Rejected};
pub use crate::placement::Placement;
pub use crate::proposal::{Proposal, Query};
pub use crate::service::{Close, ConnectionId, Protocol, Service, TcpService, TcpServiceOptions};
pub use crate::settings::{JournalKind, Runner, TransportKind};
pub use crate::snapshot::{RestoreFailure, SnapshotMap, SnapshotReader, SnapshotStep, SnapshotWriter};
pub use crate::stages::{Exemplar, PeerReport, Quantiles, Stage, StageReport, StageSummary};
pub use crate::status::RingStatus;
pub use crate::watchdog::{CoreHealth, CoreState};
