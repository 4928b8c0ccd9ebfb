//! A command as clients write it and the state machine reads it: text that a person can read in a story.
//!
//! ```text
//! 0000042.......           a command that only has a number, and padding
//! 0000043 write 3 17;...   one that sets register 3
//! ```

use std::io::Write as _;

use crate::linearizability::{Answer, Operation};

/// Digits of a command's number.
const NUMBER_DIGITS: usize = 7;
/// Bytes of a command without its padding, at the most.
const TOLD_BYTES_MAX: usize = 80;

/// What a command asks of a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) key: u64,
    pub(super) operation: Operation,
}

/// Writes the command of a number.
pub(super) fn write_command(buffer: &mut Vec<u8>, number: u64, request: Option<Request>, padding: usize) {
    buffer.clear();
    write!(buffer, "{number:0NUMBER_DIGITS$}").expect("memory takes everything");
    if let Some(Request { key, operation }) = request {
        write!(buffer, " {key} {operation};").expect("memory takes everything");
    }
    buffer.resize(buffer.len() + padding, b'.');
}

/// The number of a command, and what it asks of a register.
pub(super) fn read_command(command: &[u8]) -> (u64, Option<Request>) {
    let told = &command[..command.len().min(TOLD_BYTES_MAX)];
    let text = std::str::from_utf8(told).expect("commands are text");
    let (digits, rest) = text.split_at(NUMBER_DIGITS);
    let number = digits.parse().expect("every command starts with its number");
    let request = rest.strip_prefix(' ').and_then(|rest| rest.split(';').next());
    (number, request.map(|words| read_request(words).expect("clients write no other requests")))
}

fn read_request(words: &str) -> Option<Request> {
    let words: Vec<&str> = words.split(' ').collect();
    let number = |index: usize| words.get(index)?.parse().ok();
    let operation = match *words.get(1)? {
        "read" => Operation::Read,
        "write" => Operation::Write(number(2)?),
        "cas" => Operation::CompareAndSet { expected: number(2)?, new: number(3)? },
        "append" => Operation::Append(number(2)?),
        _ => return None,
    };
    Some(Request { key: number(0)?, operation })
}

/// Bytes of the state in front of every reply.
const STATE_BYTES: usize = 8;

/// Writes a reply: the state after the command, and what the register answered.
pub(super) fn write_reply(buffer: &mut Vec<u8>, state: u64, answer: Option<Answer>) {
    buffer.extend_from_slice(&state.to_le_bytes());
    let (tag, value) = match answer {
        None => return,
        Some(Answer::Done) => (0, 0),
        Some(Answer::Value(value)) => (1, value),
        Some(Answer::Swapped(swapped)) => (2, u64::from(swapped)),
    };
    buffer.push(tag);
    buffer.extend_from_slice(&value.to_le_bytes());
}

/// Reads a reply; none if it is not one.
pub(super) fn read_reply(reply: &[u8]) -> Option<(u64, Option<Answer>)> {
    let (state, rest) = reply.split_first_chunk::<STATE_BYTES>()?;
    let state = u64::from_le_bytes(*state);
    let Some((tag, value)) = rest.split_first() else { return Some((state, None)) };
    let value = u64::from_le_bytes(value.try_into().ok()?);
    let answer = match tag {
        0 => Answer::Done,
        1 => Answer::Value(value),
        2 => Answer::Swapped(value == 1),
        _ => return None,
    };
    Some((state, Some(answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let cas = Operation::CompareAndSet { expected: 0, new: u64::MAX };
        let operations = [Operation::Read, Operation::Write(17), cas, Operation::Append(4)];
        let requests = operations.map(|operation| Some(Request { key: 3, operation }));
        for request in requests.into_iter().chain([None]) {
            let mut command = Vec::new();
            write_command(&mut command, 42, request, 5);
            assert_eq!(read_command(&command), (42, request));
        }
        for answer in [None, Some(Answer::Done), Some(Answer::Value(9)), Some(Answer::Swapped(true))] {
            let mut reply = Vec::new();
            write_reply(&mut reply, 7, answer);
            assert_eq!(read_reply(&reply), Some((7, answer)));
        }
        assert_eq!(read_reply(b"short"), None);
    }
}
