//! Looking at a journal from outside: nothing is locked, changed or repaired.

use std::path::Path;

use annulus_rings::{Frame, FrameHeader};

use crate::block::{BlockHeader, frame_headers};
use crate::disk::Segments as _;
use crate::error::RecoverError;
use crate::identity::{Identity, Position, SegmentId};
use crate::segment_files::SegmentFiles;
use crate::walk::{Tail, Walk, read_header};

/// A block of a journal, verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockReport {
    /// Its header: place, positions, size.
    pub header: BlockHeader,
    /// The headers of its frames.
    pub frames: Vec<FrameHeader>,
}

/// What lies behind the last whole block of a sound journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TailReport {
    /// Bytes that a torn write left, in whole pages; the next recovery erases them.
    pub torn_bytes: u64,
    /// Whole headers among them: writes that were in flight and never acknowledged.
    pub in_flight: Vec<BlockHeader>,
}

/// Reads the journal of one core as recovery would, and reports what it finds.
///
/// The journal of a running node can be inspected too: what is in flight then shows as a torn tail.
pub struct JournalInspector {
    files: SegmentFiles,
    identity: Identity,
}

impl JournalInspector {
    /// Looks at the directory of a core.
    ///
    /// # Errors
    /// There is no segment, or the first one's header is damaged.
    pub fn open(core_directory: &Path) -> Result<JournalInspector, RecoverError> {
        let mut files = SegmentFiles::open(core_directory);
        let failed = |source| RecoverError::Io { segment: SegmentId::FIRST, action: "listing", source };
        let listed = files.list().map_err(failed)?;
        let first = listed.first().ok_or(RecoverError::MissingSegment(SegmentId::FIRST))?;
        let identity = read_header(&mut files, first)?.identity;
        Ok(JournalInspector { files, identity })
    }

    /// Whose journal it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Bytes of its segments: a walk reads no more, and less by what is ready for use.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn bytes(&mut self) -> Result<u64, RecoverError> {
        let failed = |source| RecoverError::Io { segment: SegmentId::FIRST, action: "listing", source };
        Ok(self.files.list().map_err(failed)?.iter().map(|file| file.bytes).sum())
    }

    /// Hands every whole block to `each`, in order, then judges the tail.
    ///
    /// # Errors
    /// What recovery would refuse with.
    pub fn blocks(&mut self, mut each: impl FnMut(BlockReport)) -> Result<TailReport, RecoverError> {
        self.walk(|header, frames| each(BlockReport { header: *header, frames: frame_headers(frames) }))
    }

    /// Like [`blocks`](Self::blocks), with the frames themselves.
    ///
    /// # Errors
    /// What recovery would refuse with.
    pub fn walk(&mut self, mut each: impl FnMut(&BlockHeader, &[Frame])) -> Result<TailReport, RecoverError> {
        let mut walk = Walk::open(&mut self.files, self.identity)?;
        let mut frames = Vec::new();
        while let Some(header) = walk.next(&mut frames)? {
            each(&header, &frames);
        }
        let Tail { dirty, later } = walk.tail()?;
        Ok(TailReport { torn_bytes: dirty.iter().map(|pages| pages.bytes).sum(), in_flight: later })
    }

    /// Every whole header at or behind `from`, chained or not: what can still be told of a journal whose
    /// walk ended in damage.
    ///
    /// # Errors
    /// The segments are not whole or cannot be read.
    pub fn headers_behind(&mut self, from: Position) -> Result<Vec<BlockHeader>, RecoverError> {
        let mut walk = Walk::open(&mut self.files, self.identity)?;
        walk.headers_behind(from)
    }
}
