//! Frames that wait for a socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use annulus_rings::Frame;

/// Frames gathered into one system call. More would only make the array on the stack larger: a socket
/// that takes all of them gets the next call at once.
const GATHER_COUNT: usize = 256;

/// Frames for one peer, bounded in count and bytes, of which the first may be sent in part.
pub(crate) struct SendQueue {
    frames: VecDeque<Frame>,
    /// Unsent bytes.
    bytes: usize,
    /// Bytes of the first frame that the socket has.
    front_sent: usize,
    frames_max: usize,
    bytes_max: usize,
}

/// What one flush did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Flushed {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) writes: u64,
    /// The socket is full, and frames are left.
    pub(crate) blocked: bool,
}

impl SendQueue {
    pub(crate) fn new(frames_max: usize, bytes_max: usize) -> SendQueue {
        let frames = VecDeque::with_capacity(frames_max.min(GATHER_COUNT));
        SendQueue { frames, bytes: 0, front_sent: 0, frames_max, bytes_max }
    }

    /// Adds a frame; false when it does not fit.
    pub(crate) fn push(&mut self, frame: Frame) -> bool {
        // An empty queue takes any frame, so that no bound can keep a legal frame from ever leaving.
        let fits = self.frames.len() < self.frames_max && self.bytes + frame.len() <= self.bytes_max;
        if !fits && !self.frames.is_empty() {
            return false;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes for as long as the socket takes everything that it is given.
    pub(crate) fn write_to(&mut self, socket: &mut impl Write) -> io::Result<Flushed> {
        let mut flushed = Flushed::default();
        while !self.frames.is_empty() {
            let (offered, result) = self.write_once(socket);
            let written = match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            flushed.writes += 1;
            flushed.bytes += written as u64;
            flushed.frames += self.advance(written);
            if written < offered {
                flushed.blocked = true;
                break;
            }
        }
        Ok(flushed)
    }

    /// One gathered write: the bytes offered, and what became of them.
    fn write_once(&self, socket: &mut impl Write) -> (usize, io::Result<usize>) {
        let mut slices = [IoSlice::new(&[]); GATHER_COUNT];
        let mut skip = self.front_sent;
        let mut offered = 0;
        let count = self.frames.len().min(GATHER_COUNT);
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            let unsent = &frame.as_bytes()[std::mem::take(&mut skip)..];
            offered += unsent.len();
            *slice = IoSlice::new(unsent);
        }
        (offered, socket.write_vectored(&slices[..count]))
    }

    /// Drops what the socket has taken, and counts the frames that it has whole.
    fn advance(&mut self, written: usize) -> u64 {
        self.bytes -= written;
        self.front_sent += written;
        let mut frames = 0;
        while let Some(front) = self.frames.front() {
            if self.front_sent < front.len() {
                break;
            }
            self.front_sent -= front.len();
            self.frames.pop_front();
            frames += 1;
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::frame_of;
    use proptest::prelude::*;

    /// Takes at most so many bytes per call, then none.
    struct Trickle {
        allowances: Vec<usize>,
        taken: Vec<u8>,
    }

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let allowance = self.allowances.pop().ok_or(io::ErrorKind::WouldBlock)?;
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let written = offered.len().min(allowance);
            self.taken.extend_from_slice(&offered[..written]);
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

        #[test]
        fn every_byte_leaves_once_and_in_order_however_little_the_socket_takes(
            payloads in proptest::collection::vec(0usize..500, 1..if cfg!(miri) { 10 } else { 600 }),
            allowances in proptest::collection::vec(1usize..3000, 0..50),
        ) {
            let mut queue = SendQueue::new(usize::MAX, usize::MAX);
            let mut expected = Vec::new();
            for (payload, slot) in payloads.iter().zip(0..) {
                let frame = frame_of(1, slot, *payload);
                expected.extend_from_slice(frame.as_bytes());
                prop_assert!(queue.push(frame));
            }
            let mut frames = 0;
            let mut trickle = Trickle { allowances, taken: Vec::new() };
            while !trickle.allowances.is_empty() && !queue.is_empty() {
                frames += queue.write_to(&mut trickle).unwrap().frames;
            }
            trickle.allowances = vec![usize::MAX; payloads.len()];
            frames += queue.write_to(&mut trickle).unwrap().frames;
            prop_assert_eq!(frames, payloads.len() as u64);
            prop_assert_eq!(queue.bytes(), 0);
            prop_assert!(trickle.taken == expected);
        }
    }

    #[test]
    fn a_full_queue_refuses_but_an_empty_one_takes_any_frame() {
        let mut queue = SendQueue::new(2, 100);
        assert!(queue.push(frame_of(1, 1, 500)));
        assert!(!queue.push(frame_of(1, 2, 0)), "beyond its bytes");
        let mut queue = SendQueue::new(2, 10_000);
        assert!(queue.push(frame_of(1, 1, 0)) && queue.push(frame_of(1, 2, 0)));
        assert!(!queue.push(frame_of(1, 3, 0)), "beyond its count");
        assert_eq!(queue.len(), 2);
    }
}
