//! Three key-value servers as clients meet them: Redis' own tools, redirection, reads at a replica.
//!
//! `redis-cli` and `redis-benchmark` are needed (Debian: `redis-tools`).

#[path = "kv/client.rs"]
mod client;
#[path = "kv/cluster.rs"]
mod cluster;
#[path = "kv/transcript.rs"]
mod transcript;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use client::{Client, Reply};
use cluster::{Cluster, NODES};
use transcript::Partner;

#[test]
fn a_cluster_serves_as_redis_does() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster::start_in(directory.path());
    let leader = cluster.leader();
    let port = cluster.node(leader).port;
    transcript::assert_all(|| Conversation::with(port));
    redis_cli_follows_redirection(&cluster, leader);
    a_replica_redirects_or_answers_from_what_it_has(&cluster, leader);
    redis_benchmark_runs(port);
    replies_stay_in_the_order_of_requests(port);
    what_is_too_large_is_refused_and_the_connection_goes_on(port);
    quitting_behind_commands_in_flight_loses_no_reply(port);
}

fn redis_cli_follows_redirection(cluster: &Cluster, leader: usize) {
    let other = cluster.node((leader + 1) % NODES).port.to_string();
    let output = run("redis-cli", &["-c", "-p", &other, "set", "greeting", "hello, world"]);
    assert_eq!(output.trim(), "OK");
    let output = run("redis-cli", &["-c", "-p", &other, "get", "greeting"]);
    assert_eq!(output.trim(), "hello, world");
    let output = run("redis-cli", &["-p", &other, "--no-raw", "command", "count"]);
    assert!(output.starts_with("(integer) "), "{output}");
}

fn a_replica_redirects_or_answers_from_what_it_has(cluster: &Cluster, leader: usize) {
    let (index, port) = ((leader + 1) % NODES, cluster.node(leader).port);
    let mut client = Client::connect(cluster.node(index).port).unwrap();
    // Slot 12182 is that of "foo" in any Redis cluster.
    let moved = Reply::Error(format!("MOVED 12182 127.0.0.1:{port}"));
    assert_eq!(client.call(&[b"GET", b"foo"]).unwrap(), moved);
    assert_eq!(client.call(&[b"READONLY"]).unwrap(), Reply::Status("OK".to_owned()));
    assert_eq!(client.call(&[b"SET", b"foo", b"bar"]).unwrap(), moved, "writes are the leader's");
    let mut writer = Client::connect(port).unwrap();
    writer.call(&[b"SET", b"foo", b"bar"]).unwrap();
    let bar = Reply::Bulk(Some(b"bar".to_vec()));
    cluster
        .wait_for("what the leader wrote", || (client.call(&[b"GET", b"foo"]).unwrap() == bar).then_some(()));
    assert_eq!(client.call(&[b"READWRITE"]).unwrap(), Reply::Status("OK".to_owned()));
    assert_eq!(client.call(&[b"GET", b"foo"]).unwrap(), moved);
}

fn redis_benchmark_runs(port: u16) {
    let port = port.to_string();
    let arguments =
        ["-p", &port, "-t", "ping,set,get,incr,mset", "-n", "2000", "-P", "16", "-r", "100", "--csv"];
    let output = run("redis-benchmark", &arguments);
    assert_eq!(output.lines().count(), 7, "a heading and six tests: {output}");
}

fn replies_stay_in_the_order_of_requests(port: u16) {
    let mut client = Client::connect(port).unwrap();
    client.call(&[b"DEL", b"order"]).unwrap();
    for number in 0..1000 {
        client.push(&[b"INCR", b"order"]);
        client.push(&[b"ECHO", number.to_string().as_bytes()]);
        client.push(&[b"nosuch"]);
    }
    client.flush().unwrap();
    for number in 0..1000 {
        assert_eq!(client.reply().unwrap(), Reply::Integer(number + 1));
        assert_eq!(client.reply().unwrap(), Reply::Bulk(Some(number.to_string().into_bytes())));
        assert!(
            matches!(client.reply().unwrap(), Reply::Error(error) if error.starts_with("ERR unknown command"))
        );
    }
}

fn what_is_too_large_is_refused_and_the_connection_goes_on(port: u16) {
    let mut client = Client::connect(port).unwrap();
    for bytes in [(1 << 20) - 5, 1 << 20, (1 << 20) + 1, 20 << 20] {
        let Reply::Error(error) = client.call(&[b"SET", b"large", &vec![b'v'; bytes]]).unwrap() else {
            panic!("{bytes} bytes were taken");
        };
        assert!(
            error.starts_with("ERR the command has ") && error.contains("can be replicated at once"),
            "{error}"
        );
    }
    let largest = vec![b'v'; (1 << 20) - 64];
    assert_eq!(client.call(&[b"SET", b"large", &largest]).unwrap(), Reply::Status("OK".to_owned()));
    assert_eq!(client.call(&[b"GET", b"large"]).unwrap(), Reply::Bulk(Some(largest)));
}

fn quitting_behind_commands_in_flight_loses_no_reply(port: u16) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(b"SET a 1\r\nSET a 2\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).expect("the server closes the connection");
    assert_eq!(received, "+OK\r\n+OK\r\n");
    for (last, reply) in
        [(&b"QUIT\r\n"[..], "+OK\r\n"), (b"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n")]
    {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&[b"SET a 1\r\nSET a 2\r\n", last].concat()).unwrap();
        let expected = format!("+OK\r\n+OK\r\n{reply}");
        let mut received = String::new();
        stream.read_to_string(&mut received).expect("the server closes the connection");
        assert_eq!(received, expected);
    }
}

/// What a program prints; it must succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error} (Debian: apt-get install redis-tools)"));
    let stdout = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// One connection after the other to a server with an empty database.
struct Conversation {
    port: u16,
    stream: TcpStream,
    start: Instant,
}

impl Conversation {
    fn with(port: u16) -> Conversation {
        Client::connect(port).unwrap().call(&[b"FLUSHALL"]).unwrap();
        Conversation {
            port,
            stream: TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(),
            start: Instant::now(),
        }
    }
}

impl Partner for Conversation {
    fn send(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        // The echo comes back behind the reply: then this is all of it.
        const ECHO: &[u8] = b"$11\r\nend of it.\0\r\n";
        let sent = self.stream.write_all(&[bytes, b"*2\r\n$4\r\nECHO\r\n", ECHO].concat());
        sent.expect("the connection was open");
        let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
        while !reply.ends_with(ECHO) {
            match self.stream.read(&mut buffer) {
                Ok(bytes) if bytes > 0 => reply.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
                _ => {
                    self.stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
                    return (reply, true);
                }
            }
        }
        reply.truncate(reply.len() - ECHO.len());
        (reply, false)
    }

    fn wait_until(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms).saturating_sub(self.start.elapsed()));
    }
}
