//! What cores tell one another of their disks, and what each writes down of it: frames of no ring.
//!
//! All are bare headers, in the configuration of the core and with its incarnation in the ballot.
//!
//! | kind | slot | words |
//! |---|---|---|
//! | `Announce` | the sender's journal is durable up to here | the receiver's incarnation as the sender's journal has it, or 0; the position that the receiver said its journal had reached; whether the sender has heard the receiver on this connection; whether the receiver has told it on this connection that it knows its disk |
//! | `Acquainted` | | the peer, its incarnation, the position that it said its journal had reached |
//! | `Admitted` | | |

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, Frame, FrameHeader, FramePool, Ignored, Incarnation, Kind, Lsn,
    NodeId, RingId, RingOptions, Slot,
};

/// The ring that a core's own frames name: they are known by their kind.
pub(crate) const NO_RING: RingId = RingId(0);

/// Whose frames they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author {
    pub(crate) cluster: ClusterId,
    pub(crate) configuration: ConfigurationId,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
}

/// One core tells the same core of a peer about its own disk, and what it knows of the peer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Announcement {
    /// The life of the sender's disk.
    pub(crate) incarnation: Incarnation,
    /// How far the sender's journal is durable.
    pub(crate) durable: Lsn,
    /// The life of the receiver's disk that the sender has durably written down.
    pub(crate) known: Option<Incarnation>,
    /// How far the receiver's journal has reached, as it said itself in that life.
    pub(crate) watermark: Lsn,
    /// The sender has heard the receiver on this connection.
    pub(crate) heard: bool,
    /// The receiver has told the sender on this connection that it knows its disk.
    pub(crate) told: bool,
}

/// What a core writes down for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    /// The peer runs on this life of its disk, and its journal has reached this position.
    Acquainted { peer: NodeId, incarnation: Incarnation, watermark: Lsn },
    /// Enough peers know this disk.
    Admitted,
}

impl Author {
    pub(crate) fn of(options: &RingOptions) -> Author {
        Author {
            cluster: options.cluster,
            configuration: options.configuration.id(),
            node: options.node,
            incarnation: options.incarnation,
        }
    }

    pub(crate) fn announce(&self, announcement: &Announcement, pool: &mut FramePool) -> Frame {
        let Announcement { incarnation, durable, known, watermark, heard, told } = *announcement;
        debug_assert_eq!(incarnation, self.incarnation, "a core announces its own disk");
        let known = known.map_or(0, |known| u64::from(known.0));
        self.frame(
            Kind::Announce,
            Slot(durable.0),
            [known, watermark.0, u64::from(heard), u64::from(told)],
            pool,
        )
    }

    pub(crate) fn record(&self, record: &Record, pool: &mut FramePool) -> Frame {
        let (kind, words) = match *record {
            Record::Acquainted { peer, incarnation, watermark } => {
                (Kind::Acquainted, [u64::from(peer.0), u64::from(incarnation.0), watermark.0, 0])
            }
            Record::Admitted => (Kind::Admitted, [0; 4]),
        };
        self.frame(kind, Slot(0), words, pool)
    }

    fn frame(&self, kind: Kind, slot: Slot, words: [u64; 4], pool: &mut FramePool) -> Frame {
        let header = FrameHeader {
            kind,
            cluster: self.cluster,
            ring: NO_RING,
            configuration: self.configuration,
            sender: self.node,
            ballot: Ballot { round: 0, node: self.node, incarnation: self.incarnation },
            slot,
            chosen: Slot(0),
            commands: 0,
            words,
        };
        let mut buffer = pool.take(HEADER_BYTES);
        buffer.resize(HEADER_BYTES, 0);
        Frame::seal(buffer, &header)
    }

    /// Whether the frame was written in this cluster, among the same members.
    fn shares(&self, header: &FrameHeader) -> Result<(), Ignored> {
        if header.cluster != self.cluster {
            return Err(Ignored::WrongRing);
        }
        if header.configuration != self.configuration {
            return Err(Ignored::NotMember);
        }
        Ok(())
    }

    /// Reads what a peer announces.
    pub(crate) fn heard(&self, header: &FrameHeader) -> Result<Announcement, Ignored> {
        self.shares(header)?;
        let [known, watermark, heard, told] = header.words;
        let known = u32::try_from(known).map_err(|_| Ignored::Malformed)?;
        if header.kind != Kind::Announce || heard > 1 || told > 1 {
            return Err(Ignored::Malformed);
        }
        Ok(Announcement {
            incarnation: header.ballot.incarnation,
            durable: Lsn(header.slot.0),
            known: (known != 0).then_some(Incarnation(known)),
            watermark: Lsn(watermark),
            heard: heard == 1,
            told: told == 1,
        })
    }

    /// Reads a record of the own journal.
    pub(crate) fn replay(&self, header: &FrameHeader) -> Result<Record, Ignored> {
        self.shares(header)?;
        if header.sender != self.node || header.ballot.incarnation != self.incarnation {
            return Err(Ignored::WrongRing);
        }
        let [peer, incarnation, watermark, _] = header.words;
        match header.kind {
            Kind::Acquainted => Ok(Record::Acquainted {
                peer: NodeId(u16::try_from(peer).map_err(|_| Ignored::Malformed)?),
                incarnation: Incarnation(u32::try_from(incarnation).map_err(|_| Ignored::Malformed)?),
                watermark: Lsn(watermark),
            }),
            Kind::Admitted => Ok(Record::Admitted),
            _ => Err(Ignored::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: Author = Author {
        cluster: ClusterId(1),
        configuration: ConfigurationId(2),
        node: NodeId(3),
        incarnation: Incarnation(4),
    };

    #[test]
    fn announcements_and_records_read_back_as_they_were_written() {
        let mut pool = FramePool::new(4096);
        let announcement = Announcement {
            incarnation: Incarnation(4),
            durable: Lsn(5),
            known: Some(Incarnation(6)),
            watermark: Lsn(7),
            heard: true,
            told: false,
        };
        for announcement in [announcement, Announcement { known: None, heard: false, ..announcement }] {
            let frame = AUTHOR.announce(&announcement, &mut pool);
            assert_eq!(AUTHOR.heard(&frame.header()), Ok(announcement));
        }
        let acquainted =
            Record::Acquainted { peer: NodeId(8), incarnation: Incarnation(9), watermark: Lsn(10) };
        for record in [acquainted, Record::Admitted] {
            let frame = AUTHOR.record(&record, &mut pool);
            assert!(frame.kind().is_of_core());
            assert_eq!(AUTHOR.replay(&frame.header()), Ok(record));
        }
    }

    #[test]
    fn records_of_another_disk_or_other_members_are_refused() {
        let frame = AUTHOR.record(&Record::Admitted, &mut FramePool::new(4096));
        let replay = |author: Author| author.replay(&frame.header());
        assert_eq!(replay(Author { incarnation: Incarnation(5), ..AUTHOR }), Err(Ignored::WrongRing));
        assert_eq!(replay(Author { configuration: ConfigurationId(5), ..AUTHOR }), Err(Ignored::NotMember));
        assert_eq!(replay(Author { node: NodeId(5), ..AUTHOR }), Err(Ignored::WrongRing));
    }
}
