//! One Paxos ring as a pure state machine.
//!
//! [`Ring::step`] takes the time, one input and the caller's [`Outbox`], and makes one transition.
//! Nothing here reads a clock, opens a file, starts a thread or draws a random number, so the same
//! code runs in production, in the simulator and under the model checker.
#![forbid(unsafe_code)]

mod acceptor;
mod ballot;
pub mod batch;
pub mod configuration;
pub mod contract;
mod election;
pub mod frame;
mod ids;
mod keeping;
mod log;
pub mod message;
pub mod mutant;
mod outbox;
mod pool;
mod proposer;
pub mod reach;
mod ring;
mod time;

pub use ballot::Ballot;
pub use batch::{Batch, BatchBuilder, BatchError, Commands};
pub use configuration::Configuration;
pub use frame::{Frame, FrameError, FrameHeader, Kind};
pub use ids::{ClusterId, ConfigurationId, CoreId, Incarnation, Lsn, NodeId, RingId, Slot};
pub use keeping::Cut;
pub use message::{Malformed, Message};
pub use outbox::{Append, Event, Outbox, Role, Transmit};
pub use pool::FramePool;
pub use ring::{Ignored, Input, LEARN_BYTES_MAX, Progress, Recovering, Ring, RingOptions, WINDOW_SLOTS_MAX};
pub use time::Time;
