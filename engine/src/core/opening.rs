//! How a core comes to be: its journal is read back before anything else happens.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use annulus_rings::{FramePool, Ignored, Lsn, NodeId, Outbox, RingId, RingOptions};
use annulus_storage::{Disk, Journal, RecoverError, SnapshotError, Unrecovered, Vault};
use annulus_transport::Network;

use super::acquaintances::Acquaintances;
use super::replicas::Replicas;
use super::restoring::{RestoreRoom, Restoring};
use super::retrieval::Retrievals;
use super::scrubbing::Scrubbing;
use super::snapshots::{RestoreMachineError, SnapshotOptions, Snapshots};
use super::statistics::Statistics;
use super::timers::Timers;
use super::truncation::Truncation;
use super::{BatchLimits, Core};
use crate::clock::Clock;
use crate::mailbox::MailboxReceiver;
use crate::stages::Stages;
use crate::vitals::Vitals;
use crate::{Replies, Service, StateMachine};

/// What the rings of a core have in common.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// The options of every ring, but for its id and the seed of its timeouts, which is mixed with the id.
    pub ring: RingOptions,
    /// Bounds of batches and of what waits.
    pub limits: BatchLimits,
    /// How rings save their state.
    pub snapshots: SnapshotOptions,
    /// Bytes of the journal that are read again per second, to find damage; 0: none.
    pub scrub_bytes_per_second: u64,
}

/// What a core is made of.
pub struct CoreParts<D: Disk, N: Network, C: Clock> {
    /// Its options.
    pub options: CoreOptions,
    /// Its clock.
    pub clock: C,
    /// Its journal, not read yet.
    pub journal: Unrecovered<D>,
    /// Its snapshots.
    pub vault: Box<dyn Vault>,
    /// Its connections.
    pub network: N,
    /// Its clients on the core.
    pub service: Option<Box<dyn Service>>,
}

/// Why a core's journal does not give its rings back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] RecoverError),
    /// The snapshots cannot be read.
    #[error("the snapshots cannot be read: {0}")]
    Snapshots(#[from] SnapshotError),
    /// A state machine takes no snapshot that it has written.
    #[error(transparent)]
    Machine(#[from] RestoreMachineError),
    /// The journal begins behind the end of every snapshot that is sound.
    #[error(
        "ring {ring} cannot be restored: its journal was truncated below a snapshot that is missing or damaged, so it must not vote. Put the snapshots back, or repair this node from its peers"
    )]
    Gap {
        /// The ring.
        ring: RingId,
    },
    /// A record that its ring cannot have written.
    #[error(
        "record {lsn} of ring {ring} was not written by this replica among these peers ({why}), so it must not vote: start it with the peers that it always had, and with the build that wrote it"
    )]
    Record {
        /// Its position.
        lsn: Lsn,
        /// Its ring.
        ring: RingId,
        /// What is wrong with it.
        why: Ignored,
    },
}

/// The chunks that frames are cut from.
const POOL_CHUNK_BYTES: usize = 1 << 20;

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// A core without an engine around it, for whoever calls [`turn`](Self::turn) himself: its rings are
    /// those given, and its clients are its service. It touches the system through its parts alone: where
    /// they are simulated, its history is a function of what they answer.
    ///
    /// The caller does what a runner does: takes turns until one finds no work and
    /// [`prepare_park`](Self::prepare_park) is false, then waits for an arrival, a completion or the
    /// [`deadline`](Self::deadline).
    ///
    /// # Errors
    /// The journal does not give the rings back.
    pub fn open(
        parts: CoreParts<D, N, C>,
        rings: Vec<(RingId, Box<dyn StateMachine>)>,
    ) -> Result<Core<D, N, C>, RestoreError> {
        Core::recover(parts, rings, MailboxReceiver::of_nobody(), Arc::default())
    }

    /// Reads the journal back and makes a core that hosts the `declared` rings. What the journal holds of
    /// other rings is kept until they are created; a ring that is never created never votes.
    pub(crate) fn recover(
        parts: CoreParts<D, N, C>,
        declared: Vec<(RingId, Box<dyn StateMachine>)>,
        mailbox: MailboxReceiver,
        vitals: Arc<Vitals>,
    ) -> Result<Core<D, N, C>, RestoreError> {
        let CoreParts { options, clock, journal, vault, network, service } = parts;
        let declared_rings: Vec<RingId> = declared.iter().map(|(ring, _)| *ring).collect();
        let ReadBack { journal, snapshots, acquaintances, restoring } =
            ReadBack::of(&options, journal, vault, declared)?;
        let node = options.ring.node;
        let peers: Vec<NodeId> =
            options.ring.configuration.members().iter().copied().filter(|peer| *peer != node).collect();
        let mut core = Core {
            outbox: Outbox::new(journal.appended(), FramePool::new(POOL_CHUNK_BYTES)),
            stages: Stages::new(&peers),
            options,
            clock,
            journal,
            network,
            acquaintances,
            service,
            mailbox,
            replicas: Replicas::default(),
            restoring,
            unwritten: VecDeque::new(),
            admitted_bytes: 0,
            received: Vec::new(),
            timers: Timers::default(),
            retrievals: Retrievals::default(),
            snapshots,
            truncation: Truncation::at_start(),
            scrubbing: Scrubbing::default(),
            events: Vec::new(),
            replies: Replies::default(),
            query_reply: Vec::new(),
            statistics: Statistics::default(),
            vitals,
            stopping: false,
            over: None,
        };
        core.acquaintances.recovered(&mut core.outbox);
        let now = core.clock.now();
        for ring in declared_rings {
            core.host(ring, now);
        }
        Ok(core)
    }

    /// Names the eventfd that everything which a parked core waits for signals.
    pub(crate) fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.journal.register_wake(eventfd)?;
        self.network.register_wake(eventfd)?;
        self.snapshots.register_wake(eventfd)?;
        self.service.as_mut().map_or(Ok(()), |service| service.register_wake(eventfd))
    }
}

/// What a disk gives back.
struct ReadBack<D: Disk> {
    journal: Journal<D>,
    snapshots: Snapshots,
    acquaintances: Acquaintances,
    restoring: HashMap<RingId, Restoring>,
}

impl<D: Disk> ReadBack<D> {
    /// Gives the declared rings the newest snapshots that are sound, and every ring its records.
    fn of(
        options: &CoreOptions,
        journal: Unrecovered<D>,
        vault: Box<dyn Vault>,
        declared: Vec<(RingId, Box<dyn StateMachine>)>,
    ) -> Result<ReadBack<D>, RestoreError> {
        let mut snapshots = Snapshots::open(vault, *journal.identity(), options.snapshots.clone())?;
        let mut room = RestoreRoom::new();
        let mut restoring: HashMap<RingId, Restoring> = HashMap::new();
        for (ring, machine) in declared {
            restoring.insert(ring, Restoring::declared(options.ring(ring), machine, &mut snapshots)?);
        }
        let mut acquaintances = Acquaintances::new(&options.ring);
        let mut refused = None;
        let journal = journal.recover(|lsn, frame| {
            let ring = frame.ring();
            let replayed = if frame.kind().is_of_core() {
                acquaintances.replay(lsn, &frame.header())
            } else {
                let undeclared = || Restoring::undeclared(options.ring(ring), &mut snapshots);
                restoring.entry(ring).or_insert_with(undeclared).replay(lsn, &frame, &mut room)
            };
            if let Err(why) = replayed {
                refused.get_or_insert(refusal(lsn, ring, why));
            }
        })?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        for (&ring, restoring) in &restoring {
            restoring.bridged().map_err(|why| refusal(journal.appended(), ring, why))?;
        }
        Ok(ReadBack { journal, snapshots, acquaintances, restoring })
    }
}

/// What is wrong with a record, or with the journal as a whole.
fn refusal(lsn: Lsn, ring: RingId, why: Ignored) -> RestoreError {
    if why == Ignored::Gap { RestoreError::Gap { ring } } else { RestoreError::Record { lsn, ring, why } }
}

impl CoreOptions {
    /// The options of one ring.
    pub fn ring(&self, ring: RingId) -> RingOptions {
        // Rings of one node must not stand for election in step.
        let seed = self.ring.seed ^ u64::from(ring.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        RingOptions { ring, seed, ..self.ring.clone() }
    }
}
