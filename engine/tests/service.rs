//! Clients on the core: a protocol over TCP, backpressure, and proposals without a channel.

mod common;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::{
    Close, Completion, ConnectionId, Engine, JournalKind, Local, NodeId, Protocol, Rejected, RingHandle,
    Runner, Service, TcpService, TcpServiceOptions, Time,
};
use common::{Log, PATIENCE, RING};

/// One command per line; the reply is a line too. `quit` closes.
struct Lines;

impl Protocol for Lines {
    type Connection = ();

    fn receive(
        &mut self,
        (): &mut (),
        id: ConnectionId,
        input: &[u8],
        output: &mut Vec<u8>,
        local: &mut Local<'_>,
    ) -> Result<usize, Close> {
        let mut consumed = 0;
        while let Some(end) = input[consumed..].iter().position(|byte| *byte == b'\n') {
            let line = &input[consumed..consumed + end];
            if line == b"quit" {
                output.extend_from_slice(b"bye\n");
                return Err(Close);
            }
            match local.propose(RING, id.tag(7), line) {
                Ok(()) => {}
                Err(Rejected::Full { .. }) => return Ok(consumed),
                Err(why) => output.extend_from_slice(format!("error: {why}\n").as_bytes()),
            }
            consumed += end + 1;
        }
        Ok(consumed)
    }

    fn completed(&mut self, (): &mut (), tag: u32, completion: Completion<'_>, output: &mut Vec<u8>) {
        assert_eq!(tag, 7);
        if let Completion::Committed { reply, .. } = completion {
            output.extend_from_slice(reply);
            output.push(b'\n');
        } else {
            output.extend_from_slice(format!("{completion:?}\n").as_bytes());
        }
    }
}

fn single_node() -> annulus::Builder {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Engine::builder()
        .node(NodeId(1))
        .peer(NodeId(1), listener.local_addr().unwrap())
        .listener(listener)
        .journal(JournalKind::Memory)
}

fn create(engine: &Engine) -> RingHandle {
    let ring = engine.create_ring(RING, Log::default).unwrap();
    ring.wait_for_leader(PATIENCE).expect("a single node elects itself");
    ring
}

/// A node that serves lines, and where.
fn line_server(runner: Runner, options: TcpServiceOptions, queue_bytes_max: usize) -> (Engine, SocketAddr) {
    let (bound, address) = channel();
    let bound = Mutex::new(bound);
    let engine = single_node()
        .runner(runner)
        .batch_bytes_max(queue_bytes_max.min(64 << 10))
        .queue_bytes_max(queue_bytes_max)
        .service(move |_| {
            let service = TcpService::bind_with("127.0.0.1:0", Lines, options)?;
            bound.lock().unwrap().send(service.local_address()?).unwrap();
            Ok(Box::new(service))
        })
        .start()
        .unwrap();
    create(&engine);
    (engine, address.recv().unwrap())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn pipelined_lines_come_back_in_order_on_many_connections() {
    for runner in [Runner::Thread, Runner::Glommio] {
        let (_engine, address) = line_server(runner, TcpServiceOptions::default(), 4 << 20);
        std::thread::scope(|scope| {
            for client in 0..20 {
                scope.spawn(move || {
                    let mut stream = connect(address);
                    let lines: String = (0..100)
                        .fold(String::new(), |all, line| all + &format!("client {client} line {line}\n"));
                    stream.write_all(lines.as_bytes()).unwrap();
                    let mut replies = BufReader::new(stream);
                    for line in 0..100 {
                        let mut reply = String::new();
                        replies.read_line(&mut reply).unwrap();
                        assert!(reply.ends_with(&format!(":client {client} line {line}\n")), "{reply:?}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_full_queue_holds_clients_back_and_loses_no_line() {
    let (_engine, address) = line_server(Runner::Thread, TcpServiceOptions::default(), 512);
    let stream = connect(address);
    let mut writing = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for line in 0..5000 {
            writing.write_all(format!("line {line}\n").as_bytes()).unwrap();
        }
    });
    let mut replies = BufReader::new(stream);
    for line in 0..5000 {
        let mut reply = String::new();
        replies.read_line(&mut reply).unwrap();
        assert_eq!(reply, format!("{}:line {line}\n", line + 1));
    }
    writer.join().unwrap();
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let options = TcpServiceOptions { output_bytes_max: 4096, ..TcpServiceOptions::default() };
    let (engine, address) = line_server(Runner::Thread, options, 4 << 20);
    let mut deaf = connect(address);
    deaf.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    let refused = (0..100_000).any(|_| deaf.write_all(&line).is_err());
    assert!(refused, "100 MB were taken from a client that reads nothing");
    let mut other = connect(address);
    other.write_all(b"hello\n").unwrap();
    let mut reply = String::new();
    BufReader::new(other).read_line(&mut reply).unwrap();
    assert!(reply.ends_with(":hello\n"), "others are served: {reply:?}");
    drop(engine);
}

#[test]
fn connections_close_when_the_protocol_or_the_client_says_so_and_above_the_cap() {
    let options =
        TcpServiceOptions { connections_max: 2, input_bytes_max: 32 << 10, ..TcpServiceOptions::default() };
    let (_engine, address) = line_server(Runner::Thread, options, 4 << 20);
    let read_all = |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    let mut first = connect(address);
    first.write_all(b"quit\n").unwrap();
    assert_eq!(read_all(first).unwrap(), "bye\n");

    let mut gone = connect(address);
    gone.write_all(b"nobody waits for this\n").unwrap();
    drop(gone);

    let mut endless = connect(address);
    let _ = endless.write_all(&b"no end of line ".repeat(10_000));
    assert!(matches!(read_all(endless).as_deref(), Ok("") | Err(_)), "a request without end is cut off");

    let kept: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"held\n").unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream
        })
        .collect();
    let refused = connect(address);
    assert!(matches!(read_all(refused).as_deref(), Ok("") | Err(_)), "the third is refused");
    drop(kept);
}

/// Keeps a number of proposals under way, from the core itself.
struct Load {
    outstanding: VecDeque<u64>,
    next: u64,
    total: u64,
    done: Option<Sender<u64>>,
    woken: Arc<Mutex<u32>>,
}

impl Service for Load {
    fn turn(&mut self, local: &mut Local<'_>) -> usize {
        let mut proposed = 0;
        while self.outstanding.len() < 100 && self.next < self.total {
            match local.propose(RING, self.next, &self.next.to_le_bytes()) {
                Ok(()) => self.outstanding.push_back(self.next),
                Err(
                    Rejected::NotReady | Rejected::NoRing | Rejected::NotLeader(_) | Rejected::Full { .. },
                ) => break,
                Err(why) => panic!("{why}"),
            }
            self.next += 1;
            proposed += 1;
        }
        if local.rings().count() > 0 && local.statistics().turns > 0 && self.next == 1 {
            let status = local.status(RING).expect("the core hosts the ring");
            let mut reply = Vec::new();
            local.query(RING, b"", &mut reply).expect("the core hosts the ring");
            assert!(
                local.now() > Time(0)
                    && local.wall_ns() > 0
                    && status.progress.chosen >= status.progress.executed
            );
        }
        proposed
    }

    fn completed(&mut self, tag: u64, completion: Completion<'_>) {
        assert_eq!(self.outstanding.pop_front(), Some(tag), "in the order in which they were made");
        let Completion::Committed { reply, .. } = completion else { panic!("{completion:?}") };
        assert!(reply.ends_with(&tag.to_le_bytes()));
        if tag + 1 == self.total
            && let Some(done) = self.done.take()
        {
            done.send(tag).unwrap();
        }
    }

    fn flush(&mut self) {}

    fn prepare_park(&mut self) -> bool {
        *self.woken.lock().unwrap() += 1;
        // Whether it may propose is known only from trying: look again soon.
        self.next < self.total
    }

    fn register_wake(&mut self, _eventfd: std::os::fd::RawFd) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_service_proposes_in_place_and_each_proposal_completes_once_in_order() {
    for runner in [Runner::Thread, Runner::Glommio] {
        let (done, wait) = channel();
        let done = Mutex::new(Some(done));
        let woken = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&woken);
        let engine = single_node()
            .runner(runner)
            .service(move |_| {
                let done = done.lock().unwrap().take();
                let woken = Arc::clone(&seen);
                Ok(Box::new(Load { outstanding: VecDeque::new(), next: 0, total: 20_000, done, woken }))
            })
            .start()
            .unwrap();
        create(&engine);
        assert_eq!(wait.recv_timeout(PATIENCE), Ok(19_999), "{runner:?}");
        let statistics = engine.statistics();
        assert_eq!(statistics.commands_proposed, 20_000);
        assert_eq!(statistics.commands_executed, 20_000);
    }
}
