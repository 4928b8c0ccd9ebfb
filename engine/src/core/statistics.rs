//! What a core counts.

use annulus_storage::JournalStatistics;
use annulus_transport::NetworkStatistics;

use crate::StageReport;

/// Counts of one core, or of several added up, since the start.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Turns taken.
    pub turns: u64,
    /// Times that the core slept.
    pub parks: u64,
    /// Rings hosted.
    pub rings: u64,
    /// Batches sealed and proposed here.
    pub batches_proposed: u64,
    /// Commands in them.
    pub commands_proposed: u64,
    /// Slots executed here.
    pub slots_executed: u64,
    /// Commands in them.
    pub commands_executed: u64,
    /// Inputs that changed nothing, such as frames of a stale ballot.
    pub inputs_ignored: u64,
    /// Frames for a ring that this core does not host.
    pub frames_without_ring: u64,
    /// Frames dropped because their sender is not heard: its disk is not known yet or refused, or this one is not
    /// admitted yet.
    pub frames_unheard: u64,
    /// Frames dropped because the journal's backlog was full: their senders send them again.
    pub frames_without_room: u64,
    /// Read-backs for peers that were dropped because too many waited: they ask again.
    pub retrievals_dropped: u64,
    /// Snapshots taken of rings of this core: durable, and read back.
    pub snapshots_taken: u64,
    /// Snapshots that failed: they are tried again.
    pub snapshots_failed: u64,
    /// Bytes of those that were taken.
    pub snapshot_bytes_written: u64,
    /// Snapshots of peers that were fetched whole.
    pub snapshots_fetched: u64,
    /// Bytes of pieces that came from peers.
    pub snapshot_bytes_fetched: u64,
    /// Fetches that were left because the peer fell silent; what came stays for the next.
    pub snapshot_fetches_left: u64,
    /// Bytes of pieces sent to peers.
    pub snapshot_bytes_sent: u64,
    /// Wishes for pieces that were dropped because others were at work: peers ask again.
    pub snapshot_asks_dropped: u64,
    /// Times that the pool of frame buffers had to ask the allocator.
    pub pool_misses: u64,
    /// The journal's own.
    pub journal: JournalStatistics,
    /// The network's own.
    pub network: NetworkStatistics,
}

impl Statistics {
    /// Adds what another core counted.
    pub fn add(&mut self, other: &Statistics) {
        self.turns += other.turns;
        self.parks += other.parks;
        self.rings += other.rings;
        self.batches_proposed += other.batches_proposed;
        self.commands_proposed += other.commands_proposed;
        self.slots_executed += other.slots_executed;
        self.commands_executed += other.commands_executed;
        self.inputs_ignored += other.inputs_ignored;
        self.frames_without_ring += other.frames_without_ring;
        self.frames_unheard += other.frames_unheard;
        self.frames_without_room += other.frames_without_room;
        self.retrievals_dropped += other.retrievals_dropped;
        self.snapshots_taken += other.snapshots_taken;
        self.snapshots_failed += other.snapshots_failed;
        self.snapshot_bytes_written += other.snapshot_bytes_written;
        self.snapshots_fetched += other.snapshots_fetched;
        self.snapshot_bytes_fetched += other.snapshot_bytes_fetched;
        self.snapshot_fetches_left += other.snapshot_fetches_left;
        self.snapshot_bytes_sent += other.snapshot_bytes_sent;
        self.snapshot_asks_dropped += other.snapshot_asks_dropped;
        self.pool_misses += other.pool_misses;
        add_journal(&mut self.journal, &other.journal);
        add_network(&mut self.network, &other.network);
    }
}

fn add_journal(sum: &mut JournalStatistics, other: &JournalStatistics) {
    sum.flushes += other.flushes;
    sum.blocks += other.blocks;
    sum.bytes_written += other.bytes_written;
    sum.frames += other.frames;
    sum.frame_bytes += other.frame_bytes;
    sum.segments += other.segments;
    sum.segment_waits += other.segment_waits;
    sum.preparation_failures += other.preparation_failures;
    sum.backlog_bytes_peak = sum.backlog_bytes_peak.max(other.backlog_bytes_peak);
    sum.segments_removed += other.segments_removed;
    sum.removal_failures += other.removal_failures;
    sum.bytes += other.bytes;
    sum.scrubbed_bytes += other.scrubbed_bytes;
    sum.scrub_passes += other.scrub_passes;
    sum.scrub_pass_bytes += other.scrub_pass_bytes;
    sum.scrub_faults += other.scrub_faults;
    sum.retrievals += other.retrievals;
    sum.retrieved_bytes += other.retrieved_bytes;
    sum.retrieval_faults += other.retrieval_faults;
}

fn add_network(sum: &mut NetworkStatistics, other: &NetworkStatistics) {
    sum.frames_sent += other.frames_sent;
    sum.bytes_sent += other.bytes_sent;
    sum.writes += other.writes;
    sum.frames_received += other.frames_received;
    sum.bytes_received += other.bytes_received;
    sum.reads += other.reads;
    sum.dropped_unconnected += other.dropped_unconnected;
    sum.dropped_full += other.dropped_full;
    sum.dropped_with_connection += other.dropped_with_connection;
    sum.connections += other.connections;
    sum.replaced += other.replaced;
    sum.closed += other.closed;
    sum.silent += other.silent;
    sum.corrupt += other.corrupt;
    sum.foreign += other.foreign;
}

/// All that a core reports of itself.
#[derive(Clone, Debug)]
pub struct CoreReport {
    /// Counts.
    pub statistics: Statistics,
    /// Stages.
    pub stages: StageReport,
}
