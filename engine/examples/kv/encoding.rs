//! Commands as they stand in the replicated log.
//!
//! ```text
//!  0  version  u8   1
//!  1  opcode   u8
//!  2  body, by opcode:
//!     GET STRLEN INCR DECR KEYS      the key or pattern, to the end
//!     APPEND                         item: key; then what to append, to the end
//!     SET                            options u8; when bit 4 is set, expiry i64 in ms; item: key; then the value, to the end
//!     DEL EXISTS MGET                items: keys
//!     MSET                           items: key, value, key, value, …
//!     DBSIZE FLUSHALL KEYSPACE       nothing
//!
//!  item     its bytes as a LEB128 number in its shortest form, then the bytes
//!  options  bits 0–1  condition: 0 always, 1 only if absent, 2 only if present
//!           bit  2    answer with the old value
//!           bits 3–4  expiry: 0 never, 1 as it was, 2 after that many ms, 3 at that many ms since 1970
//!           bits 5–7  zero
//! ```
//! Numbers are little-endian.

use crate::command::{Command, Condition, Expiry, Items, Set};

/// Bytes that are no command of this version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Undecodable;

impl<'a> Command<'a> {
    /// Appends the encoding to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, self.opcode()]);
        match self {
            Command::Get { key }
            | Command::Increment { key }
            | Command::Decrement { key }
            | Command::Length { key }
            | Command::Keys { pattern: key } => out.extend_from_slice(key),
            Command::Append { key, bytes } => {
                push_item(out, key);
                out.extend_from_slice(bytes);
            }
            Command::Set(set) => set.encode(out),
            Command::Delete { keys: items }
            | Command::Exists { keys: items }
            | Command::GetMany { keys: items }
            | Command::SetMany { pairs: items } => {
                for item in items.clone() {
                    push_item(out, item);
                }
            }
            Command::Size | Command::Clear | Command::Keyspace => {}
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; its whole structure is checked here.
    ///
    /// # Errors
    /// It is not exactly one command of this version.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Command<'a>, Undecodable> {
        let [VERSION, opcode, body @ ..] = bytes else { return Err(Undecodable) };
        Ok(match *opcode {
            opcode::GET => Command::Get { key: body },
            opcode::SET => Command::Set(Set::decode(body)?),
            opcode::DELETE => Command::Delete { keys: Items::decode(body, 1)? },
            opcode::EXISTS => Command::Exists { keys: Items::decode(body, 1)? },
            opcode::INCREMENT => Command::Increment { key: body },
            opcode::DECREMENT => Command::Decrement { key: body },
            opcode::APPEND => {
                let (key, bytes) = take_item(body).ok_or(Undecodable)?;
                Command::Append { key, bytes }
            }
            opcode::LENGTH => Command::Length { key: body },
            opcode::GET_MANY => Command::GetMany { keys: Items::decode(body, 1)? },
            opcode::SET_MANY => Command::SetMany { pairs: Items::decode(body, 2)? },
            opcode::KEYS => Command::Keys { pattern: body },
            opcode::SIZE if body.is_empty() => Command::Size,
            opcode::CLEAR if body.is_empty() => Command::Clear,
            opcode::KEYSPACE if body.is_empty() => Command::Keyspace,
            _ => return Err(Undecodable),
        })
    }

    fn opcode(&self) -> u8 {
        match self {
            Command::Get { .. } => opcode::GET,
            Command::Set(_) => opcode::SET,
            Command::Delete { .. } => opcode::DELETE,
            Command::Exists { .. } => opcode::EXISTS,
            Command::Increment { .. } => opcode::INCREMENT,
            Command::Decrement { .. } => opcode::DECREMENT,
            Command::Append { .. } => opcode::APPEND,
            Command::Length { .. } => opcode::LENGTH,
            Command::GetMany { .. } => opcode::GET_MANY,
            Command::SetMany { .. } => opcode::SET_MANY,
            Command::Keys { .. } => opcode::KEYS,
            Command::Size => opcode::SIZE,
            Command::Clear => opcode::CLEAR,
            Command::Keyspace => opcode::KEYSPACE,
        }
    }
}

/// The numbers of commands in the log. A number is never given to another command.
mod opcode {
    pub(super) const GET: u8 = 1;
    pub(super) const SET: u8 = 2;
    pub(super) const DELETE: u8 = 3;
    pub(super) const EXISTS: u8 = 4;
    pub(super) const INCREMENT: u8 = 5;
    pub(super) const DECREMENT: u8 = 6;
    pub(super) const APPEND: u8 = 7;
    pub(super) const LENGTH: u8 = 8;
    pub(super) const GET_MANY: u8 = 9;
    pub(super) const SET_MANY: u8 = 10;
    pub(super) const KEYS: u8 = 11;
    pub(super) const SIZE: u8 = 12;
    pub(super) const CLEAR: u8 = 13;
    pub(super) const KEYSPACE: u8 = 14;
}

impl<'a> Set<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        let condition = match self.condition {
            Condition::Always => 0,
            Condition::IfAbsent => 1,
            Condition::IfPresent => 2,
        };
        let (expiry, ms) = match self.expiry {
            Expiry::Never => (0, None),
            Expiry::Kept => (1, None),
            Expiry::After(ms) => (2, Some(ms)),
            Expiry::At(ms) => (3, Some(ms)),
        };
        out.push(condition | u8::from(self.returns_old) << 2 | expiry << 3);
        if let Some(ms) = ms {
            out.extend_from_slice(&ms.to_le_bytes());
        }
        push_item(out, self.key);
        out.extend_from_slice(self.value);
    }

    fn decode(body: &'a [u8]) -> Result<Set<'a>, Undecodable> {
        let (&options, rest) = body.split_first().ok_or(Undecodable)?;
        let condition = match options & 0b11 {
            0 => Condition::Always,
            1 => Condition::IfAbsent,
            2 => Condition::IfPresent,
            _ => return Err(Undecodable),
        };
        let (expiry, rest) = match options >> 3 {
            0 => (Expiry::Never, rest),
            1 => (Expiry::Kept, rest),
            kind @ (2 | 3) => {
                let (ms, rest) = rest.split_first_chunk().ok_or(Undecodable)?;
                let ms = i64::from_le_bytes(*ms);
                (if kind == 2 { Expiry::After(ms) } else { Expiry::At(ms) }, rest)
            }
            _ => return Err(Undecodable),
        };
        let (key, value) = take_item(rest).ok_or(Undecodable)?;
        Ok(Set { key, value, condition, expiry, returns_old: options & 0b100 != 0 })
    }
}

impl<'a> Items<'a> {
    /// Checks that `body` is whole items, at least one group of `group`.
    fn decode(body: &'a [u8], group: usize) -> Result<Items<'a>, Undecodable> {
        let (mut rest, mut count) = (body, 0);
        while !rest.is_empty() {
            rest = take_item(rest).ok_or(Undecodable)?.1;
            count += 1;
        }
        if count > 0 && count % group == 0 { Ok(Items::Encoded(body)) } else { Err(Undecodable) }
    }
}

/// Appends `item` behind its length.
pub(crate) fn push_item(out: &mut Vec<u8>, item: &[u8]) {
    let mut left = item.len();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out.extend_from_slice(item);
}

/// The item that `bytes` starts with, and what follows it.
pub(crate) fn take_item(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut len, mut rest) = (0, bytes);
    for shift in (0..ITEM_LENGTH_BYTES_MAX).map(|index| 7 * index) {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // A last byte of zero is a longer spelling of the same number.
            return if byte == 0 && shift > 0 { None } else { rest.split_at_checked(len) };
        }
    }
    None
}

/// The version of the encoding.
const VERSION: u8 = 1;
/// 28 bits of length: more than any batch holds.
const ITEM_LENGTH_BYTES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(command: &Command<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        command.encode(&mut out);
        out
    }

    #[test]
    fn the_encoding_is_what_the_layout_says() {
        assert_eq!(encoded(&Command::Get { key: b"key" }), b"\x01\x01key");
        assert_eq!(encoded(&Command::Set(Set::plain(b"k", b"value"))), b"\x01\x02\x00\x01kvalue");
        let expiring = Set {
            condition: Condition::IfAbsent,
            expiry: Expiry::After(258),
            returns_old: true,
            ..Set::plain(b"k", b"v")
        };
        assert_eq!(encoded(&Command::Set(expiring)), b"\x01\x02\x15\x02\x01\0\0\0\0\0\0\x01kv");
        let long = [7; 200];
        assert_eq!(encoded(&Command::Append { key: &long, bytes: b"" })[2..4], [0xc8, 0x01]);
        assert_eq!(encoded(&Command::Size), b"\x01\x0c");
    }

    #[test]
    fn what_is_not_exactly_a_command_is_refused() {
        let cases: [&[u8]; 11] = [
            b"",
            b"\x01",
            b"\x02\x01key",
            b"\x01\x00",
            b"\x01\x63",
            b"\x01\x0cx",
            b"\x01\x02\x03\x01kv",
            b"\x01\x02\x20\x01kv",
            b"\x01\x03",
            b"\x01\x0a\x01a",
            b"\x01\x03\x81\x00a",
        ];
        for bytes in cases {
            assert_eq!(Command::decode(bytes), Err(Undecodable), "{}", bytes.escape_ascii());
        }
    }
}
