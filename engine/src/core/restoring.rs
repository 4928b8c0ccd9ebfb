//! A ring whose journal is being read back, and what becomes of its chosen slots meanwhile.
//!
//! A ring that was declared before the start has its state machine already: slots are executed as they are
//! read, and forgotten. One that is created later has not: its slots are kept until then. So declare rings
//! with long journals. Either begins with the newest snapshot that is sound.

use annulus_rings::{
    Event, Frame, FramePool, Ignored, Lsn, Outbox, Recovering, Ring, RingOptions, Slot, Time,
};

use super::executor::Executor;
use super::snapshots::{RestoreMachineError, Snapshots};
use crate::{Replies, StateMachine};

/// One ring of the journal.
pub(crate) struct Restoring {
    recovering: Recovering,
    /// The snapshot that it starts from covers every slot below.
    base: Slot,
    /// Chosen slots that wait for the state machine.
    kept: Vec<(Slot, Frame)>,
    executor: Option<Executor>,
}

/// What the rings of a core share while they are restored.
pub(crate) struct RestoreRoom {
    outbox: Outbox,
    replies: Replies,
}

impl RestoreRoom {
    pub(crate) fn new() -> RestoreRoom {
        // Nothing is appended or sent while a journal is read back: only events come out.
        RestoreRoom { outbox: Outbox::new(Lsn(0), FramePool::new(0)), replies: Replies::default() }
    }
}

impl Restoring {
    /// A ring whose state machine is there already: it takes the newest snapshot, or an older one where that is
    /// damaged.
    ///
    /// # Errors
    /// The machine takes no snapshot.
    pub(crate) fn declared(
        options: RingOptions,
        machine: Box<dyn StateMachine>,
        snapshots: &mut Snapshots,
    ) -> Result<Restoring, RestoreMachineError> {
        let mut executor = Executor::new(machine);
        let base = snapshots.restore(&options, &mut executor)?;
        let recovering = Recovering::restored(options, base);
        Ok(Restoring { recovering, base, kept: Vec::new(), executor: Some(executor) })
    }

    /// A ring whose state machine comes later.
    pub(crate) fn undeclared(options: RingOptions, snapshots: &mut Snapshots) -> Restoring {
        let base = snapshots.verify(&options);
        Restoring { recovering: Recovering::restored(options, base), base, kept: Vec::new(), executor: None }
    }

    /// Gives the ring its state machine: it takes the snapshot that the ring starts from, and then executes what
    /// was kept for it.
    ///
    /// # Errors
    /// The machine takes no snapshot, or the snapshot was damaged since the start.
    pub(crate) fn attach(
        &mut self,
        machine: Box<dyn StateMachine>,
        snapshots: &mut Snapshots,
        room: &mut RestoreRoom,
    ) -> Result<(), RestoreMachineError> {
        let mut executor = Executor::new(machine);
        snapshots.restore_at(self.recovering.options(), self.base, &mut executor)?;
        room.replies.reset(false);
        for (slot, frame) in self.kept.drain(..) {
            executor.execute(slot, &frame, &mut room.replies);
        }
        self.executor = Some(executor);
        Ok(())
    }

    /// What the journal must keep of the ring.
    pub(crate) fn needed(&self) -> Lsn {
        self.recovering.needed()
    }

    /// Takes the next record of the ring.
    pub(crate) fn replay(&mut self, lsn: Lsn, frame: &Frame, room: &mut RestoreRoom) -> Result<(), Ignored> {
        self.recovering.replay(lsn, frame, &mut room.outbox)?;
        room.replies.reset(false);
        for event in room.outbox.events.drain(..) {
            let Event::Chosen { slot, frame, .. } = event else { continue };
            match &mut self.executor {
                Some(executor) => executor.execute(slot, &frame, &mut room.replies),
                None => self.kept.push((slot, frame)),
            }
            // A slot that is kept is safe too: it is executed before the ring lives.
            self.recovering.executed(slot);
        }
        Ok(())
    }

    /// Whether the journal makes up the whole log, once it has ended.
    pub(crate) fn bridged(&self) -> Result<(), Ignored> {
        self.recovering.bridged()
    }

    /// The ring over a journal that is durable up to what `outbox` has appended, and its state.
    pub(crate) fn finish(self, now: Time, outbox: &Outbox) -> (Ring, Executor) {
        let executor = self.executor.expect("a ring has its state machine before it lives");
        (self.recovering.recovered(now, outbox), executor)
    }
}
