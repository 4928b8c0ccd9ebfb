//! What a benchmark client and a replica say to each other.
//!
//! ```text
//! client → replica, once     magic u32 · version u32 · ring u32 · session u32
//! client → replica, then     { bytes u32, command }*
//! replica → client           { kind u32, detail u32, sequence u64 }*
//! ```
//! All numbers are little-endian. A session's commands are proposed and committed in order, so one
//! acknowledgement covers every sequence number up to the one that it names; acknowledgements that
//! wait for the same write to the socket become one.

use annulus::{NodeId, RingId};

/// "annb", the first bytes of a connection.
const MAGIC: u32 = u32::from_le_bytes(*b"annb");
/// Raised with every change of this file's layout.
const VERSION: u32 = 1;
/// Bytes of [`Hello`].
pub(crate) const HELLO_BYTES: usize = 16;
/// Bytes of [`Reply`].
pub(crate) const REPLY_BYTES: usize = 16;
/// What precedes each command.
pub(crate) const REQUEST_HEADER_BYTES: usize = 4;

const KIND_COMMITTED: u32 = 1;
const KIND_NOT_LEADER: u32 = 2;
const KIND_UNKNOWN: u32 = 3;

/// The first thing that a client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    /// The ring that it loads.
    pub(crate) ring: RingId,
    /// Its number, unique in the life of the cluster.
    pub(crate) session: u32,
}

/// What a replica says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// Every command up to this one is durable on a quorum and executed.
    Committed {
        /// The last of them.
        upto: u64,
    },
    /// This command and those after it never take effect here: another node leads.
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
    },
    /// The leader was deposed: commands after the last committed one may or may not take effect.
    Unknown,
}

/// The peer speaks something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer does not speak version {VERSION} of the benchmark's protocol")]
pub(crate) struct Foreign;

impl Hello {
    /// Appends it to `output`.
    pub(crate) fn write(self, output: &mut Vec<u8>) {
        for word in [MAGIC, VERSION, self.ring.0, self.session] {
            output.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads it from the front of `input`; `None` while it is not whole.
    ///
    /// # Errors
    /// [`Foreign`] when the magic or the version is another.
    pub(crate) fn read(input: &[u8]) -> Result<Option<Hello>, Foreign> {
        if input.len() < HELLO_BYTES {
            return Ok(None);
        }
        if word_at(input, 0) != MAGIC || word_at(input, 4) != VERSION {
            return Err(Foreign);
        }
        Ok(Some(Hello { ring: RingId(word_at(input, 8)), session: word_at(input, 12) }))
    }
}

/// The command of the request at the front of `input`; `None` while it is not whole.
#[inline]
pub(crate) fn request(input: &[u8]) -> Option<&[u8]> {
    let (bytes, rest) = input.split_first_chunk()?;
    rest.get(..u32::from_le_bytes(*bytes) as usize)
}

impl Reply {
    /// Appends it to `output`.
    pub(crate) fn write(self, output: &mut Vec<u8>) {
        let (kind, detail, sequence) = match self {
            Reply::Committed { upto } => (KIND_COMMITTED, 0, upto),
            Reply::NotLeader { leader } => (KIND_NOT_LEADER, leader.map_or(0, |node| u32::from(node.0)), 0),
            Reply::Unknown => (KIND_UNKNOWN, 0, 0),
        };
        output.extend_from_slice(&kind.to_le_bytes());
        output.extend_from_slice(&detail.to_le_bytes());
        output.extend_from_slice(&sequence.to_le_bytes());
    }

    /// Acknowledges everything up to `upto`: extends the acknowledgement at the end of `output`, if
    /// there is one that was not sent yet.
    #[inline]
    pub(crate) fn acknowledge(output: &mut Vec<u8>, upto: u64) {
        let open = output.len().checked_sub(REPLY_BYTES).filter(|&at| word_at(output, at) == KIND_COMMITTED);
        match open {
            Some(at) => output[at + 8..].copy_from_slice(&upto.to_le_bytes()),
            None => Reply::Committed { upto }.write(output),
        }
    }

    /// Reads one from the front of `input`; `None` while it is not whole.
    ///
    /// # Errors
    /// [`Foreign`] when its kind is none of ours.
    pub(crate) fn read(input: &[u8]) -> Result<Option<Reply>, Foreign> {
        if input.len() < REPLY_BYTES {
            return Ok(None);
        }
        let upto = u64::from(word_at(input, 8)) | u64::from(word_at(input, 12)) << 32;
        match word_at(input, 0) {
            KIND_COMMITTED => Ok(Some(Reply::Committed { upto })),
            KIND_NOT_LEADER => Ok(Some(Reply::NotLeader { leader: node(word_at(input, 4))? })),
            KIND_UNKNOWN => Ok(Some(Reply::Unknown)),
            _ => Err(Foreign),
        }
    }
}

/// Zero names nobody.
fn node(word: u32) -> Result<Option<NodeId>, Foreign> {
    let id = u16::try_from(word).map_err(|_| Foreign)?;
    Ok((id != 0).then_some(NodeId(id)))
}

/// The little-endian word at `at`. The caller checked that it is there.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_laid_out_as_drawn() {
        let hello = Hello { ring: RingId(7), session: 9 };
        let mut output = Vec::new();
        hello.write(&mut output);
        assert_eq!(output, b"annb\x01\0\0\0\x07\0\0\0\x09\0\0\0");
        assert_eq!(Hello::read(&output), Ok(Some(hello)));
        assert_eq!(Hello::read(&output[..15]), Ok(None));
    }

    #[test]
    fn another_protocol_is_refused() {
        assert_eq!(Hello::read(b"GET / HTTP/1.1\r\n"), Err(Foreign));
        assert_eq!(Reply::read(&[9; REPLY_BYTES]), Err(Foreign));
    }

    #[test]
    fn replies_come_back_as_written() {
        let replies = [
            Reply::Committed { upto: 1 << 40 },
            Reply::NotLeader { leader: Some(NodeId(3)) },
            Reply::NotLeader { leader: None },
            Reply::Unknown,
        ];
        for reply in replies {
            let mut output = Vec::new();
            reply.write(&mut output);
            assert_eq!(output.len(), REPLY_BYTES);
            assert_eq!(Reply::read(&output), Ok(Some(reply)));
        }
    }

    #[test]
    fn a_thousand_acknowledgements_become_one_reply() {
        let mut output = Vec::new();
        for upto in 1..=1000 {
            Reply::acknowledge(&mut output, upto);
        }
        assert_eq!(Reply::read(&output), Ok(Some(Reply::Committed { upto: 1000 })));
        assert_eq!(output.len(), REPLY_BYTES);
    }

    #[test]
    fn an_acknowledgement_never_swallows_another_kind() {
        let mut output = Vec::new();
        Reply::Unknown.write(&mut output);
        Reply::acknowledge(&mut output, 5);
        assert_eq!(Reply::read(&output), Ok(Some(Reply::Unknown)));
        assert_eq!(Reply::read(&output[REPLY_BYTES..]), Ok(Some(Reply::Committed { upto: 5 })));
    }

    #[test]
    fn a_request_is_read_when_it_is_whole() {
        let input = b"\x03\0\0\0abc\x01\0\0\0";
        assert_eq!(request(input), Some(&b"abc"[..]));
        assert_eq!(request(&input[..6]), None);
        assert_eq!(request(&input[7..]), None);
        assert_eq!(request(&[]), None);
    }
}
