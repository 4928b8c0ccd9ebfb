//! M2: a core under a steady load asks the allocator for nothing.

#[path = "../../fuzz/src/allocation.rs"]
mod allocation;
mod common;

use std::io;
use std::net::TcpListener;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use allocation::{Counting, Tally};
use annulus::{
    Committed, Completion, Engine, JournalKind, Local, NodeId, Replies, Runner, Service, StateMachine,
};
use annulus::{RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter};
use common::{PATIENCE, RING};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
        for _command in committed.commands() {
            self.0 += 1;
            replies.push(&self.0.to_le_bytes());
        }
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        writer.record(&self.0.to_le_bytes());
        SnapshotStep::Done
    }

    fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        for record in reader.records() {
            let bytes = record.try_into().map_err(|_| RestoreFailure::unreadable("not 8 bytes"))?;
            self.0 = u64::from_le_bytes(bytes);
        }
        Ok(())
    }
}

/// Keeps 200 commands under way and looks at the allocator when it is warm and at the end.
struct Load {
    proposed: u64,
    completed: u64,
    warm: Option<Tally>,
    done: Option<Sender<u64>>,
}

const WARM_AFTER: u64 = 600_000;
const TOTAL: u64 = 1_200_000;

impl Service for Load {
    fn turn(&mut self, local: &mut Local<'_>) -> usize {
        let mut taken = 0;
        while self.proposed - self.completed < 200 && self.proposed < TOTAL {
            if local.propose(RING, self.proposed, &[7; 64]).is_err() {
                break;
            }
            self.proposed += 1;
            taken += 1;
        }
        taken
    }

    fn completed(&mut self, _tag: u64, completion: Completion<'_>) {
        assert!(matches!(completion, Completion::Committed { .. }));
        self.completed += 1;
        if self.completed == WARM_AFTER {
            self.warm = Some(Tally::now());
        }
        if self.completed == TOTAL
            && let (Some(done), Some(warm)) = (self.done.take(), self.warm)
        {
            done.send(warm.elapsed().allocations).unwrap();
        }
    }

    fn flush(&mut self) {}

    fn prepare_park(&mut self) -> bool {
        self.proposed < TOTAL
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_steady_turn_of_a_core_allocates_nothing() {
    let (done, allocations) = channel();
    let done = Mutex::new(Some(done));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let engine = Engine::builder()
        .node(NodeId(1))
        .peer(NodeId(1), listener.local_addr().unwrap())
        .listener(listener)
        .journal(JournalKind::Memory)
        .memory_bytes_max(64 << 20)
        .segment_bytes(8 << 20)
        .runner(Runner::Thread)
        .service(move |_| {
            let done = done.lock().unwrap().take();
            Ok(Box::new(Load { proposed: 0, completed: 0, warm: None, done }))
        })
        .ring(RING, || Counter(0))
        .start()
        .unwrap();
    let allocations = allocations.recv_timeout(PATIENCE).expect("the load ends");
    let batches = engine.statistics().batches_proposed;
    // What is left: the journal makes and indexes a segment now and then.
    assert!(allocations < batches / 20, "{allocations} allocations in about {} batches", batches / 2);
}
