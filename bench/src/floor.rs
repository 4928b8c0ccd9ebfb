//! The floor: what one commit cannot beat on this machine, measured as the engine works.
//!
//! A commit needs a round trip to a follower and a durable write. The round trip is between two threads
//! on the CPUs of the leader and of a follower, over TCP, each spinning briefly and then parking, as cores
//! do. The write is 4 KiB through the engine's own disk, while every other replica writes to the same
//! disk at the same time, since replicas on one machine do.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use annulus::{ClusterId, CoreId, NodeId};
use annulus_storage::{
    AlignedBuffer, Completion, DataDir, Disk, FileDisk, Position, SegmentHeader, SegmentId, SyncMode,
};
use hdrhistogram::Histogram;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use serde::{Deserialize, Serialize};

use crate::meter::latency_histogram;
use crate::patience::Patience;
use crate::placement::Placement;
use crate::process;

/// The floor of one commit. Field names are stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Floor {
    /// Median round trip of 64 bytes over TCP on loopback.
    pub(crate) tcp_rtt_us_p50: f64,
    /// Median durable write of 4 KiB beside the other replicas' writes; none without a disk.
    pub(crate) durable_write_us_p50: Option<f64>,
}

/// How long each part is measured.
const MEASURE: Duration = Duration::from_secs(1);
/// Before that, nothing counts.
const WARM_UP: Duration = Duration::from_millis(200);
/// Bytes of a ping: a small command.
const PING_BYTES: usize = 64;
/// Bytes of the smallest write that is durable on its own.
const WRITE_BYTES: usize = 4096;
/// The file that is written again and again.
const SEGMENT_BYTES: u64 = 8 << 20;

impl Floor {
    /// Round trip and write, or the round trip alone.
    pub(crate) fn total_us(&self) -> f64 {
        self.tcp_rtt_us_p50 + self.durable_write_us_p50.unwrap_or(0.0)
    }

    /// The floor in the middle, part by part.
    pub(crate) fn median(floors: &[Floor]) -> Floor {
        let middle = |part: &dyn Fn(&Floor) -> Option<f64>| {
            let mut parts: Vec<f64> = floors.iter().filter_map(part).collect();
            parts.sort_by(f64::total_cmp);
            (!parts.is_empty()).then(|| parts[(parts.len() - 1) / 2])
        };
        Floor {
            tcp_rtt_us_p50: middle(&|floor| Some(floor.tcp_rtt_us_p50)).unwrap_or(0.0),
            durable_write_us_p50: middle(&|floor| floor.durable_write_us_p50),
        }
    }
}

fn median_us(histogram: &Histogram<u64>) -> f64 {
    histogram.value_at_quantile(0.5) as f64 / 1e3
}

/// The median round trip between the CPUs of the leader and of a follower, µs.
pub(crate) fn tcp_round_trip_us(placement: &Placement, spin: Duration) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let follower = placement.replicas.get(1).or(placement.replicas.first()).cloned().unwrap_or_default();
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || {
            pin(&follower)?;
            let (stream, _) = listener.accept()?;
            echo(stream, spin)
        });
        let ping = scope.spawn(|| {
            pin(&placement.replicas[0])?;
            ping(TcpStream::connect(address)?, spin)
        });
        let histogram = ping.join().expect("the pinging thread panicked")?;
        echo.join().expect("the echoing thread panicked")?;
        Ok(median_us(&histogram))
    })
}

fn pin(cpus: &[usize]) -> io::Result<()> {
    cpus.first().map_or(Ok(()), |&cpu| process::pin_this_thread(&[cpu]))
}

fn ping(mut stream: TcpStream, spin: Duration) -> io::Result<Histogram<u64>> {
    prepare(&stream)?;
    let mut histogram = latency_histogram();
    let mut bytes = [7; PING_BYTES];
    let began = Instant::now();
    while began.elapsed() < WARM_UP + MEASURE {
        let sent = Instant::now();
        stream.write_all(&bytes)?;
        receive(&mut stream, &mut bytes, spin)?;
        if began.elapsed() > WARM_UP {
            histogram.saturating_record(sent.elapsed().as_nanos() as u64);
        }
    }
    Ok(histogram)
}

fn echo(mut stream: TcpStream, spin: Duration) -> io::Result<()> {
    prepare(&stream)?;
    let mut bytes = [0; PING_BYTES];
    loop {
        match receive(&mut stream, &mut bytes, spin) {
            Ok(()) => stream.write_all(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)
}

/// Fills `bytes` from the socket, waiting as a core does.
fn receive(stream: &mut TcpStream, bytes: &mut [u8], spin: Duration) -> io::Result<()> {
    let mut patience = Patience::new(spin);
    let began = Instant::now();
    let mut filled = 0;
    while filled < bytes.len() {
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if patience.is_over(began.elapsed().as_nanos() as u64) {
                    park(stream)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sleeps until `descriptor` is readable.
fn park(descriptor: &impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(descriptor, PollFlags::IN)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The median write of all writers, µs: one per replica, on its CPU, with a file of its own in `directory`.
pub(crate) fn durable_write_us(
    directory: &Path,
    placement: &Placement,
    spin: Duration,
) -> Result<f64, String> {
    let start = AtomicBool::new(false);
    let ready = std::sync::Barrier::new(placement.replicas.len() + 1);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, cpus) in placement.replicas.iter().enumerate() {
            let (start, ready) = (&start, &ready);
            threads.push(scope.spawn(move || {
                let writer = Writer::open(&directory.join(format!("floor-{index}")), cpus);
                // Whoever failed to open must not keep the others waiting.
                ready.wait();
                while !start.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                writer?.measure(spin)
            }));
        }
        ready.wait();
        start.store(true, Ordering::Release);
        let mut all = latency_histogram();
        for thread in threads {
            let histogram = thread.join().expect("a writing thread panicked")?;
            all.add(histogram).expect("both histograms have the same bounds");
        }
        Ok(median_us(&all))
    })
}

/// Writes 4 KiB after 4 KiB, each durable before the next, by the engine's own disk.
struct Writer {
    disk: FileDisk,
    wake: OwnedFd,
    completions: Vec<Completion>,
}

impl Writer {
    /// A writer with a zero-filled file in `directory`, as segments are.
    fn open(directory: &Path, cpus: &[usize]) -> Result<Writer, String> {
        pin(cpus).map_err(|error| error.to_string())?;
        let data = DataDir::open(directory, ClusterId(1), NodeId(1), 1).map_err(|error| error.to_string())?;
        let core = data.core(CoreId(0));
        let mut disk = FileDisk::open(&core, SyncMode::Dsync).map_err(|error| error.to_string())?;
        let wake =
            eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|error| error.to_string())?;
        disk.register_wake(wake.as_raw_fd()).map_err(|error| error.to_string())?;
        let header =
            SegmentHeader { identity: core.identity(), segment: SegmentId::FIRST, bytes: SEGMENT_BYTES };
        disk.prepare(header, true);
        let mut writer = Writer { disk, wake, completions: Vec::new() };
        match writer.wait(Duration::ZERO)? {
            Completion::Prepared { result, .. } => result.map_err(|error| error.to_string())?,
            _ => return Err("the disk completes what was not asked for".to_owned()),
        }
        Ok(writer)
    }

    fn measure(mut self, spin: Duration) -> Result<Histogram<u64>, String> {
        let mut histogram = latency_histogram();
        let mut buffer = AlignedBuffer::new(WRITE_BYTES);
        buffer.fill(0xa5);
        let began = Instant::now();
        let mut offset = WRITE_BYTES as u64;
        while began.elapsed() < WARM_UP + MEASURE {
            let sent = Instant::now();
            self.disk.write(1, Position { segment: SegmentId::FIRST, offset }, buffer, WRITE_BYTES);
            self.disk.submit().map_err(|error| error.to_string())?;
            buffer = match self.wait(spin)? {
                Completion::Written { buffer, result, .. } => {
                    result.map_err(|error| error.to_string())?;
                    buffer
                }
                _ => return Err("the disk completes what was not asked for".to_owned()),
            };
            if began.elapsed() > WARM_UP {
                histogram.saturating_record(sent.elapsed().as_nanos() as u64);
            }
            offset = (offset + WRITE_BYTES as u64) % SEGMENT_BYTES;
        }
        Ok(histogram)
    }

    /// The next completion, waited for as a core does.
    fn wait(&mut self, spin: Duration) -> Result<Completion, String> {
        let mut patience = Patience::new(spin);
        let began = Instant::now();
        loop {
            self.disk.poll(&mut self.completions).map_err(|error| error.to_string())?;
            if let Some(completion) = self.completions.pop() {
                return Ok(completion);
            }
            if patience.is_over(began.elapsed().as_nanos() as u64) {
                self.park().map_err(|error| error.to_string())?;
            }
        }
    }

    /// Sleeps until the disk says something. The count is taken before looking again, so nothing is missed.
    fn park(&self) -> io::Result<()> {
        park(&self.wake)?;
        let mut count = [0; 8];
        match rustix::io::read(&self.wake, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_in_the_middle_is_taken_part_by_part() {
        let floor = |rtt, write| Floor { tcp_rtt_us_p50: rtt, durable_write_us_p50: write };
        let floors = [floor(1.0, Some(30.0)), floor(3.0, Some(10.0)), floor(2.0, Some(20.0))];
        assert_eq!(Floor::median(&floors), floor(2.0, Some(20.0)));
        assert_eq!(Floor::median(&[floor(1.0, None)]), floor(1.0, None));
    }
}
