//! Compares the receive paths: a 64-byte ping-pong and a stream, over loopback TCP, in interleaved rounds.
//!
//! `cargo run --release -p annulus-transport --example receive_paths`

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, Frame, FrameHeader, Kind, NodeId, RingId, Slot, Time,
};
use annulus_transport::{FabricOptions, Network, ReceivePath, TcpFabric, TcpNetwork, TcpOptions};
use bytes::BytesMut;

const ROUNDS: usize = 5;
const LOAD: Duration = Duration::from_millis(500);
const BURST: u64 = 64;
const PATHS: [ReceivePath; 2] = [ReceivePath::Recv, ReceivePath::Multishot];

/// Median round trip, and frames per second of a stream.
#[derive(Clone, Copy)]
struct Measured {
    round_trip_us: f64,
    frames_per_second: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    for payload_bytes in [64, 4096] {
        println!("payload {payload_bytes} B      round trip p50 µs        stream frames/s");
        let mut all: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (path, measured) in PATHS.into_iter().zip(&mut all) {
                measured.push(measure(path, payload_bytes)?);
            }
        }
        for (path, measured) in PATHS.iter().zip(&all) {
            let [low, middle, high] = spread(measured, |one| one.round_trip_us);
            let [slow, usual, fast] = spread(measured, |one| one.frames_per_second);
            let name = format!("{path:?}");
            println!("  {name:<12} {middle:8.1} [{low:.1}–{high:.1}]   {usual:10.0} [{slow:.0}–{fast:.0}]");
        }
        let ratio = |of: fn(&Measured) -> f64| spread(&all[1], of)[1] / spread(&all[0], of)[1];
        println!(
            "  multishot ÷ recv: round trip {:.2}, stream {:.2}",
            ratio(|one| one.round_trip_us),
            ratio(|one| one.frames_per_second)
        );
    }
    Ok(())
}

/// Least, median and greatest.
fn spread(measured: &[Measured], of: fn(&Measured) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = measured.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

fn measure(path: ReceivePath, payload_bytes: usize) -> Result<Measured, Box<dyn Error>> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let addresses = [listeners[0].local_addr()?, listeners[1].local_addr()?];
    let [first, second] = listeners;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let echo = scope.spawn(|| echo(path, second, addresses, &stop).map_err(|error| error.to_string()));
        let measured = lead(path, first, addresses, payload_bytes);
        stop.store(true, Ordering::Relaxed);
        echo.join().map_err(|_| "the echo thread panicked")??;
        measured
    })
}

fn open(
    path: ReceivePath,
    node: u16,
    listener: TcpListener,
    addresses: [SocketAddr; 2],
) -> Result<(TcpFabric, TcpNetwork), Box<dyn Error>> {
    let mut options = FabricOptions::new(ClusterId(7), NodeId(node));
    options.nodes = BTreeMap::from([(NodeId(1), addresses[0].into()), (NodeId(2), addresses[1].into())]);
    let (fabric, mut ports) = TcpFabric::start_on(listener, options)?;
    let network =
        TcpNetwork::open(ports.remove(0), TcpOptions { receive_path: path, ..TcpOptions::default() })?;
    Ok((fabric, network))
}

/// Sends a frame back for every one that asks for it (chosen = 1), and for the last of a stream.
fn echo(
    path: ReceivePath,
    listener: TcpListener,
    addresses: [SocketAddr; 2],
    stop: &AtomicBool,
) -> Result<(), Box<dyn Error>> {
    let (_fabric, mut network) = open(path, 2, listener, addresses)?;
    let start = Instant::now();
    let mut received = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Time(start.elapsed().as_nanos() as u64);
        if network.poll(now, &mut received) == 0 {
            thread::yield_now();
        }
        for arrival in received.drain(..) {
            let header = arrival.frame.header();
            if header.chosen == Slot(1) {
                network.send(NodeId(1), frame(2, header.slot.0, 1, 0));
            }
        }
        network.flush(now);
    }
    Ok(())
}

fn lead(
    path: ReceivePath,
    listener: TcpListener,
    addresses: [SocketAddr; 2],
    payload_bytes: usize,
) -> Result<Measured, Box<dyn Error>> {
    let (_fabric, mut network) = open(path, 1, listener, addresses)?;
    let start = Instant::now();
    let clock = || Time(start.elapsed().as_nanos() as u64);
    let mut received = Vec::new();
    while !network.peers()[0].is_connected() {
        network.poll(clock(), &mut received);
        thread::yield_now();
    }

    let mut round_trips_us = Vec::new();
    let playing = Instant::now();
    while playing.elapsed() < LOAD {
        let sent = Instant::now();
        network.send(NodeId(2), frame(1, 0, 1, 64));
        network.flush(clock());
        while network.poll(clock(), &mut received) == 0 {
            thread::yield_now();
        }
        received.clear();
        round_trips_us.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    round_trips_us.sort_by(f64::total_cmp);

    // A window of bursts: the last frame of each asks for an answer.
    let (plain, asking) = (frame(1, 0, 0, payload_bytes), frame(1, 0, 1, payload_bytes));
    let streaming = Instant::now();
    let (mut bursts, mut answers) = (0, 0);
    while streaming.elapsed() < LOAD {
        while bursts - answers < 8 {
            for _ in 1..BURST {
                network.send(NodeId(2), plain.clone());
            }
            network.send(NodeId(2), asking.clone());
            bursts += 1;
        }
        network.flush(clock());
        let arrived = network.poll(clock(), &mut received) as u64;
        received.clear();
        answers += arrived;
        if arrived == 0 {
            thread::yield_now();
        }
    }
    let frames_per_second = (answers * BURST) as f64 / streaming.elapsed().as_secs_f64();
    Ok(Measured { round_trip_us: round_trips_us[round_trips_us.len() / 2], frames_per_second })
}

fn frame(sender: u16, slot: u64, chosen: u64, payload_bytes: usize) -> Frame {
    let header = FrameHeader {
        kind: Kind::Accept,
        cluster: ClusterId(7),
        ring: RingId(1),
        configuration: ConfigurationId(1),
        sender: NodeId(sender),
        ballot: Ballot::ZERO,
        slot: Slot(slot),
        chosen: Slot(chosen),
        commands: 0,
        words: [0; 4],
    };
    Frame::seal(BytesMut::zeroed(HEADER_BYTES + payload_bytes), &header)
}
