//! Verifies a snapshot from front to back, whichever pieces it comes in.

use super::block::{BLOCK_HEADER_BYTES, Part, SnapshotExtent, SnapshotRecords, verify_body};
use super::error::SnapshotError;
use super::header::{Expected, SNAPSHOT_HEADER_BYTES, SnapshotHeader};
use super::vault::SnapshotName;

/// Takes the bytes of a snapshot in pieces and gives out what is verified: the header, blocks, the end.
///
/// It holds what was pushed and not yet given out: a piece, and less than one block. Nothing is allocated on
/// the word of a length.
pub struct SnapshotDecoder {
    expected: Expected,
    name: Option<SnapshotName>,
    bytes: Vec<u8>,
    /// Up to here `bytes` were given out.
    used: usize,
    /// The part that was given out last.
    part: (usize, usize),
    header: Option<SnapshotHeader>,
    extent: SnapshotExtent,
    is_ended: bool,
}

/// What comes next of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotPart {
    /// More bytes are needed.
    More,
    /// The header was verified: see [`SnapshotDecoder::header`].
    Header,
    /// A block was verified: see [`SnapshotDecoder::records`].
    Block,
    /// The trailer was verified: this was all.
    End,
}

impl SnapshotDecoder {
    /// A decoder before the first byte of a snapshot: of that `name`, if one is given.
    pub fn new(expected: Expected, name: Option<SnapshotName>) -> SnapshotDecoder {
        SnapshotDecoder {
            expected,
            name,
            bytes: Vec::new(),
            used: 0,
            part: (0, 0),
            header: None,
            extent: SnapshotExtent { blocks: 0, records: 0, bytes: 0, digest: 0 },
            is_ended: false,
        }
    }

    /// Takes the bytes that follow.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.part = (0, 0);
        self.bytes.extend_from_slice(bytes);
    }

    /// Goes on by one part, if all of it is there.
    ///
    /// # Errors
    /// It is damaged, or somebody else's. [`verified`](Self::verified) says up to where it is sound.
    pub fn advance(&mut self) -> Result<SnapshotPart, SnapshotError> {
        if self.header.is_none() {
            return self.read_header();
        }
        if self.is_ended {
            let ended = self.used == self.bytes.len();
            return if ended { Ok(SnapshotPart::End) } else { Err(self.damaged("bytes follow the end")) };
        }
        let rest = &self.bytes[self.used..];
        if rest.len() < BLOCK_HEADER_BYTES {
            return Ok(SnapshotPart::More);
        }
        match Part::decode(rest, &self.extent).map_err(|why| self.damaged(why))? {
            Part::Block { bytes, .. } if rest.len() < bytes => Ok(SnapshotPart::More),
            Part::Block { bytes, records, body_checksum, checksum } => {
                let body = &rest[BLOCK_HEADER_BYTES..bytes];
                verify_body(body, records, body_checksum).map_err(|why| self.damaged(why))?;
                self.take(bytes);
                self.extent.count(bytes, records, checksum);
                Ok(SnapshotPart::Block)
            }
            Part::Trailer => {
                self.take(BLOCK_HEADER_BYTES);
                self.extent.bytes += BLOCK_HEADER_BYTES as u64;
                self.is_ended = true;
                self.advance()
            }
        }
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// The end was not reached.
    pub fn finish(&self) -> Result<SnapshotExtent, SnapshotError> {
        let cut = SnapshotError::CutOff { offset: self.extent.bytes };
        if self.is_ended { Ok(self.extent) } else { Err(cut) }
    }

    /// The header, once it was verified.
    pub fn header(&self) -> Option<&SnapshotHeader> {
        self.header.as_ref()
    }

    /// The records of the block that came last.
    pub fn records(&self) -> SnapshotRecords<'_> {
        SnapshotRecords(self.part().get(BLOCK_HEADER_BYTES..).unwrap_or_default())
    }

    /// The part that came last, as it lies in the file.
    pub(crate) fn part(&self) -> &[u8] {
        &self.bytes[self.part.0..self.part.1]
    }

    /// Whether the trailer was verified.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// How far it was verified.
    pub fn verified(&self) -> &SnapshotExtent {
        &self.extent
    }

    /// Bytes that were pushed: verified ones, and those that wait for the rest of their block.
    pub(crate) fn pushed_bytes(&self) -> u64 {
        self.extent.bytes + (self.bytes.len() - self.used) as u64
    }

    /// Forgets the bytes that wait for the rest of their block.
    pub(crate) fn drop_unverified(&mut self) {
        self.bytes.truncate(self.used);
    }

    fn read_header(&mut self) -> Result<SnapshotPart, SnapshotError> {
        if self.bytes.len() < SNAPSHOT_HEADER_BYTES {
            return Ok(SnapshotPart::More);
        }
        let header = SnapshotHeader::decode(&self.bytes, &self.expected)?;
        if self.name.is_some_and(|name| name != header.name()) {
            return Err(SnapshotError::Foreign { why: "it is of another ring or slot than it should be" });
        }
        self.extent = SnapshotExtent::begin(header.seed());
        self.take(SNAPSHOT_HEADER_BYTES);
        self.header = Some(header);
        Ok(SnapshotPart::Header)
    }

    /// Gives out the next part.
    fn take(&mut self, bytes: usize) {
        self.part = (self.used, self.used + bytes);
        self.used += bytes;
    }

    fn damaged(&self, why: &'static str) -> SnapshotError {
        SnapshotError::Damaged { offset: self.extent.bytes, why }
    }
}
