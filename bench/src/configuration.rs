//! What one row of figures is measured under: the cluster and the load.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::command::{COMMAND_BYTES_MAX, COMMAND_BYTES_MIN};
use crate::ledger::SESSIONS_MAX;

/// Everything that a row depends on. Its fields stand flat in the JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Configuration {
    /// What runs.
    #[serde(flatten)]
    pub(crate) cluster: ClusterConfiguration,
    /// What it is given to do.
    #[serde(flatten)]
    pub(crate) load: LoadConfiguration,
}

/// Replicas, and how their engines are set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ClusterConfiguration {
    pub(crate) replicas: u16,
    pub(crate) cores: u16,
    pub(crate) rings: u32,
    pub(crate) journal: Journal,
    pub(crate) sync: JournalSync,
    pub(crate) nvm_mib: u64,
    pub(crate) transport: Transport,
    pub(crate) receive: Receive,
    pub(crate) runner: Runner,
    pub(crate) window_slots: u32,
    pub(crate) batch_bytes: usize,
    pub(crate) batch_commands: u32,
    pub(crate) spin_us: u64,
}

/// What the load generator does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LoadConfiguration {
    pub(crate) load: Load,
    /// Connections per ring; sessions per ring when the load is embedded.
    pub(crate) connections: u32,
    pub(crate) payload: usize,
    /// Commands in flight per connection.
    pub(crate) outstanding: u64,
    pub(crate) seconds: f64,
    pub(crate) warmup_seconds: f64,
}

/// Where the load comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Load {
    /// A process of its own, over TCP
    Client,
    /// The leader's own cores, without a socket
    Embedded,
}

/// Where votes are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Journal {
    /// Files: a vote counts when it is on the disk
    File,
    /// VOLATILE: nothing survives the process
    Memory,
    /// Non-volatile memory: a region per core, in a file with DAX under --dir
    Nvm,
    /// The same in memory that a battery saves: as durable as that is true
    NvmBattery,
    /// VOLATILE: the same in ordinary memory, and nothing survives the process
    NvmEmulated,
}

impl Journal {
    /// Whether an acknowledged command survives the loss of power.
    pub(crate) fn is_durable(self) -> bool {
        !matches!(self, Journal::Memory | Journal::NvmEmulated)
    }

    /// Whether it is a region of non-volatile memory, or stands in for one.
    pub(crate) fn is_region(self) -> bool {
        matches!(self, Journal::Nvm | Journal::NvmBattery | Journal::NvmEmulated)
    }
}

/// How a journal write becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JournalSync {
    /// `O_DIRECT`, each write with `RWF_DSYNC`
    Dsync,
    /// `O_DIRECT`, then `fdatasync`
    Fdatasync,
    /// Opened with `O_DSYNC`
    Odsync,
}

/// How replicas reach each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// One process per replica, TCP over 127.0.0.1
    Tcp,
    /// All replicas in one process, frames passed in memory
    Loopback,
}

/// How a core receives from its peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Receive {
    /// Non-blocking `recv`
    Recv,
    /// `io_uring` multishot into a registered buffer ring
    Multishot,
}

/// What calls a core's turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Runner {
    /// A glommio executor per core
    Glommio,
    /// A bare pinned thread per core
    Thread,
}

/// A combination that cannot be measured, and what to do about it.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    #[error("--replicas {0}: from 1 to 9 replicas can be run; three are the default")]
    Replicas(u16),
    #[error("--cores {0}: from 1 to 64 cores per replica can be run")]
    Cores(u16),
    #[error(
        "--cores {cores} with --rings {rings}: a ring lives on one core, so {} would have nothing to do; \
         use --rings {cores} or more, or leave --rings out",
        cores - *rings as u16
    )]
    IdleCores { cores: u16, rings: u32 },
    #[error("--rings 0: at least one ring is needed")]
    NoRings,
    #[error(
        "--payload {0}: a command holds its session and sequence number, so it has from \
         {COMMAND_BYTES_MIN} to {COMMAND_BYTES_MAX} bytes"
    )]
    Payload(usize),
    #[error(
        "--payload {payload} does not fit --batch-bytes {batch_bytes}: raise --batch-bytes to {} or more",
        payload + BATCH_OVERHEAD_BYTES
    )]
    BatchTooSmall { payload: usize, batch_bytes: usize },
    #[error("--{0} 0: at least one is needed")]
    Zero(&'static str),
    #[error("--seconds {0}: measure from 0.1 to 600 seconds")]
    Seconds(f64),
    #[error("--warmup {0}: warm up for 0 to 60 seconds")]
    Warmup(f64),
    #[error("--runs {0}: from 1 to 100 runs can be made")]
    Runs(u32),
    #[error(
        "--spin-us {0}: spin for at most 1000000 µs; on a shared CPU, long spinning stops everybody else"
    )]
    Spin(u64),
    #[error(
        "--sync says how a file is synced, and --journal {0} has none: leave --sync out, or use --journal file"
    )]
    SyncWithoutFile(String),
    #[error(
        "--nvm-mib is the size of a region, and --journal {0} has none: leave --nvm-mib out, or use --journal nvm"
    )]
    RegionWithoutNvm(String),
    #[error(
        "--receive says how sockets are read, and --transport loopback has none: leave --receive out, or use \
         --transport tcp"
    )]
    ReceiveWithoutSockets,
    #[error(
        "{rings} rings × {connections} connections make {sessions} sessions, and {} are possible: use fewer \
         connections or rings",
        SESSIONS_MAX / 2
    )]
    Sessions { rings: u32, connections: u32, sessions: u64 },
}

/// What a batch adds to its only command: its time and the command's length.
const BATCH_OVERHEAD_BYTES: usize = 12;

impl Configuration {
    /// Refuses what cannot be measured.
    pub(crate) fn check(&self) -> Result<(), ConfigurationError> {
        self.cluster.check()?;
        self.load.check()?;
        let payload = self.load.payload;
        let batch_bytes = self.cluster.batch_bytes;
        if payload + BATCH_OVERHEAD_BYTES > batch_bytes {
            return Err(ConfigurationError::BatchTooSmall { payload, batch_bytes });
        }
        // Every connection is a session, and reconnecting takes another: half are kept for that.
        let (rings, connections) = (self.cluster.rings, self.load.connections);
        if self.sessions() > u64::from(SESSIONS_MAX / 2) {
            return Err(ConfigurationError::Sessions { rings, connections, sessions: self.sessions() });
        }
        Ok(())
    }
}

impl Configuration {
    /// Sessions that the load begins with.
    pub(crate) fn sessions(&self) -> u64 {
        u64::from(self.cluster.rings) * u64::from(self.load.connections)
    }
}

impl ClusterConfiguration {
    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> Result<(), ConfigurationError> {
        if !(1..=9).contains(&self.replicas) {
            return Err(ConfigurationError::Replicas(self.replicas));
        }
        if !(1..=64).contains(&self.cores) {
            return Err(ConfigurationError::Cores(self.cores));
        }
        if self.rings == 0 {
            return Err(ConfigurationError::NoRings);
        }
        if self.rings < u32::from(self.cores) {
            return Err(ConfigurationError::IdleCores { cores: self.cores, rings: self.rings });
        }
        if self.window_slots == 0 {
            return Err(ConfigurationError::Zero("window-slots"));
        }
        if self.batch_commands == 0 {
            return Err(ConfigurationError::Zero("batch-commands"));
        }
        if self.spin_us > 1_000_000 {
            return Err(ConfigurationError::Spin(self.spin_us));
        }
        Ok(())
    }

    /// Whether an acknowledged command survives the loss of power.
    pub(crate) fn is_durable(&self) -> bool {
        self.journal.is_durable()
    }

    /// Nodes that one process hosts.
    pub(crate) fn nodes_per_process(&self) -> u16 {
        match self.transport {
            Transport::Tcp => 1,
            Transport::Loopback => self.replicas,
        }
    }
}

impl LoadConfiguration {
    fn check(&self) -> Result<(), ConfigurationError> {
        if !(COMMAND_BYTES_MIN..=COMMAND_BYTES_MAX).contains(&self.payload) {
            return Err(ConfigurationError::Payload(self.payload));
        }
        if self.outstanding == 0 {
            return Err(ConfigurationError::Zero("outstanding"));
        }
        if self.connections == 0 {
            return Err(ConfigurationError::Zero("connections"));
        }
        if !(0.1..=600.0).contains(&self.seconds) {
            return Err(ConfigurationError::Seconds(self.seconds));
        }
        if !(0.0..=60.0).contains(&self.warmup_seconds) {
            return Err(ConfigurationError::Warmup(self.warmup_seconds));
        }
        Ok(())
    }
}

/// The word of an option's value, as it is typed.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
