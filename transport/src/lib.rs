//! Frames between the cores of nodes.
//!
//! A [`Network`] moves verified frames: [`TcpNetwork`] over established sockets, [`LoopbackNetwork`]
//! between threads of a process. What happens rarely (listening, dialling, the handshake) is the
//! business of a [`TcpFabric`], whose threads hand finished connections to the cores.
//!
//! Beside them stand the two things that let a core sleep: [`Wake`], an eventfd that costs the waker
//! nothing while the core runs, and [`Readiness`], a set of descriptors to be told about.
#![deny(unsafe_code)]

mod acceptor;
mod address;
mod backoff;
#[allow(unsafe_code)]
mod buffer_ring;
mod connection;
mod dialer;
mod fabric;
mod handshake;
mod hello;
mod links;
mod listen;
mod loopback;
mod multishot;
mod network;
mod readiness;
mod receive;
mod refusal;
mod report;
mod send_queue;
mod splitter;
mod tcp;
#[allow(unsafe_code)]
mod uring;
#[allow(unsafe_code)]
mod wake;

pub use address::PeerAddress;
pub use fabric::{FabricError, FabricOptions, TcpFabric};
pub use links::TcpPort;
pub use listen::listen;
pub use loopback::{JoinError, LoopbackHub, LoopbackNetwork, LoopbackOptions};
pub use network::{Network, NetworkStatistics, PeerState, PeerStatus, Received};
pub use readiness::{Interest, Readiness, Token};
pub use receive::ReceivePath;
pub use refusal::{Problem, Refusal};
pub use report::{FabricStatistics, PeerReport};
#[doc(hidden)]
pub use splitter::FrameSplitter;
pub use tcp::{TcpNetwork, TcpOptions};
pub use wake::{Doorbell, Wake, Waker};

#[cfg(test)]
mod tests;
