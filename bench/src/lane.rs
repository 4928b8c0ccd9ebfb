//! One connection of the client process: a session's commands out, their acknowledgements in.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use annulus::{NodeId, RingId};

use crate::meter::Meter;
use crate::session::{FalseAcknowledgement, Session};
use crate::wire::{Foreign, Hello, REPLY_BYTES, Reply};

/// Bytes that wait for the socket, at the most: enough to keep it busy, little enough to stay in cache.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// A connection on loopback opens at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// An open connection to a ring's leader.
pub(crate) struct Lane {
    stream: TcpStream,
    session: Session,
    input: Vec<u8>,
    input_end: usize,
    output: Vec<u8>,
    output_start: usize,
}

/// Why a lane came to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    /// Another node leads.
    #[error("the replica does not lead its ring any more")]
    NotLeader(Option<NodeId>),
    /// The connection broke, or the leader was deposed.
    #[error("the leader was lost: {0}")]
    Lost(#[from] io::Error),
    /// The other side speaks nonsense.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// The other side acknowledges what cannot be.
    #[error(transparent)]
    False(#[from] FalseAcknowledgement),
}

impl LaneError {
    /// Whether the replica is wrong, rather than gone.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self, LaneError::Foreign(_) | LaneError::False(_))
    }
}

impl Lane {
    /// Connects to `address` and opens `session` on `ring`.
    pub(crate) fn open(address: SocketAddr, ring: RingId, session: Session) -> io::Result<Lane> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut output = Vec::with_capacity(OUTPUT_BYTES_MAX);
        Hello { ring, session: session.number() }.write(&mut output);
        Ok(Lane { stream, session, input: vec![0; 64 * 1024], input_end: 0, output, output_start: 0 })
    }

    /// The socket, to wait for.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The session.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Whether something waits for the socket to take it.
    pub(crate) fn has_output(&self) -> bool {
        self.output_start < self.output.len()
    }

    /// Takes what arrived. True when there was something.
    pub(crate) fn receive(&mut self, clock: impl Fn() -> u64, meter: &mut Meter) -> Result<bool, LaneError> {
        match self.stream.read(&mut self.input[self.input_end..]) {
            Ok(0) => Err(LaneError::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => {
                self.input_end += bytes;
                self.take_replies(clock(), meter)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends as much as the loop and the socket have room for. True when something went out.
    pub(crate) fn send(&mut self, now_ns: u64, more: bool) -> Result<bool, LaneError> {
        if more {
            self.session.fill(now_ns, &mut self.output, OUTPUT_BYTES_MAX);
        }
        if !self.has_output() {
            return Ok(false);
        }
        match self.stream.write(&self.output[self.output_start..]) {
            Ok(bytes) => {
                self.output_start += bytes;
                if !self.has_output() {
                    self.output.clear();
                    self.output_start = 0;
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn take_replies(&mut self, now_ns: u64, meter: &mut Meter) -> Result<(), LaneError> {
        let mut start = 0;
        while let Some(reply) = Reply::read(&self.input[start..self.input_end])? {
            start += REPLY_BYTES;
            match reply {
                Reply::Committed { upto } => self.session.acknowledge(upto, now_ns, meter)?,
                Reply::NotLeader { leader } => return Err(LaneError::NotLeader(leader)),
                Reply::Unknown => return Err(LaneError::Lost(io::ErrorKind::ConnectionReset.into())),
            }
        }
        self.input.copy_within(start..self.input_end, 0);
        self.input_end -= start;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::meter::Window;
    use crate::wire::{self, HELLO_BYTES};

    #[test]
    fn a_lane_speaks_the_protocol_and_refills_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let session = Session::new(5, 64, 3);
        let mut lane = Lane::open(listener.local_addr().unwrap(), RingId(2), session).unwrap();
        let (mut replica, _) = listener.accept().unwrap();
        let mut meter = Meter::new(Window { starts_ns: 0, ends_ns: u64::MAX });

        assert!(lane.send(10, true).unwrap());
        let mut heard = vec![0; HELLO_BYTES + 3 * 68];
        replica.read_exact(&mut heard).unwrap();
        assert_eq!(Hello::read(&heard).unwrap(), Some(Hello { ring: RingId(2), session: 5 }));
        assert_eq!(wire::request(&heard[HELLO_BYTES..]).unwrap().len(), 64);

        let mut reply = Vec::new();
        Reply::acknowledge(&mut reply, 2);
        replica.write_all(&reply).unwrap();
        while !lane.receive(|| 20, &mut meter).unwrap() {}
        assert_eq!((lane.session().acknowledged(), lane.session().room()), (2, 2));
        assert_eq!(meter.committed(), 2);

        drop(replica);
        let error = loop {
            match lane.receive(|| 30, &mut meter) {
                Ok(_) => (),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LaneError::Lost(_)) && !error.is_fatal());
    }
}
