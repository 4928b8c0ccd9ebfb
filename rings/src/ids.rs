//! The names of things: newtypes for everything two of which could be swapped.

use std::fmt;

/// Declares a number with a meaning of its own.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A cluster: nodes of different clusters refuse each other at the handshake.
    ClusterId(u64), "c"
);
id!(
    /// One process with its cores. Zero names nobody.
    NodeId(u16), "n"
);
id!(
    /// One Paxos replication group.
    RingId(u32), "r"
);
id!(
    /// The index of a core in its node, counted from 0.
    CoreId(u16), "core"
);
id!(
    /// The generation of a ring's member set.
    ConfigurationId(u32), "cfg"
);
id!(
    /// The life of a node's disk: a replaced disk is a new incarnation, never the old one.
    Incarnation(u32), "i"
);
id!(
    /// A position of a ring's replicated log.
    Slot(u64), "s"
);
id!(
    /// A position of a core's journal: frames are numbered from 1, and 0 is before the first.
    Lsn(u64), "lsn"
);

impl Slot {
    /// The slot after this one.
    #[must_use]
    pub fn next(self) -> Slot {
        Slot(self.0 + 1)
    }

    /// This slot and those after it, `count` in all, as a half-open range of numbers.
    pub fn offset_from(self, base: Slot) -> Option<usize> {
        self.0.checked_sub(base.0).map(|offset| offset as usize)
    }
}

impl Lsn {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}
