//! A region: memory with a header, and a table that changes as a whole or not at all.

use std::io;
use std::ops::Range;

use annulus_rings::mutant;

use super::header::{self, HEADER_BYTES};
use super::medium::{Medium, WORD_BYTES};
use super::switch::Side;
use super::table::{TABLE_BYTES_MAX, Table};
use crate::block::BLOCK_ALIGN_BYTES;
use crate::identity::Identity;

const SWITCH_OFFSET: u64 = 4096;
const TABLES_OFFSET: u64 = 8192;
/// Where the first segment may start.
pub(crate) const EXTENTS_OFFSET: u64 = TABLES_OFFSET + 2 * TABLE_BYTES_MAX as u64;

const _: () = assert!(EXTENTS_OFFSET.is_multiple_of(BLOCK_ALIGN_BYTES as u64));
const _: () = assert!(HEADER_BYTES as u64 <= SWITCH_OFFSET && SWITCH_OFFSET + WORD_BYTES <= TABLES_OFFSET);

/// Why a region cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The memory, or its file, failed.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
    /// It is somebody else's, or no region at all.
    #[error("this is not the region of this journal: {0}")]
    Foreign(&'static str),
    /// It is not what was written.
    #[error(
        "the region is damaged: {0}. Keep this node stopped and let the others serve. Do not start it with an empty directory: it could forget votes"
    )]
    Damaged(&'static str),
    /// It is gone.
    #[error(
        "the region is missing, although a journal was begun here: restore the file, start with the kind of journal that was begun, or keep this node stopped and let the others serve. Do not start it with an empty directory: it could forget votes"
    )]
    Missing,
    /// The file is not on memory that keeps what is stored.
    #[error(
        "this is not non-volatile memory (MAP_SYNC is refused: {0}): put the file on a file system with DAX (`ndctl create-namespace -m fsdax`, `mount -o dax`), or use the journal `file`. `nvm-battery` is for memory that a battery saves; `nvm-emulated` runs anywhere and is VOLATILE"
    )]
    Volatile(#[source] io::Error),
    /// The processor cannot write its caches back.
    #[error("this processor has no instruction for non-volatile memory: use the journal `file`")]
    Processor,
    /// Too small.
    #[error("a region of {bytes} bytes is too small: give it at least {bytes_min}")]
    Small {
        /// Its size.
        bytes: u64,
        /// What is needed.
        bytes_min: u64,
    },
}

/// A region in use.
pub(crate) struct Region<M> {
    pub(crate) medium: M,
    pub(crate) table: Table,
    disk_uuid: u128,
    /// Which copy of the table holds, and how many held before it.
    side: Side,
    sequence: u64,
    /// The bytes of the next table.
    bytes: Vec<u8>,
}

impl<M: Medium> Region<M> {
    /// Makes a region of memory that holds zeros.
    pub(crate) fn format(mut medium: M, identity: &Identity) -> Region<M> {
        medium.store(SWITCH_OFFSET, &Side::First.encode().to_le_bytes());
        let mut region = Region::new(medium, Table::default(), identity, Side::First, 0);
        // The first table that holds is on the second side, so both are written once.
        region.commit();
        let header = header::encode(identity, region.medium.bytes());
        region.medium.store(0, &header);
        region.medium.fence();
        region
    }

    /// Takes a region that was made before.
    ///
    /// # Errors
    /// It is another's, or damaged: nothing was changed then.
    pub(crate) fn open(mut medium: M, identity: &Identity) -> Result<Region<M>, RegionError> {
        let bytes = medium.bytes();
        if bytes < EXTENTS_OFFSET {
            return Err(RegionError::Small { bytes, bytes_min: EXTENTS_OFFSET });
        }
        let (side, sequence, table) = read(&medium, identity)?;
        // It may have been in the caches of a processor only, when the process that wrote it was killed.
        medium.flush(0, EXTENTS_OFFSET);
        medium.fence();
        Ok(Region::new(medium, table, identity, side, sequence))
    }

    fn new(medium: M, table: Table, identity: &Identity, side: Side, sequence: u64) -> Region<M> {
        let bytes = Vec::with_capacity(TABLE_BYTES_MAX);
        Region { medium, table, disk_uuid: identity.disk_uuid, side, sequence, bytes }
    }

    /// Makes the table durable as it is now: after a crash it is this one or the one before.
    pub(crate) fn commit(&mut self) {
        self.side = self.side.other();
        self.sequence += 1;
        self.table.encode(self.sequence, self.disk_uuid, &mut self.bytes);
        if mutant!(SWITCHED_BEFORE_DURABLE) {
            self.switch();
        }
        self.medium.store(table_offset(self.side), &self.bytes);
        self.medium.fence();
        self.switch();
    }

    /// Where the next table goes: what is there now holds no more.
    pub(crate) fn spare_table(&self) -> Range<u64> {
        let start = table_offset(self.side.other());
        start..start + TABLE_BYTES_MAX as u64
    }

    /// One word decides, and it is written whole.
    fn switch(&mut self) {
        self.medium.store(SWITCH_OFFSET, &self.side.encode().to_le_bytes());
        self.medium.fence();
    }
}

/// Reads header, switch and table, and changes nothing.
///
/// # Errors
/// It is another's, or damaged.
pub(crate) fn read(medium: &impl Medium, identity: &Identity) -> Result<(Side, u64, Table), RegionError> {
    let mut header = [0; HEADER_BYTES];
    medium.read(0, &mut header).map_err(|error| RegionError::Io("reading the header", error))?;
    header::verify(&header, identity, medium.bytes())?;
    let mut word = [0; WORD_BYTES as usize];
    medium.read(SWITCH_OFFSET, &mut word).map_err(|error| RegionError::Io("reading the switch", error))?;
    let Some(side) = Side::decode(u64::from_le_bytes(word)) else {
        return Err(RegionError::Damaged("the switch between its tables has neither of its two values"));
    };
    let mut bytes = vec![0; TABLE_BYTES_MAX];
    let read = medium.read(table_offset(side), &mut bytes);
    read.map_err(|error| RegionError::Io("reading the table", error))?;
    let decoded = Table::decode(&bytes, side, identity.disk_uuid, medium.bytes());
    let (sequence, table) = decoded.map_err(RegionError::Damaged)?;
    Ok((side, sequence, table))
}

fn table_offset(side: Side) -> u64 {
    TABLES_OFFSET + side.index() * TABLE_BYTES_MAX as u64
}
