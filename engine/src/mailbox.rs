//! The mailbox of a core: how other threads reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use annulus_rings::RingId;
use annulus_transport::Waker;
use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::core::CoreReport;
use crate::error::CreateError;
use crate::status::StatusCell;
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
    letters: Sender<Letter>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    waker: Waker,
}

/// The core's side.
pub(crate) struct MailboxReceiver {
    letters: Receiver<Letter>,
    bytes: Arc<AtomicUsize>,
}

/// Letters that wait, at the most.
const LETTERS_MAX: usize = 64 << 10;

/// A mailbox whose letters carry at most `bytes_max` bytes of commands; posting wakes the core.
pub(crate) fn mailbox(bytes_max: usize, waker: Waker) -> (Mailbox, MailboxReceiver) {
    let (letters, receiver) = crossbeam_channel::bounded(LETTERS_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let sender = Mailbox { letters, bytes: Arc::clone(&bytes), bytes_max, waker };
    (sender, MailboxReceiver { letters: receiver, bytes })
}

impl Mailbox {
    /// Posts a letter that carries `bytes` of command, or hands it back.
    pub(crate) fn post(&self, bytes: usize, letter: Letter) -> Result<(), (Rejected, Letter)> {
        if bytes > self.bytes_max {
            return Err((Rejected::TooLarge { bytes, bytes_max: self.bytes_max }, letter));
        }
        let queued_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if bytes > 0 && queued_bytes + bytes > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err((Rejected::Full { queued_bytes }, letter));
        }
        let refused = match self.letters.try_send(letter) {
            Ok(()) => {
                self.waker.notify();
                return Ok(());
            }
            Err(TrySendError::Full(letter)) => (Rejected::Full { queued_bytes }, letter),
            Err(TrySendError::Disconnected(letter)) => (Rejected::ShuttingDown, letter),
        };
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Err(refused)
    }

    /// Posts a letter that must not be refused for want of room, waiting for it if need be.
    pub(crate) fn post_surely(&self, letter: Letter) -> Result<(), Rejected> {
        self.letters.send(letter).map_err(|_| Rejected::ShuttingDown)?;
        self.waker.notify();
        Ok(())
    }

    /// As [`post_surely`](Self::post_surely), but gives up after `timeout`.
    pub(crate) fn post_within(&self, letter: Letter, timeout: Duration) -> Result<(), Rejected> {
        self.letters.send_timeout(letter, timeout).map_err(|_| Rejected::ShuttingDown)?;
        self.waker.notify();
        Ok(())
    }
}

impl MailboxReceiver {
    /// A mailbox that nobody can post to.
    pub(crate) fn of_nobody() -> MailboxReceiver {
        MailboxReceiver { letters: crossbeam_channel::never(), bytes: Arc::default() }
    }

    /// The next letter, if one waits.
    pub(crate) fn take(&self) -> Option<Letter> {
        let letter = self.letters.try_recv().ok()?;
        if let Letter::Propose { promise, .. } | Letter::Query { promise, .. } = &letter {
            self.bytes.fetch_sub(promise.command_bytes(), Ordering::Relaxed);
        }
        Some(letter)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }
}
