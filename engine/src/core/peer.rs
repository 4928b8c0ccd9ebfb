//! A peer as this core knows it: which life of its disk, how far its journal has reached, and whether it
//! may be listened to on the present connection.

use annulus_rings::{Incarnation, Lsn, NodeId, Time, mutant, requires};

use super::announcement::Announcement;

/// See the module.
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    /// What the journal says of it, or will say soon.
    record: Option<Record>,
    /// The highest position that it said its journal has reached, in the life of the record.
    watermark: Lsn,
    /// The life of the disk at the other end of the present connection, or of the last one.
    incarnation: Option<Incarnation>,
    pub(crate) is_connected: bool,
    standing: Standing,
    /// It told that its journal names the life of this node's disk.
    knows_us: bool,
    /// It told so on this connection, after it had heard this node on it.
    told: bool,
    pub(crate) memory: Memory,
    /// The position that it was told last.
    pub(crate) announced: Lsn,
    /// When it is told again, whatever happens.
    pub(crate) resend: Time,
}

/// What the journal says of a peer.
struct Record {
    incarnation: Incarnation,
    watermark: Lsn,
    /// Where the first record of this life is in the journal.
    at: Lsn,
}

/// Whether the frames of a peer's present connection are handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Not yet: it has not announced itself on this connection.
    Unheard,
    /// Not yet: the record that names its disk is not durable here.
    Recording,
    /// Yes.
    Welcome,
    /// Never: the disk is not the one that this node knows.
    OtherLife { known: Incarnation, found: Incarnation },
    /// Never: the journal ends before a position that it had reached.
    OldCopy { known: Lsn, found: Lsn },
}

/// What a peer remembers of this node's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Memory {
    /// It has not said so to this process.
    Unheard,
    /// Nothing that the disk did not hold when this process began.
    Consistent,
}

impl Peer {
    pub(crate) fn new(node: NodeId) -> Peer {
        Peer {
            node,
            record: None,
            watermark: Lsn(0),
            incarnation: None,
            is_connected: false,
            standing: Standing::Unheard,
            knows_us: false,
            told: false,
            memory: Memory::Unheard,
            announced: Lsn(0),
            resend: Time::NEVER,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    pub(crate) fn is_welcome(&self) -> bool {
        self.standing == Standing::Welcome
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.standing, Standing::OtherLife { .. } | Standing::OldCopy { .. })
    }

    /// Whether this peer counts for the admission of this node.
    pub(crate) fn vouches(&self) -> bool {
        self.knows_us && !self.is_refused()
    }

    /// It has told on this connection that it knows the disk of this node.
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    /// Nothing is left to be said to it but how far the journal is.
    pub(crate) fn is_settled(&self) -> bool {
        self.told && self.is_welcome()
    }

    /// The journal named this life, from `at` on.
    pub(crate) fn recorded(&mut self, incarnation: Incarnation, watermark: Lsn, at: Lsn) {
        match &mut self.record {
            Some(record) => record.watermark = watermark,
            None => self.record = Some(Record { incarnation, watermark, at }),
        }
        self.watermark = self.watermark.max(watermark);
    }

    /// The life that the journal names, as far as it is durable.
    pub(crate) fn known(&self, durable: Lsn) -> Option<Incarnation> {
        let record = self.record.as_ref()?;
        (record.at <= durable || mutant!(ACQUAINTANCE_BEFORE_DURABLE)).then_some(record.incarnation)
    }

    /// The life that the journal names, durably or soon.
    pub(crate) fn recorded_life(&self) -> Option<Incarnation> {
        self.record.as_ref().map(|record| record.incarnation)
    }

    /// The highest position that it said its journal has reached.
    pub(crate) fn watermark(&self) -> Lsn {
        self.watermark
    }

    /// The life to write down again, with a watermark that the journal does not know.
    pub(crate) fn unwritten(&self) -> Option<Incarnation> {
        self.record
            .as_ref()
            .filter(|record| record.watermark < self.watermark)
            .map(|record| record.incarnation)
    }

    /// A connection to it stands, and everything of the last one is over.
    pub(crate) fn connected(&mut self, incarnation: Option<Incarnation>, now: Time) {
        self.incarnation = incarnation;
        self.is_connected = incarnation.is_some();
        self.told = false;
        self.resend = now;
        let known = self.record.as_ref().map(|record| record.incarnation);
        self.standing = match (known, incarnation) {
            (Some(known), Some(found)) if known != found && !mutant!(OTHER_LIFE_WELCOME) => {
                Standing::OtherLife { known, found }
            }
            _ => Standing::Unheard,
        };
    }

    /// It announces itself; `own` is the life of this node's disk. True when the life of its disk is to be
    /// written down, at once.
    pub(crate) fn heard(&mut self, heard: &Announcement, own: Incarnation, durable: Lsn) -> bool {
        // A disk that is refused remembers things that are not this node's concern.
        if heard.known == Some(own) && !self.is_refused() {
            self.knows_us = true;
            self.told = heard.heard;
        }
        let mut is_new = false;
        if self.standing == Standing::Unheard {
            if heard.durable < self.watermark && !mutant!(OLD_COPY_WELCOME) {
                self.standing = Standing::OldCopy { known: self.watermark, found: heard.durable };
                return false;
            }
            self.standing = Standing::Recording;
            if self.record.is_none() {
                is_new = true;
            } else if self.known(durable).is_some() {
                self.welcome(heard.durable, durable);
            }
        }
        if !self.is_refused() {
            self.watermark = self.watermark.max(heard.durable);
        }
        is_new
    }

    /// The journal is durable up to here; true when that makes the peer welcome.
    pub(crate) fn persisted(&mut self, durable: Lsn) -> bool {
        let welcomes = self.standing == Standing::Recording && self.known(durable).is_some();
        if welcomes {
            self.welcome(self.watermark, durable);
        }
        welcomes
    }

    /// From now on the rings hear it: this node would know the disk again, and it is not an old copy.
    fn welcome(&mut self, announced: Lsn, durable: Lsn) {
        requires!(R6, self.record.as_ref().is_some_and(|record| record.at <= durable));
        requires!(R6, self.record.as_ref().map(|record| record.incarnation) == self.incarnation);
        requires!(A10, announced >= self.watermark);
        self.standing = Standing::Welcome;
    }

    /// Whether an announcement is of the disk that the handshake named.
    pub(crate) fn is_of_connection(&self, incarnation: Incarnation) -> bool {
        self.incarnation == Some(incarnation)
    }
}
