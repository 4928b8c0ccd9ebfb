//! A client's connection: its socket, what came and was not understood yet, what waits to be sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use annulus_transport::Token;

/// Names a connection of a [`TcpService`](super::TcpService). The name of a closed connection comes back
/// only after 65,535 others had its place, so what completes for a closed one reaches nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId {
    pub(super) index: u16,
    pub(super) generation: u16,
}

impl ConnectionId {
    /// The tag under which to propose for this connection; `tag` comes back in
    /// [`Protocol::completed`](super::Protocol::completed).
    pub fn tag(self, tag: u32) -> u64 {
        u64::from(self.generation) << 48 | u64::from(self.index) << 32 | u64::from(tag)
    }

    pub(super) fn of_tag(tag: u64) -> (ConnectionId, u32) {
        let id = ConnectionId { index: (tag >> 32) as u16, generation: (tag >> 48) as u16 };
        (id, tag as u32)
    }
}

/// One socket and its two buffers.
pub(super) struct Connection<S> {
    stream: TcpStream,
    pub(super) id: ConnectionId,
    pub(super) token: Token,
    pub(super) state: S,
    /// Bytes that came: those from `input_start` to `input_end` are not consumed.
    input: Vec<u8>,
    input_start: usize,
    input_end: usize,
    /// Bytes to send, from `output_start` on.
    pub(super) output: Vec<u8>,
    output_start: usize,
    /// Turns since the socket last had something to read.
    pub(super) idle_turns: u32,
    pub(super) flow: Flow,
    /// In the list of connections that are looked at every turn.
    pub(super) hot: bool,
    /// In the list of connections with something to send.
    pub(super) dirty: bool,
}

/// What happens with the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    /// It is read and given to the protocol.
    Open,
    /// The protocol stopped at a proposal that found no room: call it again without new bytes.
    Refused,
    /// Nothing is read any more; the connection closes when the output has left.
    Closing,
}

/// What a read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// This many bytes more.
    Bytes(usize),
    /// Nothing at the moment.
    Nothing,
    /// No room: the protocol wants more than may be kept for one request.
    NoRoom,
    /// The client has gone.
    End,
}

/// The first size of an input buffer.
const INPUT_BYTES_MIN: usize = 16 << 10;
/// An output buffer larger than this is given back when it is empty.
const OUTPUT_BYTES_KEPT: usize = 1 << 20;

impl<S: Default> Connection<S> {
    pub(super) fn new(stream: TcpStream, id: ConnectionId, token: Token) -> Connection<S> {
        Connection {
            stream,
            id,
            token,
            state: S::default(),
            input: Vec::new(),
            input_start: 0,
            input_end: 0,
            output: Vec::new(),
            output_start: 0,
            idle_turns: 0,
            flow: Flow::Open,
            hot: false,
            dirty: false,
        }
    }

    /// What came and was not consumed, with the state and the output to answer it.
    pub(super) fn parts(&mut self) -> (&mut S, &[u8], &mut Vec<u8>) {
        (&mut self.state, &self.input[self.input_start..self.input_end], &mut self.output)
    }

    pub(super) fn has_input(&self) -> bool {
        self.input_start < self.input_end
    }

    /// The front of the input is done with.
    pub(super) fn consume(&mut self, bytes: usize) {
        assert!(self.input_start + bytes <= self.input_end, "a protocol consumes what it was given");
        self.input_start += bytes;
        if self.input_start == self.input_end {
            (self.input_start, self.input_end) = (0, 0);
        }
    }

    /// Reads once, into room made by moving or growing the input up to `bytes_max`.
    pub(super) fn read(&mut self, bytes_max: usize) -> Found {
        if self.input_end == self.input.len() {
            self.make_room(bytes_max);
        }
        if self.input_end == self.input.len() {
            return Found::NoRoom;
        }
        match self.stream.read(&mut self.input[self.input_end..]) {
            Ok(0) => Found::End,
            Ok(bytes) => {
                self.input_end += bytes;
                Found::Bytes(bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Found::Nothing
            }
            Err(_) => Found::End,
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn output_bytes(&self) -> usize {
        self.output.len() - self.output_start
    }

    /// Writes once what waits; true when everything has left.
    pub(super) fn write(&mut self) -> io::Result<bool> {
        while self.output_bytes() > 0 {
            match self.stream.write(&self.output[self.output_start..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => self.output_start += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.output_bytes() == 0 {
            self.output.clear();
            self.output_start = 0;
            if self.output.capacity() > OUTPUT_BYTES_KEPT {
                self.output = Vec::new();
            }
        } else if self.output_start > self.output.len() / 2 {
            self.output.drain(..self.output_start);
            self.output_start = 0;
        }
        Ok(self.output_bytes() == 0)
    }

    fn make_room(&mut self, bytes_max: usize) {
        if self.input_start > 0 {
            self.input.copy_within(self.input_start..self.input_end, 0);
            (self.input_start, self.input_end) = (0, self.input_end - self.input_start);
        }
        if self.input_end == self.input.len() {
            let bytes = (self.input.len() * 2).clamp(INPUT_BYTES_MIN, bytes_max.max(INPUT_BYTES_MIN));
            self.input.resize(bytes, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_carries_its_connection_there_and_back() {
        let id = ConnectionId { index: 513, generation: 65_535 };
        assert_eq!(ConnectionId::of_tag(id.tag(u32::MAX)), (id, u32::MAX));
    }
}
