//! The mailbox of a core: how other threads reach it.

use std::sync::Arc;

use annulus_rings::{RingId, reach};
use annulus_transport::Waker;
use crossbeam_channel::Sender;

use crate::core::CoreReport;
use crate::error::CreateError;
use crate::status::StatusCell;
use crate::sync::channel::{self, Receiver, SendError};
use crate::sync::{AtomicUsize, Ordering};
use crate::ticket::Promise;
use crate::{Rejected, StateMachine};

/// Builds a state machine on the core that owns it.
pub type MachineFactory = Box<dyn FnOnce() -> Box<dyn StateMachine> + Send>;

/// What other threads ask of a core.
pub(crate) enum Letter {
    /// Replicate the command in the promise.
    Propose {
        /// The ring.
        ring: RingId,
        /// Command and client.
        promise: Promise,
    },
    /// Answer from the local state.
    Query {
        /// The ring.
        ring: RingId,
        /// Query and client.
        promise: Promise,
    },
    /// Host a ring.
    Create {
        /// The ring.
        ring: RingId,
        /// Its state machine.
        machine: MachineFactory,
        /// Where the replica's status is shown, or why there is none.
        created: Sender<Result<Arc<StatusCell>, CreateError>>,
    },
    /// Show where a ring stands that is hosted already.
    Find {
        /// The ring.
        ring: RingId,
        /// Where the replica's status is shown.
        found: Sender<Option<Arc<StatusCell>>>,
    },
    /// Take a snapshot of a ring as soon as that can be.
    Snapshot {
        /// The ring.
        ring: RingId,
    },
    /// Take none until further notice, or as many as are due again.
    HoldSnapshots {
        /// The ring.
        ring: RingId,
        /// Whether none is to be taken.
        is_held: bool,
    },
    /// Tell what was measured.
    Report(
        /// Where to.
        Sender<CoreReport>,
    ),
    /// End.
    Stop,
}

/// The sender's side: bounded in letters and in bytes (M1).
#[derive(Clone)]
pub(crate) struct Mailbox {
    letters: channel::Sender<Letter>,
    load: Arc<Load>,
    bytes_max: usize,
    waker: Waker,
}

/// The core's side.
pub(crate) struct MailboxReceiver {
    letters: Receiver<Letter>,
    load: Arc<Load>,
}

/// What waits.
#[derive(Default)]
struct Load {
    bytes: AtomicUsize,
    letters: AtomicUsize,
}

/// Letters that wait, at the most.
const LETTERS_MAX: usize = 64 << 10;

/// A mailbox whose letters carry at most `bytes_max` bytes of commands; posting wakes the core.
///
/// The bounds are its own, not the channel's: a bounded channel of crossbeam keeps what is sent while its
/// receiver goes away, and with it the promise on which a client waits; an unbounded one lets go of it.
pub(crate) fn mailbox(bytes_max: usize, waker: Waker) -> (Mailbox, MailboxReceiver) {
    let (letters, receiver) = channel::unbounded();
    let load = Arc::new(Load::default());
    let sender = Mailbox { letters, load: Arc::clone(&load), bytes_max, waker };
    (sender, MailboxReceiver { letters: receiver, load })
}

impl Load {
    /// Takes room for a letter; the bytes that wait, when there is none.
    fn take(&self, bytes: usize, bytes_max: usize) -> Result<(), usize> {
        let queued_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let queued_letters = self.letters.fetch_add(1, Ordering::Relaxed);
        if bytes > 0 && queued_bytes + bytes > bytes_max || queued_letters >= LETTERS_MAX {
            self.give_back(bytes);
            return Err(queued_bytes);
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.letters.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Mailbox {
    /// Posts a letter that carries `bytes` of command, or hands it back.
    pub(crate) fn post(&self, bytes: usize, letter: Letter) -> Result<(), (Rejected, Letter)> {
        if bytes > self.bytes_max {
            return Err((Rejected::TooLarge { bytes, bytes_max: self.bytes_max }, letter));
        }
        if let Err(queued_bytes) = self.load.take(bytes, self.bytes_max) {
            reach!(MAILBOX_FULL);
            return Err((Rejected::Full { queued_bytes }, letter));
        }
        self.letters.send(letter).map_err(|SendError(letter)| {
            self.load.give_back(bytes);
            (Rejected::ShuttingDown, letter)
        })?;
        self.waker.notify();
        Ok(())
    }

    /// Posts a letter that must not be refused for want of room.
    pub(crate) fn post_surely(&self, letter: Letter) -> Result<(), Rejected> {
        self.load.letters.fetch_add(1, Ordering::Relaxed);
        self.letters.send(letter).map_err(|_| Rejected::ShuttingDown)?;
        self.waker.notify();
        Ok(())
    }
}

impl MailboxReceiver {
    /// A mailbox that nobody can post to.
    pub(crate) fn of_nobody() -> MailboxReceiver {
        MailboxReceiver { letters: channel::unbounded().1, load: Arc::default() }
    }

    /// The next letter, if one waits.
    pub(crate) fn take(&self) -> Option<Letter> {
        let letter = self.letters.try_recv().ok()?;
        self.load.give_back(match &letter {
            Letter::Propose { promise, .. } | Letter::Query { promise, .. } => promise.command_bytes(),
            _ => 0,
        });
        Some(letter)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }
}
