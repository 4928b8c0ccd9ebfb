//! What a TCP service needs to know of what its clients speak.

use super::ConnectionId;
use crate::{Completion, Local};

/// What clients speak.
pub trait Protocol: 'static {
    /// What is kept of a connection.
    type Connection: Default;

    /// Consumes whole requests from the front of `input` and returns how many bytes those were. It may
    /// propose, under [`ConnectionId::tag`], and may answer at once by appending to `output`.
    ///
    /// When a proposal is refused as `Full`, stop before that request: the rest comes again later.
    ///
    /// # Errors
    /// [`Close`] ends the connection once it [is idle](Self::is_idle) and the output has been sent.
    fn receive(
        &mut self,
        connection: &mut Self::Connection,
        id: ConnectionId,
        input: &[u8],
        output: &mut Vec<u8>,
        local: &mut Local<'_>,
    ) -> Result<usize, Close>;

    /// Whether nothing more will be written for what was received. A connection that ends, by [`Close`] or
    /// because its client has no more to say, is kept until it is so.
    fn is_idle(&self, connection: &Self::Connection) -> bool {
        let _ = connection;
        true
    }

    /// A proposal has ended. Those of one ring come in the order in which they were made.
    fn completed(
        &mut self,
        connection: &mut Self::Connection,
        tag: u32,
        completion: Completion<'_>,
        output: &mut Vec<u8>,
    );
}

/// End the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close;

/// Bounds of a [`TcpService`](super::TcpService).
#[derive(Clone, Copy, Debug)]
pub struct TcpServiceOptions {
    /// Connections; more are closed at once. At most 65536.
    pub connections_max: usize,
    /// The largest request, and the most that is read ahead of a protocol that waits.
    pub input_bytes_max: usize,
    /// While more than this waits to be sent to a client, nothing is read from it.
    pub output_bytes_max: usize,
}

impl Default for TcpServiceOptions {
    fn default() -> TcpServiceOptions {
        TcpServiceOptions { connections_max: 4096, input_bytes_max: 2 << 20, output_bytes_max: 1 << 20 }
    }
}
