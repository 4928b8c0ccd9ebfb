//! A replicated counter. Start three, each in a terminal of its own, and type lines into the leader's:
//! `cargo run --example counter -- 1`, `-- 2` and `-- 3`.
use annulus::{Committed, Engine, NodeId, Replies, RingId, StateMachine};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
        for _line in committed.commands() {
            self.0 += 1;
            replies.push(format!("counted {}", self.0).as_bytes());
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = std::env::args().nth(1).ok_or("which node is this: 1, 2 or 3?")?.parse()?;
    let address = |node: u16| format!("127.0.0.1:{}", 7100 + node);
    let engine = Engine::builder()
        .node(NodeId(node))
        .peers((1..=3).map(|peer| (NodeId(peer), address(peer))))
        .data_dir(format!("counter-{node}"))
        .start()?;
    let ring = engine.create_ring(RingId(1), Counter::default)?;
    for line in std::io::stdin().lines() {
        println!("{:?}", ring.propose(line?.as_bytes()).wait());
    }
    Ok(())
}
