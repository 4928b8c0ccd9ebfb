//! What a journal has done since it was opened.

/// Counters of one journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JournalStatistics {
    /// Durable group writes completed.
    pub flushes: u64,
    /// Blocks submitted.
    pub blocks: u64,
    /// Bytes of those blocks, headers and padding included.
    pub bytes_written: u64,
    /// Frames in those blocks.
    pub frames: u64,
    /// Bytes of those frames alone.
    pub frame_bytes: u64,
    /// Segments taken into use.
    pub segments: u64,
    /// How often a group had to wait because the next segment was not ready.
    pub segment_waits: u64,
    /// Preparations of a segment that failed, such as for want of space.
    pub preparation_failures: u64,
    /// Segments removed.
    pub segments_removed: u64,
    /// Removals of a segment that failed.
    pub removal_failures: u64,
    /// Bytes of all segments held now: with blocks, freed and not yet removed, ready.
    pub bytes: u64,
    /// The most bytes of frames that waited to be durable.
    pub backlog_bytes_peak: u64,
    /// Read-backs answered.
    pub retrievals: u64,
    /// Bytes read for them.
    pub retrieved_bytes: u64,
    /// Reads for them that failed, or found a damaged block: those slots are never served.
    pub retrieval_faults: u64,
    /// Bytes read to verify what is durable.
    pub scrubbed_bytes: u64,
    /// How often all of it was verified.
    pub scrub_passes: u64,
    /// Bytes verified in the pass that goes on, out of `bytes` at the most.
    pub scrub_pass_bytes: u64,
    /// Reads for that which brought nothing sound.
    pub scrub_faults: u64,
    /// Places found damaged that are still needed.
    pub damaged_places: u64,
}
