//! A node that runs out of file descriptors. A process of its own, because the limit is the process's.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use annulus::{Close, Completion, ConnectionId, Engine, JournalKind, Local, NodeId, Protocol, TcpService};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Answers each line with itself.
struct Echo;

impl Protocol for Echo {
    type Connection = ();

    fn receive(
        &mut self,
        (): &mut (),
        _id: ConnectionId,
        input: &[u8],
        output: &mut Vec<u8>,
        _local: &mut Local<'_>,
    ) -> Result<usize, Close> {
        output.extend_from_slice(input);
        Ok(input.len())
    }

    fn completed(&mut self, (): &mut (), _tag: u32, _completion: Completion<'_>, _output: &mut Vec<u8>) {}
}

fn echo_server() -> (Engine, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (bound, address) = channel();
    let bound = Mutex::new(bound);
    let engine = Engine::builder()
        .node(NodeId(1))
        .peer(NodeId(1), listener.local_addr().unwrap())
        .listener(listener)
        .journal(JournalKind::Memory)
        .service(move |_| {
            let service = TcpService::bind("127.0.0.1:0", Echo)?;
            bound.lock().unwrap().send(service.local_address()?).unwrap();
            Ok(Box::new(service))
        })
        .start()
        .unwrap();
    (engine, address.recv().unwrap())
}

fn is_served(stream: &TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut line = String::new();
    (&mut &*stream).write_all(b"hello\n").unwrap();
    BufReader::new(stream).read_line(&mut line).is_ok() && line == "hello\n"
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    let ticks = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(ticks.tv_sec.cast_unsigned(), ticks.tv_nsec.cast_unsigned() as u32)
}

#[test]
fn a_node_without_descriptors_rests_and_serves_again_when_there_are_some() {
    let (_engine, address) = echo_server();
    let served = TcpStream::connect(address).unwrap();
    assert!(is_served(&served, Duration::from_secs(10)));

    // This process is client and server: the client's end takes the last descriptor, the server's has none.
    let limit = getrlimit(Resource::Nofile);
    let next = std::fs::File::open("/dev/null").unwrap();
    let first_free = u64::from(next.as_raw_fd().cast_unsigned());
    setrlimit(Resource::Nofile, Rlimit { current: Some(first_free + 1), ..limit }).unwrap();
    drop(next);
    let waits = TcpStream::connect(address).unwrap();
    let (cpu, start) = (cpu_time(), Instant::now());
    assert!(!is_served(&waits, Duration::from_secs(1)), "there is no descriptor to serve it with");
    let share = cpu_time().saturating_sub(cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    assert!(share < 0.05, "a node that cannot accept must not spin: {share:.3} of a core");
    assert!(is_served(&served, Duration::from_secs(10)), "others are served meanwhile");

    setrlimit(Resource::Nofile, limit).unwrap();
    waits.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut line = String::new();
    BufReader::new(&waits).read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");
}
