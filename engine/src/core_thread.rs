//! The thread of a core: from the plan, through recovery, to its last turn.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use annulus_rings::{CoreId, Incarnation, NodeId, RingId};
use annulus_storage::{
    CoreDirectory, Disk, FileDisk, FileVault, Identity, JournalOptions, MemoryDisk, MemoryVault, NvmDisk,
    NvmOptions, OpenError, Unrecovered, Vault,
};
use annulus_transport::{Doorbell, LoopbackHub, Network, TcpNetwork, TcpOptions, TcpPort, Wake};

use crate::builder::ServiceFactory;
use crate::clock::SystemClock;
use crate::core::{Core, CoreOptions, CoreParts};
use crate::error::StartError;
use crate::mailbox::{MachineFactory, Mailbox, mailbox};
use crate::runner::{self, Turner};
use crate::settings::Runner;
use crate::vitals::{End, Vitals};
use crate::{Idle, Service};

/// Everything that a core's thread needs to make the core.
pub(crate) struct CorePlan {
    pub(crate) seat: Seat,
    pub(crate) options: CoreOptions,
    pub(crate) journal: JournalPlan,
    pub(crate) network: NetworkPlan,
    pub(crate) service: Option<ServiceFactory>,
    /// Rings that live from the start.
    pub(crate) declared: Vec<(RingId, MachineFactory)>,
}

/// Which core it is, and what runs it where.
#[derive(Clone, Copy)]
pub(crate) struct Seat {
    pub(crate) core: CoreId,
    pub(crate) cpu: Option<usize>,
    pub(crate) runner: Runner,
    pub(crate) idle: Idle,
}

/// Where the journal is, and how it behaves.
pub(crate) struct JournalPlan {
    pub(crate) device: Device,
    pub(crate) options: JournalOptions,
}

/// Where the journal is.
pub(crate) enum Device {
    Files(CoreDirectory),
    Memory { identity: Identity, bytes_max: u64 },
    Nvm(CoreDirectory, NvmOptions),
    NvmEmulated { identity: Identity, bytes: u64 },
}

/// What a core is made of, whatever its disk and network.
struct Makings {
    seat: Seat,
    options: CoreOptions,
    service: Option<Box<dyn Service>>,
    declared: Vec<(RingId, MachineFactory)>,
}

/// What the core is connected by.
pub(crate) enum NetworkPlan {
    Tcp { port: TcpPort, options: TcpOptions },
    Loopback { hub: LoopbackHub, incarnation: Incarnation, peers: Vec<NodeId> },
}

/// A core that takes turns.
pub(crate) struct CoreStarted {
    pub(crate) mailbox: Mailbox,
    pub(crate) vitals: Arc<Vitals>,
    /// Rouses the core whatever it believes to be doing.
    pub(crate) bell: Doorbell,
}

type Ready = Sender<Result<CoreStarted, StartError>>;

impl CorePlan {
    /// Makes the core on this thread, says through `ready` whether that worked, and takes turns until
    /// the end.
    pub(crate) fn run(self, ready: &Ready) {
        if let Err(error) = self.connect(ready) {
            // Nobody listens only when the engine's start was given up already.
            let _ = ready.send(Err(error));
        }
    }

    fn connect(self, ready: &Ready) -> Result<(), StartError> {
        let CorePlan { seat, options, journal, network, service, declared } = self;
        seat.pin()?;
        let service = service.map(|make| make(seat.core)).transpose();
        let service = service.map_err(|source| StartError::Service { core: seat.core, source })?;
        let node = options.ring.node;
        let makings = Makings { seat, options, service, declared };
        match network {
            NetworkPlan::Tcp { port, options } => {
                let network = TcpNetwork::open(port, options).map_err(|error| seat.failed(error))?;
                makings.open(journal, network, ready)
            }
            NetworkPlan::Loopback { hub, incarnation, peers } => {
                let joined = hub.join(node, seat.core, incarnation, &peers);
                let network = joined.map_err(|error| seat.failed(io::Error::other(error)))?;
                makings.open(journal, network, ready)
            }
        }
    }
}

impl Makings {
    fn open<N: Network>(self, plan: JournalPlan, network: N, ready: &Ready) -> Result<(), StartError> {
        let JournalPlan { device, options } = plan;
        let core = self.seat.core;
        let failed = |source| StartError::Journal { core, source: Box::new(source) };
        match device {
            Device::Files(directory) => {
                let disk = FileDisk::open(&directory, options.sync).map_err(failed)?;
                let vault = Box::new(FileVault::open(&directory).map_err(failed)?);
                self.host(Unrecovered::open(disk, directory.identity(), options), vault, network, ready)
            }
            Device::Memory { identity, bytes_max } => {
                let (disk, vault) = (MemoryDisk::new(bytes_max), Box::new(MemoryVault::new(bytes_max)));
                self.host(Unrecovered::open(disk, identity, options), vault, network, ready)
            }
            Device::Nvm(directory, nvm) => {
                let disk = NvmDisk::open(&directory, &nvm).map_err(failed)?;
                // Snapshots are too large for the region: they are files beside it.
                let vault = Box::new(FileVault::open(&directory).map_err(failed)?);
                self.host(Unrecovered::open(disk, directory.identity(), options), vault, network, ready)
            }
            Device::NvmEmulated { identity, bytes } => {
                let disk = NvmDisk::emulated(&identity, bytes).map_err(failed)?;
                let vault = Box::new(MemoryVault::new(bytes));
                self.host(Unrecovered::open(disk, identity, options), vault, network, ready)
            }
        }
    }

    /// Recovers the core and takes its turns.
    fn host<D: Disk, N: Network>(
        self,
        journal: Result<Unrecovered<D>, OpenError>,
        vault: Box<dyn Vault>,
        network: N,
        ready: &Ready,
    ) -> Result<(), StartError> {
        let Makings { seat, options, service, declared } = self;
        let core = seat.core;
        let journal = journal.map_err(|source| StartError::Journal { core, source: Box::new(source) })?;
        let failed = |error| seat.failed(error);
        let wake = Wake::new().map_err(failed)?;
        let bell = Doorbell::new();
        bell.connect(wake.fd()).map_err(failed)?;
        let vitals: Arc<Vitals> = Arc::default();
        let (mailbox, letters) = mailbox(options.limits.queue_bytes_max, wake.waker());
        let parts = CoreParts { options, clock: SystemClock, journal, vault, network, service };
        let declared = declared.into_iter().map(|(ring, machine)| (ring, machine())).collect();
        let mut core = Core::recover(parts, declared, letters, Arc::clone(&vitals))
            .map_err(|source| StartError::Journal { core: seat.core, source: Box::new(source) })?;
        core.register_wake(wake.fd()).map_err(failed)?;
        let started = CoreStarted { mailbox, vitals: Arc::clone(&vitals), bell };
        if ready.send(Ok(started)).is_err() {
            return Ok(());
        }
        let ran = runner::run(seat, Turner::new(&mut core, &wake, &vitals, seat));
        // Before the end is told: whoever sees it may start another node on the same files.
        drop(core);
        vitals.ended(ran.unwrap_or_else(|error| {
            tracing::error!(core = %seat.core, %error, "the runner could not start: this core stops");
            End::Failed(error.to_string())
        }));
        Ok(())
    }
}

impl Seat {
    fn pin(self) -> Result<(), StartError> {
        let Some(id) = self.cpu else { return Ok(()) };
        if core_affinity::set_for_current(core_affinity::CoreId { id }) {
            return Ok(());
        }
        Err(self.failed(io::Error::other(format!("its thread could not be pinned to CPU {id}"))))
    }

    fn failed(self, source: io::Error) -> StartError {
        StartError::Core { core: self.core, source }
    }
}
