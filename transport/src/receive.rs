//! How bytes come from sockets into the buffers that become frames.

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::RawFd;

use annulus_rings::{Frame, FrameError};

use crate::NetworkStatistics;
use crate::multishot::MultishotReceive;
use crate::splitter::FrameSplitter;

/// Bytes taken from one connection in one turn, so that no peer can hold a core.
pub(crate) const TURN_BYTES_MAX: usize = 1 << 20;

/// Which system calls bring bytes in.
///
/// The default is by measurement: over loopback, multishot makes a 64-byte round trip 1.03 to 1.7 times as
/// long, carries a stream of 64-byte frames at 0.9 to 1.03 and one of 4 KiB at 0.3 to 1.1 times the rate
/// (`examples/receive_paths.rs`, on a crowded machine). A real network card may tell otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum ReceivePath {
    /// A non-blocking `recv` per connection and turn, into a large contiguous buffer.
    #[default]
    Recv,
    /// One lasting `io_uring` receive per connection into a registered ring of buffers.
    Multishot,
}

/// Why a connection yields nothing more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("closed by the peer")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A connection as a receive path sees it.
pub(crate) struct Source<'a> {
    pub(crate) stream: &'a TcpStream,
    pub(crate) splitter: &'a mut FrameSplitter,
    pub(crate) statistics: &'a mut NetworkStatistics,
}

/// A receive path. Connections are known by their index, which is used again after `detach`.
pub(crate) trait Receive {
    /// A connection begins.
    fn attach(&mut self, index: usize, stream: &TcpStream) -> io::Result<()>;

    /// A connection ends; nothing more of it is delivered.
    fn detach(&mut self, index: usize) -> io::Result<()>;

    /// Once per turn, before the connections are read.
    fn gather(&mut self) -> io::Result<()>;

    /// Appends the whole frames that a connection has, in order, and counts what was read. Frames before
    /// an error are good.
    fn receive(
        &mut self,
        index: usize,
        from: Source<'_>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), ReceiveError>;

    /// Whether the caller must watch the sockets itself while the core sleeps.
    fn needs_readiness(&self) -> bool;

    /// Whether something has arrived that `gather` would find.
    fn is_pending(&mut self) -> bool;

    /// Signals `eventfd` when something arrives.
    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()>;
}

/// The receive path of an option.
pub(crate) fn open(path: ReceivePath) -> io::Result<Box<dyn Receive>> {
    Ok(match path {
        ReceivePath::Recv => Box::new(PlainReceive),
        ReceivePath::Multishot => Box::new(MultishotReceive::new()?),
    })
}

/// Plain non-blocking reads.
struct PlainReceive;

impl Receive for PlainReceive {
    fn attach(&mut self, _index: usize, _stream: &TcpStream) -> io::Result<()> {
        Ok(())
    }

    fn detach(&mut self, _index: usize) -> io::Result<()> {
        Ok(())
    }

    fn gather(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn receive(
        &mut self,
        _index: usize,
        from: Source<'_>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), ReceiveError> {
        let Source { mut stream, splitter, statistics } = from;
        let mut turn_bytes = 0;
        while turn_bytes < TURN_BYTES_MAX {
            let room = splitter.room();
            let room_bytes = room.len();
            let bytes = match stream.read(room) {
                Ok(0) => return Err(ReceiveError::Closed),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            turn_bytes += bytes;
            statistics.reads += 1;
            statistics.bytes_received += bytes as u64;
            splitter.arrived(bytes);
            while let Some(frame) = splitter.next()? {
                frames.push(frame);
            }
            // A short read emptied the socket; asking again would cost a system call to learn so.
            if bytes < room_bytes {
                break;
            }
        }
        Ok(())
    }

    fn needs_readiness(&self) -> bool {
        true
    }

    fn is_pending(&mut self) -> bool {
        false
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}
