//! Receiving by `io_uring`: one lasting operation per connection, into buffers that the kernel picks.
//!
//! No BUNDLE: kernels from 6.13.11 on deliver the buffers of a bundle out of order (liburing #1409).

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

use annulus_rings::Frame;
use bytes::BytesMut;

use crate::buffer_ring::BufferRing;
use crate::receive::{Receive, ReceiveError, Source};
use crate::uring::{Completion, Uring};

/// Buffers for all connections of a core: 1 MiB. They are used in turn, so more of them only leave the
/// cache sooner.
const BUFFER_COUNT: u16 = 16;
const BUFFER_GROUP: u16 = 0;
/// Completions that fit before the kernel ends an operation, which is then armed again.
const RING_ENTRIES: u32 = 256;

/// The multishot receive path.
pub(crate) struct MultishotReceive {
    ring: Uring,
    buffers: BufferRing,
    links: Vec<Link>,
}

/// One connection.
#[derive(Default)]
struct Link {
    /// `None` between connections.
    fd: Option<RawFd>,
    /// Tells the completions of this connection from those of an earlier one at the same index.
    generation: u32,
    armed: bool,
    /// What arrived and was not split yet. Bounded by the buffers that one gather can find.
    arrived: VecDeque<BytesMut>,
    /// What comes after the last of them.
    end: Option<ReceiveError>,
}

impl Link {
    fn user_data(&self, index: usize) -> u64 {
        u64::from(self.generation) << 32 | index as u64
    }
}

impl MultishotReceive {
    pub(crate) fn new() -> io::Result<MultishotReceive> {
        MultishotReceive::with_buffers(BUFFER_COUNT)
    }

    fn with_buffers(count: u16) -> io::Result<MultishotReceive> {
        let ring = Uring::new(RING_ENTRIES)?;
        let buffers = BufferRing::new(BUFFER_GROUP, count);
        ring.register_buffers(&buffers)?;
        Ok(MultishotReceive { ring, buffers, links: Vec::new() })
    }

    fn completed(&mut self, completion: Completion) {
        let bytes = usize::try_from(completion.result).unwrap_or(0);
        let arrived = completion.buffer.map(|index| self.buffers.take(index, bytes));
        let Some(link) = self.links.get_mut(completion.user_data as u32 as usize) else { return };
        if link.generation != (completion.user_data >> 32) as u32 {
            return;
        }
        link.armed = completion.more;
        match completion.result {
            0 => link.end = Some(ReceiveError::Closed),
            // Every buffer was taken: this gather has put them back, so arming again goes on.
            error if error == -libc::ENOBUFS => {}
            error if error < 0 => link.end = Some(io::Error::from_raw_os_error(-error).into()),
            _ => link.arrived.extend(arrived),
        }
    }

    /// Arms every connection that the kernel has stopped serving.
    fn rearm(&mut self) -> io::Result<()> {
        for (index, link) in self.links.iter_mut().enumerate() {
            if let (Some(fd), false, None) = (link.fd, link.armed, &link.end) {
                self.ring.receive_multishot(fd, &self.buffers, link.user_data(index))?;
                link.armed = true;
            }
        }
        if self.ring.has_unsubmitted() { self.ring.enter() } else { Ok(()) }
    }
}

impl Receive for MultishotReceive {
    fn attach(&mut self, index: usize, stream: &TcpStream) -> io::Result<()> {
        if self.links.len() <= index {
            self.links.resize_with(index + 1, Link::default);
        }
        self.links[index].fd = Some(stream.as_raw_fd());
        self.rearm()
    }

    fn detach(&mut self, index: usize) -> io::Result<()> {
        let Some(link) = self.links.get_mut(index) else { return Ok(()) };
        let name = link.user_data(index);
        let generation = link.generation.wrapping_add(1);
        let old = std::mem::replace(link, Link { generation, ..Link::default() });
        if old.armed {
            self.ring.cancel(name)?;
            self.ring.enter()?;
        }
        Ok(())
    }

    fn gather(&mut self) -> io::Result<()> {
        if !self.ring.is_pending() {
            return Ok(());
        }
        self.ring.enter()?;
        while let Some(completion) = self.ring.complete() {
            self.completed(completion);
        }
        self.rearm()
    }

    fn receive(
        &mut self,
        index: usize,
        from: Source<'_>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), ReceiveError> {
        let Some(link) = self.links.get_mut(index) else { return Ok(()) };
        while let Some(chunk) = link.arrived.pop_front() {
            from.statistics.reads += 1;
            from.statistics.bytes_received += chunk.len() as u64;
            from.splitter.absorb(chunk, |frame| frames.push(frame))?;
        }
        link.end.take().map_or(Ok(()), Err)
    }

    fn needs_readiness(&self) -> bool {
        false
    }

    fn is_pending(&mut self) -> bool {
        self.ring.is_pending()
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.ring.register_wake(eventfd)
    }
}

impl Drop for MultishotReceive {
    fn drop(&mut self) {
        self.ring.unregister_buffers(&self.buffers);
    }
}

// Not under Miri: it has neither sockets nor io_uring.
#[cfg(all(test, not(miri)))]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::NetworkStatistics;
    use crate::splitter::FrameSplitter;
    use crate::tests::{PATIENCE, frame_of};

    #[test]
    fn running_out_of_buffers_delays_frames_and_loses_none() {
        const FRAMES: usize = 200;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        let mut path = MultishotReceive::with_buffers(2).unwrap();
        path.attach(0, &receiver).unwrap();
        let sending = thread::spawn(move || {
            for slot in 0..FRAMES {
                sender.write_all(frame_of(1, slot as u64, 20_000).as_bytes()).unwrap();
            }
            sender
        });

        let (mut splitter, mut statistics) = (FrameSplitter::new(4096), NetworkStatistics::default());
        let mut frames = Vec::new();
        let start = Instant::now();
        // Nobody looks at what arrives until both buffers are taken and more is there.
        let (mut held, mut is_starved) = (Vec::new(), false);
        while !is_starved {
            assert!(start.elapsed() < PATIENCE, "two buffers are too few for this stream");
            path.ring.enter().unwrap();
            while let Some(completion) = path.ring.complete() {
                is_starved |= completion.result == -libc::ENOBUFS;
                held.push(completion);
            }
            thread::yield_now();
        }
        for completion in held {
            path.completed(completion);
        }
        while frames.len() < FRAMES {
            assert!(start.elapsed() < PATIENCE, "{} frames", frames.len());
            path.rearm().unwrap();
            path.ring.enter().unwrap();
            while let Some(completion) = path.ring.complete() {
                path.completed(completion);
            }
            let source = Source { stream: &receiver, splitter: &mut splitter, statistics: &mut statistics };
            path.receive(0, source, &mut frames).unwrap();
            thread::yield_now();
        }
        assert!(frames.iter().zip(0..).all(|(frame, slot)| *frame == frame_of(1, slot, 20_000)));

        drop(sending.join().unwrap());
        let start = Instant::now();
        loop {
            path.gather().unwrap();
            let source = Source { stream: &receiver, splitter: &mut splitter, statistics: &mut statistics };
            match path.receive(0, source, &mut frames) {
                Err(ReceiveError::Closed) => break,
                other => other.unwrap(),
            }
            assert!(start.elapsed() < PATIENCE, "the end of the stream arrives too");
        }
    }
}
