//! The server: requests from the clients' sockets into the log, replies back in order.
//!
//! Every command on data goes through the log, reads too, so that a reply reflects every command that was
//! acknowledged before it was asked for. Only the leader can do that; other replicas send clients to it
//! with `-MOVED`. A client that said `READONLY` is answered by the replica that it is connected to, from
//! what that replica has executed so far: such a reply may be stale.

use annulus::{Close, Completion, ConnectionId, Local, NodeId, Protocol, Rejected, RingId};

use crate::command::Command;
use crate::info::{self, Persistence};
use crate::nodes::Nodes;
use crate::pipeline::Pipeline;
use crate::request::{Refusal, Request, Session};
use crate::resp::{Parsed, Parser};
use crate::session::{Client, Scene};
use crate::{hash_slot, reply};

/// The one ring that holds the data.
pub(crate) const RING: RingId = RingId(1);

/// Serves Redis' protocol on a core.
pub(crate) struct Server {
    nodes: Nodes,
    persistence: Persistence,
    /// The command being proposed; kept for its memory.
    encoded: Vec<u8>,
}

/// What is kept of a connection.
#[derive(Default)]
pub(crate) struct Connection {
    parser: Parser,
    client: Client,
    pipeline: Pipeline,
}

/// Whether to go on with the next request.
enum Progress {
    Next,
    /// The request was not taken: it must be seen again, later.
    Wait,
    /// The request was the last one.
    Close,
}

impl Server {
    /// A server on the node that `nodes` names as this one.
    pub(crate) fn new(nodes: Nodes, persistence: Persistence) -> Server {
        Server { nodes, persistence, encoded: Vec::new() }
    }

    fn request(&mut self, turn: &mut Turn<'_, '_>, connection: &mut Connection, input: &[u8]) -> Progress {
        let Connection { parser, client, pipeline, .. } = connection;
        let arguments = parser.arguments(input);
        if arguments.is_empty() {
            return Progress::Next;
        }
        match Request::parse(arguments) {
            Err(refusal) => pipeline.answer(turn.output, |out| refusal.write(out)),
            Ok(Request::Data(command)) => return self.propose(turn, client, pipeline, &command),
            Ok(Request::Session(Session::Quit)) => {
                pipeline.answer(turn.output, |out| reply::status(out, "OK"));
                return Progress::Close;
            }
            Ok(Request::Session(Session::Info(sections))) => {
                let text = info::text(sections, &self.nodes, &self.persistence, turn.local);
                pipeline.answer(turn.output, |out| reply::bulk(out, text.as_bytes()));
            }
            Ok(Request::Session(session)) => {
                let scene = Scene {
                    nodes: &self.nodes,
                    leader: turn.leader(),
                    is_durable: self.persistence.is_durable,
                    connection: connection_number(turn.id),
                };
                pipeline.answer(turn.output, |out| {
                    client
                        .carry_out(&session, &scene, out)
                        .unwrap_or_else(|refusal: Refusal<'_>| refusal.write(out));
                });
            }
        }
        Progress::Next
    }

    fn propose(
        &mut self,
        turn: &mut Turn<'_, '_>,
        client: &Client,
        pipeline: &mut Pipeline,
        command: &Command<'_>,
    ) -> Progress {
        self.encoded.clear();
        command.encode(&mut self.encoded);
        let hash_slot = command.first_key().map_or(0, hash_slot::of);
        match turn.local.propose(RING, turn.id.tag(pipeline.tag()), &self.encoded) {
            Ok(()) => pipeline.proposed(hash_slot),
            Err(Rejected::Full { .. }) => return Progress::Wait,
            Err(Rejected::NotLeader(_)) if client.is_read_only && command.is_read() => {
                let Turn { local, output, .. } = turn;
                pipeline.answer(output, |out| {
                    local
                        .query(RING, &self.encoded, out)
                        .unwrap_or_else(|why| self.write_rejected(why, hash_slot, out));
                });
            }
            Err(why) => pipeline.answer(turn.output, |out| self.write_rejected(why, hash_slot, out)),
        }
        Progress::Next
    }

    /// Tells a client why its command was not taken; it certainly has no effect.
    fn write_rejected(&self, why: Rejected, hash_slot: u16, out: &mut Vec<u8>) {
        match why {
            Rejected::NotLeader(leader) => self.nodes.redirect(hash_slot, leader, out),
            Rejected::TooLarge { bytes, bytes_max } => write_too_large(bytes as u64, bytes_max, out),
            Rejected::Full { .. } => reply::error(out, b"TRYAGAIN as many commands wait as may wait"),
            Rejected::NoSpace => {
                reply::error(out, b"MISCONF no space is left for this node's journal: make room on its disk");
            }
            Rejected::ShuttingDown => reply::error(out, b"CLUSTERDOWN this node is shutting down"),
            Rejected::NotReady => {
                reply::error(out, b"LOADING this node's disk is fresh, and not enough peers know it yet");
            }
            Rejected::NoRing => reply::error(out, format!("ERR {why}").as_bytes()),
        }
    }
}

impl Protocol for Server {
    type Connection = Connection;

    fn receive(
        &mut self,
        connection: &mut Connection,
        id: ConnectionId,
        input: &[u8],
        output: &mut Vec<u8>,
        local: &mut Local<'_>,
    ) -> Result<usize, Close> {
        let mut turn = Turn { id, output, local };
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let progress = match connection.parser.parse(rest) {
                Ok((bytes, Parsed::Partial)) => return Ok(consumed + bytes),
                Ok((bytes, Parsed::Request)) => (bytes, self.request(&mut turn, connection, rest)),
                Ok((bytes, Parsed::TooLarge(size))) => {
                    let write = |out: &mut Vec<u8>| write_too_large(size, crate::COMMAND_BYTES_MAX, out);
                    connection.pipeline.answer(turn.output, write);
                    (bytes, Progress::Next)
                }
                Err(error) => {
                    let message = format!("ERR {error}");
                    connection.pipeline.answer(turn.output, |out| reply::error(out, message.as_bytes()));
                    (0, Progress::Close)
                }
            };
            match progress {
                (bytes, Progress::Next) => consumed += bytes,
                (_, Progress::Wait) => {
                    connection.parser.rewind();
                    return Ok(consumed);
                }
                (_, Progress::Close) => return Err(Close),
            }
            if connection.pipeline.is_overfull() {
                return Err(Close);
            }
        }
    }

    fn is_idle(&self, connection: &Connection) -> bool {
        connection.pipeline.is_empty()
    }

    fn completed(
        &mut self,
        connection: &mut Connection,
        tag: u32,
        completion: Completion<'_>,
        output: &mut Vec<u8>,
    ) {
        connection.pipeline.completed(tag, output, |hash_slot, out| match completion {
            Completion::Committed { reply, .. } => out.extend_from_slice(reply),
            Completion::Rejected(why) => self.write_rejected(why, hash_slot, out),
            Completion::Unknown => reply::error(out, b"UNKNOWN the command may or may not have taken effect"),
        });
    }
}

/// One call of the server by its core, for one connection.
struct Turn<'a, 'b> {
    id: ConnectionId,
    output: &'a mut Vec<u8>,
    local: &'a mut Local<'b>,
}

impl Turn<'_, '_> {
    fn leader(&mut self) -> Option<NodeId> {
        self.local.status(RING)?.leader
    }
}

fn write_too_large(bytes: u64, bytes_max: usize, out: &mut Vec<u8>) {
    let message = format!("ERR the command has {bytes} bytes, at most {bytes_max} can be replicated at once");
    reply::error(out, message.as_bytes());
}

/// A connection's number, as `CLIENT ID` tells it: unique among those that are open.
fn connection_number(id: ConnectionId) -> u32 {
    (id.tag(0) >> u32::BITS) as u32
}
