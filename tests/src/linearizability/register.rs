//! A register: one number, what is done to it, and what is answered.

use std::fmt;

/// What is done to a register. One that was never written holds 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Tells the value.
    Read,
    /// Sets the value.
    Write(u64),
    /// Sets the value to `new` if it is `expected`.
    CompareAndSet {
        /// What must be there.
        expected: u64,
        /// What is there then.
        new: u64,
    },
    /// Makes of the value another one, which tells everything that was appended since the last write, and in
    /// which order.
    Append(u64),
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To a write.
    Done,
    /// To a read, or to an append: the value then.
    Value(u64),
    /// To a comparison: whether the value was as expected, and is set.
    Swapped(bool),
}

impl Operation {
    /// The value after the operation, and the answer.
    pub fn apply(self, value: u64) -> (u64, Answer) {
        match self {
            Operation::Read => (value, Answer::Value(value)),
            Operation::Write(new) => (new, Answer::Done),
            Operation::CompareAndSet { expected, new } if value == expected => (new, Answer::Swapped(true)),
            Operation::CompareAndSet { .. } => (value, Answer::Swapped(false)),
            Operation::Append(what) => {
                let value = (value.rotate_left(17) ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (value, Answer::Value(value))
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Read => write!(f, "read"),
            Operation::Write(value) => write!(f, "write {value}"),
            Operation::CompareAndSet { expected, new } => write!(f, "cas {expected} {new}"),
            Operation::Append(what) => write!(f, "append {what}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Done => write!(f, "done"),
            Answer::Value(value) => write!(f, "{value}"),
            Answer::Swapped(true) => write!(f, "swapped"),
            Answer::Swapped(false) => write!(f, "not as expected"),
        }
    }
}
