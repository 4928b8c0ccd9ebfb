//! How an engine is told what to be.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use annulus_rings::{ClusterId, CoreId, NodeId, RingId};
use annulus_storage::SyncMode;
use annulus_transport::{PeerAddress, ReceivePath};

use crate::engine::Engine;
use crate::error::StartError;
use crate::mailbox::MachineFactory;
use crate::settings::{Cpus, JournalKind, Runner, Settings, TransportKind};
use crate::{Idle, Placement, Service, StateMachine};

/// Makes the service of a core, on that core's thread.
pub(crate) type ServiceFactory = Arc<dyn Fn(CoreId) -> io::Result<Box<dyn Service>> + Send + Sync>;

/// Collects what a node is and how it behaves. Made by [`Engine::builder`].
///
/// Node, peers and a data directory must be given; everything else has a default that suits a node on a
/// local network. What cannot work is refused by [`start`](Self::start), in words that say what to do.
#[derive(Default)]
#[must_use = "an engine runs once it is started"]
pub struct Builder {
    settings: Settings,
    service: Option<ServiceFactory>,
    rings: Vec<(RingId, MachineFactory)>,
}

impl Builder {
    /// The cluster; nodes of different clusters refuse each other. Default: 1.
    pub fn cluster(mut self, cluster: ClusterId) -> Builder {
        self.settings.cluster = cluster;
        self
    }

    /// This node, from 1.
    pub fn node(mut self, node: NodeId) -> Builder {
        self.settings.node = node;
        self
    }

    /// A node of the cluster and where it listens. This node is one of them.
    pub fn peer(mut self, node: NodeId, address: impl Into<PeerAddress>) -> Builder {
        self.settings.peers.push((node, address.into()));
        self
    }

    /// Several nodes of the cluster, as [`peer`](Self::peer).
    pub fn peers<A: Into<PeerAddress>>(mut self, peers: impl IntoIterator<Item = (NodeId, A)>) -> Builder {
        self.settings.peers.extend(peers.into_iter().map(|(node, address)| (node, address.into())));
        self
    }

    /// A socket that listens already, in place of one made from this node's own address.
    pub fn listener(mut self, listener: TcpListener) -> Builder {
        self.settings.listener = Some(listener);
        self
    }

    /// One core on each of these CPUs. Every node of a cluster has as many.
    pub fn cores(mut self, cpus: impl IntoIterator<Item = usize>) -> Builder {
        self.settings.cpus = Cpus::Pinned(cpus.into_iter().collect());
        self
    }

    /// Cores that run wherever the scheduler puts them. Default: one.
    pub fn unpinned_cores(mut self, cores: usize) -> Builder {
        self.settings.cpus = Cpus::Unpinned(cores);
        self
    }

    /// Where the journal is kept. A directory belongs to one node for ever.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Builder {
        self.settings.data_dir = Some(path.into());
        self
    }

    /// Whether the journal is durable. Default: in files.
    pub fn journal(mut self, journal: JournalKind) -> Builder {
        self.settings.journal = journal;
        self
    }

    /// The most that a journal in memory holds; beyond it the oldest segments are forgotten. Default: 1 GiB.
    pub fn memory_bytes_max(mut self, bytes: u64) -> Builder {
        self.settings.memory_bytes_max = bytes;
        self
    }

    /// The size of a core's region, for journals in non-volatile memory. It is reserved at once; a region that
    /// exists keeps its size. Default: 1 GiB.
    pub fn nvm_bytes(mut self, bytes: u64) -> Builder {
        self.settings.nvm.region_bytes = bytes;
        self
    }

    /// Where the regions of all cores are, `core-<i>.nvm` each, for journals in non-volatile memory: a directory on
    /// a file system with DAX. Default: in the data directory, which is then on one itself.
    pub fn nvm_dir(mut self, path: impl Into<PathBuf>) -> Builder {
        self.settings.nvm.directory = Some(path.into());
        self
    }

    /// How writes are made durable. Default: `O_DIRECT` and `RWF_DSYNC`.
    pub fn sync(mut self, sync: SyncMode) -> Builder {
        self.settings.journal_options.sync = sync;
        self
    }

    /// The size of a segment of the journal. Default: 64 MiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Builder {
        self.settings.journal_options.segment_bytes = bytes;
        self
    }

    /// The most that the journal of a core takes of the disk, segments that are prepared included. When it is
    /// reached, commands are rejected as full until snapshots have made room. Default: 8 GiB.
    pub fn journal_bytes_max(mut self, bytes: u64) -> Builder {
        self.settings.journal_options.bytes_max = bytes;
        self
    }

    /// A ring is saved again when it has written so many bytes to the journal since the last time.
    /// Default: 256 MiB.
    pub fn snapshot_log_bytes(mut self, bytes: u64) -> Builder {
        self.settings.snapshots.log_bytes = bytes;
        self
    }

    /// A ring that has executed anything is saved again after so long. Default: time alone asks for none.
    pub fn snapshot_interval(mut self, interval: Duration) -> Builder {
        self.settings.snapshots.interval = Some(interval);
        self
    }

    /// Snapshots of each ring that are kept. The journal reaches back to the oldest, so that a damaged one can
    /// be replaced by the one before. Default: 2.
    pub fn snapshots_kept(mut self, snapshots: usize) -> Builder {
        self.settings.snapshots.kept = snapshots;
        self
    }

    /// Bytes that a state machine is asked for at a time: a slice, between which commits go on.
    /// Default: 64 KiB.
    pub fn snapshot_slice_bytes(mut self, bytes: usize) -> Builder {
        self.settings.snapshots.slice_bytes = bytes;
        self
    }

    /// Bytes per second that a core fetches of a snapshot when it is too far behind. Default: 64 MiB.
    pub fn snapshot_fetch_bytes_per_second(mut self, bytes: u64) -> Builder {
        self.settings.snapshots.fetch_bytes_per_second = bytes;
        self
    }

    /// Bytes of the journal of each core that are read again per second while it works, so that damage is found
    /// and made good before somebody needs what is lost; 0 reads none. Default: 8 MiB.
    pub fn scrub_bytes_per_second(mut self, bytes: u64) -> Builder {
        self.settings.scrub_bytes_per_second = bytes;
        self
    }

    /// Segments prepared ahead of need. Default: 2.
    pub fn segments_ahead(mut self, segments: usize) -> Builder {
        self.settings.journal_options.segments_ahead = segments;
        self
    }

    /// Group writes in flight. Default: 2.
    pub fn writes_in_flight_max(mut self, writes: usize) -> Builder {
        self.settings.journal_options.writes_in_flight_max = writes;
        self
    }

    /// How nodes reach one another. Default: TCP.
    pub fn transport(mut self, transport: TransportKind) -> Builder {
        self.settings.transport = transport;
        self
    }

    /// Which system calls bring bytes from sockets. Default: plain `recv`.
    pub fn receive_path(mut self, path: ReceivePath) -> Builder {
        self.settings.tcp_options.receive_path = path;
        self
    }

    /// What calls the turns of a core. Default: glommio.
    pub fn runner(mut self, runner: Runner) -> Builder {
        self.settings.runner = runner;
        self
    }

    /// How a core waits. Default: 100 µs of looking, then sleep.
    pub fn idle(mut self, idle: Idle) -> Builder {
        self.settings.idle = idle;
        self
    }

    /// The shortest silence of a leader after which a follower stands for election; the longest is twice
    /// that. Default: 500 ms.
    pub fn election_timeout(mut self, timeout: Duration) -> Builder {
        self.settings.election_timeout = timeout;
        self
    }

    /// The longest silence of a leader that is idle. Default: 100 ms.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Builder {
        self.settings.heartbeat_interval = interval;
        self
    }

    /// After how long what is unanswered is sent again. Default: 200 ms.
    pub fn resend_interval(mut self, interval: Duration) -> Builder {
        self.settings.resend_interval = interval;
        self
    }

    /// α: slots of a ring that may be proposed and not yet chosen. Default: 16.
    pub fn window_slots(mut self, slots: u32) -> Builder {
        self.settings.window_slots = slots;
        self
    }

    /// Bytes of executed slots that a ring keeps in memory for peers that lag a little. Default: 8 MiB.
    pub fn retain_bytes(mut self, bytes: usize) -> Builder {
        self.settings.retain_bytes = bytes;
        self
    }

    /// Bytes of a batch. Default: 256 KiB.
    pub fn batch_bytes_max(mut self, bytes: usize) -> Builder {
        self.settings.limits.batch_bytes_max = bytes;
        self
    }

    /// Commands of a batch. Default: 8192.
    pub fn batch_commands_max(mut self, commands: u32) -> Builder {
        self.settings.limits.batch_commands_max = commands;
        self
    }

    /// Bytes of commands that may wait for a ring, in its mailbox and unsealed each; beyond it, proposals
    /// are rejected as full. Default: 4 MiB.
    pub fn queue_bytes_max(mut self, bytes: usize) -> Builder {
        self.settings.limits.queue_bytes_max = bytes;
        self
    }

    /// Which core owns which ring. Default: the ring's number modulo the cores.
    pub fn placement(mut self, placement: Placement) -> Builder {
        self.settings.placement = placement;
        self
    }

    /// After how long without progress a core is reported as stalled. Default: 2 s.
    pub fn stall_after(mut self, duration: Duration) -> Builder {
        self.settings.stall_after = duration;
        self
    }

    /// Clients that live on the cores: called once per core, on its thread.
    pub fn service(
        mut self,
        service: impl Fn(CoreId) -> io::Result<Box<dyn Service>> + Send + Sync + 'static,
    ) -> Builder {
        self.service = Some(Arc::new(service));
        self
    }

    /// A ring that lives from the start: its journal is executed while it is read back, and not kept in
    /// memory for a later [`Engine::create_ring`]. Its handle is [`Engine::ring`].
    pub fn ring<M: StateMachine>(
        mut self,
        ring: RingId,
        machine: impl FnOnce() -> M + Send + 'static,
    ) -> Builder {
        self.rings.push((ring, Box::new(move || Box::new(machine()))));
        self
    }

    /// Opens everything, reads the journals back and starts the cores. Rings are hosted once they are
    /// [created](Engine::create_ring).
    ///
    /// # Errors
    /// Any [`StartError`]; nothing runs then.
    pub fn start(self) -> Result<Engine, StartError> {
        self.settings.validate()?;
        let mut declared: Vec<RingId> = self.rings.iter().map(|(ring, _)| *ring).collect();
        declared.sort_unstable();
        if let Some(pair) = declared.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(StartError::DuplicateRing(pair[0]));
        }
        Engine::start(self.settings, self.service.as_ref(), self.rings)
    }
}
