//! Clients that live on a core: no channel, no lock, no allocation per command.

mod connection;
mod protocol;
mod tcp;

use std::io;
use std::os::fd::RawFd;

use annulus_rings::Time;

pub use self::connection::ConnectionId;
pub use self::protocol::{Close, Protocol, TcpServiceOptions};
pub use self::tcp::TcpService;
use crate::{Completion, Local};

/// Something that proposes from the core itself: a server for clients' sockets, a load generator.
///
/// The core calls it once in each turn. Everything here must be short and must never block.
pub trait Service: 'static {
    /// Takes what has arrived and proposes it; returns how much there was to do.
    fn turn(&mut self, local: &mut Local<'_>) -> usize;

    /// A proposal has ended; each does so exactly once, those of one ring in the order they were made
    /// as long as they are committed.
    fn completed(&mut self, tag: u64, completion: Completion<'_>);

    /// The turn's completions are all in: write to sockets now, once.
    fn flush(&mut self);

    /// The core is about to park: arrange that the registered eventfd is signalled when there is
    /// something to do. True when there is something to do already, so that the core must not park.
    fn prepare_park(&mut self) -> bool;

    /// The eventfd that rouses the core. Called once, before the first turn.
    ///
    /// # Errors
    /// What the service waits with cannot signal it; the core does not start.
    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()>;

    /// When the service needs a turn even if nothing arrives.
    fn deadline(&self) -> Time {
        Time::NEVER
    }
}
