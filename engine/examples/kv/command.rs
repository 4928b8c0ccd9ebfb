//! Commands on data.
//!
//! They borrow: from the request on the way into the log, from their encoding on the way out, so that
//! neither way allocates. `encoding.rs` has their form in the log.

use crate::arguments::Arguments;
use crate::encoding::take_item;

/// What a client wants done with the data. The pairs of `SetMany` are keys and values in turn; `Keyspace` is
/// what `INFO` says of the data, and no client asks for it by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command<'a> {
    Get { key: &'a [u8] },
    Set(Set<'a>),
    Delete { keys: Items<'a> },
    Exists { keys: Items<'a> },
    Increment { key: &'a [u8] },
    Decrement { key: &'a [u8] },
    Append { key: &'a [u8], bytes: &'a [u8] },
    Length { key: &'a [u8] },
    GetMany { keys: Items<'a> },
    SetMany { pairs: Items<'a> },
    Keys { pattern: &'a [u8] },
    Size,
    Clear,
    Keyspace,
}

/// `SET` with its options.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) condition: Condition,
    pub(crate) expiry: Expiry,
    /// Answer with the value that was there before.
    pub(crate) returns_old: bool,
}

/// When a `SET` takes effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// How long a value lives, in milliseconds of replicated time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expiry {
    Never,
    /// As long as the value that it replaces.
    Kept,
    /// From the time of the command's slot.
    After(i64),
    /// Since 1970.
    At(i64),
}

/// Keys or values, as many as there are: in a request, or in an encoded command.
#[derive(Clone)]
pub(crate) enum Items<'a> {
    Requested(Arguments<'a>),
    /// Whole, well-formed items.
    Encoded(&'a [u8]),
}

impl<'a> Command<'a> {
    /// The key that decides the hash slot of a redirection.
    pub(crate) fn first_key(&self) -> Option<&'a [u8]> {
        match self {
            Command::Get { key }
            | Command::Set(Set { key, .. })
            | Command::Increment { key }
            | Command::Decrement { key }
            | Command::Append { key, .. }
            | Command::Length { key } => Some(key),
            Command::Delete { keys: items }
            | Command::Exists { keys: items }
            | Command::GetMany { keys: items }
            | Command::SetMany { pairs: items } => items.clone().next(),
            Command::Keys { .. } | Command::Size | Command::Clear | Command::Keyspace => None,
        }
    }

    /// Whether it changes nothing.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Command::Get { .. }
            | Command::Exists { .. }
            | Command::Length { .. }
            | Command::GetMany { .. }
            | Command::Keys { .. }
            | Command::Size
            | Command::Keyspace => true,
            Command::Set(_)
            | Command::Delete { .. }
            | Command::Increment { .. }
            | Command::Decrement { .. }
            | Command::Append { .. }
            | Command::SetMany { .. }
            | Command::Clear => false,
        }
    }
}

impl<'a> Set<'a> {
    /// A `SET` without options.
    pub(crate) fn plain(key: &'a [u8], value: &'a [u8]) -> Set<'a> {
        Set { key, value, condition: Condition::Always, expiry: Expiry::Never, returns_old: false }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Items::Requested(arguments) => arguments.take_first(),
            Items::Encoded(rest) => {
                let (item, after) = take_item(rest)?;
                *rest = after;
                Some(item)
            }
        }
    }
}

impl PartialEq for Items<'_> {
    fn eq(&self, other: &Items<'_>) -> bool {
        self.clone().eq(other.clone())
    }
}

impl std::fmt::Debug for Items<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.clone().map(<[u8]>::escape_ascii)).finish()
    }
}
