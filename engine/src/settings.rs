//! What an engine is told, and whether it can be done.

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use annulus_rings::batch::BATCH_BYTES_MAX;
use annulus_rings::configuration::MEMBERS_MAX;
use annulus_rings::{ClusterId, NodeId, WINDOW_SLOTS_MAX};
use annulus_storage::{JournalOptions, NvmBacking, NvmOptions};
use annulus_transport::{LoopbackHub, PeerAddress, TcpOptions};

use crate::core::{BatchLimits, SnapshotOptions};
use crate::error::StartError;
use crate::{Idle, Placement, limits};

/// Where the journal is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum JournalKind {
    /// In files of the data directory: durable.
    #[default]
    File,
    /// In memory: volatile. What was promised and acknowledged is lost with the process, so a node that comes
    /// back is another one, and its peers refuse it: it stops, while the others serve.
    Memory,
    /// In non-volatile memory, a region per core in a file with DAX: durable. Anything else is refused.
    Nvm,
    /// In memory that a battery saves when power is lost, a region per core in a file: as durable as that is true.
    NvmBattery,
    /// As `Nvm`, in ordinary memory: volatile, as `Memory`.
    NvmEmulated,
}

impl JournalKind {
    /// Whether what was promised and acknowledged survives the process.
    pub const fn is_durable(self) -> bool {
        !matches!(self, JournalKind::Memory | JournalKind::NvmEmulated)
    }

    /// What keeps a region of non-volatile memory, where there is one.
    pub(crate) const fn nvm_backing(self) -> Option<NvmBacking> {
        match self {
            JournalKind::File | JournalKind::Memory => None,
            JournalKind::Nvm => Some(NvmBacking::Dax),
            JournalKind::NvmBattery => Some(NvmBacking::Battery),
            JournalKind::NvmEmulated => Some(NvmBacking::Emulated),
        }
    }
}

/// How nodes reach one another.
#[derive(Clone, Default)]
pub enum TransportKind {
    /// Over TCP.
    #[default]
    Tcp,
    /// Between engines of one process, which share the hub.
    Loopback(LoopbackHub),
}

/// What calls a core's turns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Runner {
    /// A glommio executor per core, with the turn loop as its one hot task.
    #[default]
    Glommio,
    /// A bare thread.
    Thread,
}

/// The threads that run cores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cpus {
    /// One core on each of these CPUs.
    Pinned(Vec<usize>),
    /// This many cores, wherever the scheduler puts them.
    Unpinned(usize),
}

/// Everything that a [`Builder`](crate::Builder) collects.
pub(crate) struct Settings {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) peers: Vec<(NodeId, PeerAddress)>,
    pub(crate) cpus: Cpus,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) journal: JournalKind,
    pub(crate) journal_options: JournalOptions,
    pub(crate) memory_bytes_max: u64,
    pub(crate) nvm: NvmOptions,
    pub(crate) transport: TransportKind,
    pub(crate) listener: Option<TcpListener>,
    pub(crate) tcp_options: TcpOptions,
    pub(crate) runner: Runner,
    pub(crate) idle: Idle,
    pub(crate) election_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) resend_interval: Duration,
    pub(crate) window_slots: u32,
    pub(crate) retain_bytes: usize,
    pub(crate) limits: BatchLimits,
    pub(crate) snapshots: SnapshotOptions,
    pub(crate) scrub_bytes_per_second: u64,
    pub(crate) placement: Placement,
    pub(crate) stall_after: Duration,
}

/// The most slots that may be open at once.
/// What glommio insists on.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cluster: ClusterId(1),
            node: NodeId(0),
            peers: Vec::new(),
            cpus: Cpus::Unpinned(1),
            data_dir: None,
            journal: JournalKind::default(),
            journal_options: JournalOptions::default(),
            memory_bytes_max: 1 << 30,
            nvm: NvmOptions::default(),
            transport: TransportKind::default(),
            listener: None,
            tcp_options: TcpOptions::default(),
            runner: Runner::default(),
            idle: Idle::default(),
            election_timeout: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(100),
            resend_interval: Duration::from_millis(200),
            window_slots: 16,
            retain_bytes: 8 << 20,
            limits: BatchLimits {
                batch_bytes_max: 256 << 10,
                batch_commands_max: 8192,
                queue_bytes_max: 4 << 20,
            },
            snapshots: SnapshotOptions::default(),
            scrub_bytes_per_second: 8 << 20,
            placement: Placement::default(),
            stall_after: Duration::from_secs(2),
        }
    }
}

impl Settings {
    /// How many cores the node has.
    pub(crate) fn cores(&self) -> usize {
        match &self.cpus {
            Cpus::Pinned(cpus) => cpus.len(),
            Cpus::Unpinned(cores) => *cores,
        }
    }

    /// The CPU of a core, when it is pinned.
    pub(crate) fn cpu(&self, core: usize) -> Option<usize> {
        match &self.cpus {
            Cpus::Pinned(cpus) => cpus.get(core).copied(),
            Cpus::Unpinned(_) => None,
        }
    }

    /// Every member of every ring.
    pub(crate) fn members(&self) -> Vec<NodeId> {
        self.peers.iter().map(|(node, _)| *node).collect()
    }

    /// Refuses what cannot work, before anything is opened.
    pub(crate) fn validate(&self) -> Result<(), StartError> {
        self.validate_peers()?;
        self.validate_cpus(&limits::cpus_allowed())?;
        self.validate_timeouts()?;
        self.validate_sizes()?;
        self.validate_placement()?;
        if self.journal.is_durable() && self.data_dir.is_none() {
            return Err(StartError::NoDataDir);
        }
        if self.journal.nvm_backing().is_some() {
            self.validate_region()?;
        }
        if self.runner == Runner::Glommio {
            validate_memlock(limits::memlock_bytes_max())?;
        }
        Ok(())
    }

    fn validate_peers(&self) -> Result<(), StartError> {
        if self.node == NodeId(0) {
            return Err(StartError::NoNode);
        }
        if self.peers.is_empty() {
            return Err(StartError::NoPeers);
        }
        if self.peers.len() > MEMBERS_MAX {
            return Err(StartError::TooManyPeers(self.peers.len()));
        }
        let mut addresses: BTreeMap<String, NodeId> = BTreeMap::new();
        let mut nodes = Vec::new();
        for (node, address) in &self.peers {
            if *node == NodeId(0) {
                return Err(StartError::PeerZero);
            }
            if nodes.contains(node) {
                return Err(StartError::DuplicateNode(*node));
            }
            nodes.push(*node);
            let first = addresses.insert(address.to_string(), *node);
            if let (Some(first), TransportKind::Tcp) = (first, &self.transport) {
                return Err(StartError::DuplicateAddress { first, second: *node, address: address.clone() });
            }
        }
        if !nodes.contains(&self.node) {
            let peers = nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
            return Err(StartError::NotAmongPeers { node: self.node, peers });
        }
        Ok(())
    }

    fn validate_cpus(&self, allowed: &[usize]) -> Result<(), StartError> {
        let cores = self.cores();
        if cores == 0 {
            return Err(StartError::NoCores);
        }
        if cores > allowed.len() {
            return Err(StartError::TooManyCores { cores, cpus: allowed.len() });
        }
        let Cpus::Pinned(cpus) = &self.cpus else { return Ok(()) };
        for (index, cpu) in cpus.iter().enumerate() {
            if !allowed.contains(cpu) {
                return Err(StartError::NoSuchCpu { cpu: *cpu, allowed: allowed.to_vec() });
            }
            if cpus[..index].contains(cpu) {
                return Err(StartError::DuplicateCpu(*cpu));
            }
        }
        Ok(())
    }

    fn validate_timeouts(&self) -> Result<(), StartError> {
        let (election, heartbeat) = (self.election_timeout, self.heartbeat_interval);
        for (setting, value) in [
            ("heartbeat_interval", heartbeat),
            ("resend_interval", self.resend_interval),
            ("stall_after", self.stall_after),
        ] {
            if value < Duration::from_millis(1) {
                return Err(out_of_range(setting, format!("{value:?}"), "it must be at least 1 ms"));
            }
        }
        if election < heartbeat * 3 {
            return Err(StartError::Timeouts { election, heartbeat });
        }
        Ok(())
    }

    fn validate_sizes(&self) -> Result<(), StartError> {
        let BatchLimits { batch_bytes_max, batch_commands_max, queue_bytes_max } = self.limits;
        if self.window_slots == 0 || self.window_slots > WINDOW_SLOTS_MAX {
            let rule = format!("it must be 1 to {WINDOW_SLOTS_MAX}");
            return Err(out_of_range("window_slots", self.window_slots, rule));
        }
        if batch_commands_max == 0 {
            return Err(out_of_range("batch_commands_max", batch_commands_max, "it must be at least 1"));
        }
        if !(64..=BATCH_BYTES_MAX).contains(&batch_bytes_max) {
            let rule = format!("it must be 64 to {BATCH_BYTES_MAX}, so that a batch fits a frame");
            return Err(out_of_range("batch_bytes_max", batch_bytes_max, rule));
        }
        let window_bytes = self.window_slots as usize * batch_bytes_max;
        let backlog_bytes_max = self.journal_options.backlog_bytes_max;
        if window_bytes > backlog_bytes_max {
            let rule = format!(
                "with batches of {batch_bytes_max} bytes a full window would be {window_bytes} bytes, more than the {backlog_bytes_max} that may wait for the journal"
            );
            return Err(out_of_range("window_slots", self.window_slots, rule));
        }
        self.validate_snapshots()?;
        if queue_bytes_max < batch_bytes_max {
            let rule = format!("it must be at least batch_bytes_max, which is {batch_bytes_max}");
            return Err(out_of_range("queue_bytes_max", queue_bytes_max, rule));
        }
        Ok(())
    }

    fn validate_snapshots(&self) -> Result<(), StartError> {
        let SnapshotOptions { log_bytes, interval, kept, slice_bytes, fetch_bytes_per_second } =
            self.snapshots;
        let numbers = [
            ("snapshot_log_bytes", log_bytes, 1),
            ("snapshots_kept", kept as u64, 1),
            ("snapshot_slice_bytes", slice_bytes as u64, 4096),
            ("snapshot_fetch_bytes_per_second", fetch_bytes_per_second, 4096),
        ];
        for (setting, value, min) in numbers {
            if value < min {
                return Err(out_of_range(setting, value, format!("it must be at least {min}")));
            }
        }
        if let Some(interval) = interval.filter(|interval| *interval < Duration::from_millis(1)) {
            return Err(out_of_range(
                "snapshot_interval",
                format!("{interval:?}"),
                "it must be at least 1 ms",
            ));
        }
        Ok(())
    }

    /// A region holds the segment in use, those ahead, and one that can be freed; and its own tables.
    fn validate_region(&self) -> Result<(), StartError> {
        let JournalOptions { segment_bytes, segments_ahead, .. } = self.journal_options;
        let bytes_min = (segments_ahead as u64 + 3) * segment_bytes;
        if self.nvm.region_bytes < bytes_min || !self.nvm.region_bytes.is_multiple_of(4096) {
            let rule = format!(
                "it must be a multiple of 4096 and at least {bytes_min}: segments_ahead + 3 segments of {segment_bytes}"
            );
            return Err(out_of_range("nvm_bytes", self.nvm.region_bytes, rule));
        }
        Ok(())
    }

    fn validate_placement(&self) -> Result<(), StartError> {
        let cores = self.cores();
        let Placement::Table(table) = &self.placement else { return Ok(()) };
        let wrong = table.iter().find(|(_, core)| core.0 as usize >= cores);
        wrong.map_or(Ok(()), |(&ring, &core)| Err(StartError::Placement { ring, core, cores }))
    }
}

fn validate_memlock(have_bytes: u64) -> Result<(), StartError> {
    if have_bytes < MEMLOCK_BYTES_MIN {
        return Err(StartError::Memlock { have_bytes, need_bytes: MEMLOCK_BYTES_MIN });
    }
    Ok(())
}

fn out_of_range(setting: &'static str, value: impl fmt::Display, rule: impl Into<String>) -> StartError {
    StartError::Setting { setting, value: format!("{value}"), rule: rule.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_memlock_is_refused_with_both_numbers() {
        let error = validate_memlock(64 << 10).unwrap_err().to_string();
        assert!(
            error.contains("65536") && error.contains("524288") && error.contains("ulimit -l"),
            "{error}"
        );
        assert!(validate_memlock(u64::MAX).is_ok());
    }
}
