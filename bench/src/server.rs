//! The replica's side of the client protocol: every request becomes a proposal of its own.

use annulus::{Close, Completion, ConnectionId, Local, Protocol, Rejected, RingId};

use crate::wire::{self, HELLO_BYTES, Hello, REQUEST_HEADER_BYTES, Reply};

/// Serves benchmark clients on one core.
pub(crate) struct Server;

/// What is known of a connection.
#[derive(Default)]
pub(crate) struct Link {
    ring: Option<RingId>,
    proposed: u64,
    acknowledged: u64,
    /// The client was told that this replica does not lead; nothing else is said to it.
    ended: bool,
}

impl Protocol for Server {
    type Connection = Link;

    fn receive(
        &mut self,
        link: &mut Link,
        id: ConnectionId,
        input: &[u8],
        output: &mut Vec<u8>,
        local: &mut Local<'_>,
    ) -> Result<usize, Close> {
        let mut consumed = 0;
        let ring = match link.ring {
            Some(ring) => ring,
            None => match Hello::read(input).map_err(|_| Close)? {
                Some(hello) => {
                    consumed = HELLO_BYTES;
                    *link.ring.insert(hello.ring)
                }
                None => return Ok(0),
            },
        };
        while let Some(command) = wire::request(&input[consumed..]) {
            if link.ended {
                return Ok(input.len());
            }
            match local.propose(ring, id.tag(link.proposed as u32), command) {
                Ok(()) => {
                    link.proposed += 1;
                    consumed += REQUEST_HEADER_BYTES + command.len();
                }
                Err(Rejected::Full { .. }) => break,
                Err(why) => link.end(why, output),
            }
        }
        Ok(consumed)
    }

    fn completed(&mut self, link: &mut Link, tag: u32, completion: Completion<'_>, output: &mut Vec<u8>) {
        match completion {
            // A ring commits in the order of proposing, so the n-th commit is that of the n-th command.
            Completion::Committed { .. } if !link.ended => {
                debug_assert_eq!(tag, link.acknowledged as u32, "commits come in order");
                link.acknowledged += 1;
                Reply::acknowledge(output, link.acknowledged);
            }
            Completion::Committed { .. } => (),
            Completion::Rejected(why) => link.end(why, output),
            Completion::Unknown => link.end(Rejected::ShuttingDown, output),
        }
    }
}

impl Link {
    /// Tells the client, once, that it must go elsewhere.
    fn end(&mut self, why: Rejected, output: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        match why {
            Rejected::NotLeader(leader) => Reply::NotLeader { leader }.write(output),
            _ => Reply::Unknown.write(output),
        }
    }
}
