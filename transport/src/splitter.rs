//! Cuts a stream of bytes into frames, in the buffer where the bytes landed.
//!
//! ```text
//! chunk  | frame frame frame par|                    |
//!          split off, shared     ^ filled              ^ len: all of it is initialised
//! ```
//! A frame is a reference into the chunk. Only the part of a frame that a chunk ends in is moved, once,
//! to the front of the next. A chunk is used again when the last frame in it is gone.

use bytes::BytesMut;

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{Frame, FrameError, FramePool};

/// The size of a receive buffer; a larger frame gets one of its own size.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// A read with less room than this is not worth its system call.
const ROOM_BYTES_MIN: usize = 16 << 10;

/// Bytes of one connection on their way to becoming frames. Public for tests of what damaged bytes do.
#[doc(hidden)]
pub struct FrameSplitter {
    /// Starts with the first byte that belongs to no frame yet.
    chunk: BytesMut,
    /// How many bytes of the chunk have arrived.
    filled: usize,
    /// The size of the frame at the front, once its header is verified.
    front_bytes: Option<usize>,
    pool: FramePool,
    chunk_bytes: usize,
}

impl FrameSplitter {
    /// An empty one, with chunks of this size for what is smaller.
    pub fn new(chunk_bytes: usize) -> FrameSplitter {
        let pool = FramePool::new(chunk_bytes);
        FrameSplitter { chunk: BytesMut::new(), filled: 0, front_bytes: None, pool, chunk_bytes }
    }

    /// Where the next bytes of the stream go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        let front_bytes = self.front_bytes.unwrap_or(self.filled + ROOM_BYTES_MIN.min(self.chunk_bytes / 2));
        // One byte more than needed: it is the handle by which the pool reclaims the chunk.
        let need = front_bytes.max(self.filled) + 1;
        if self.chunk.len() < need {
            self.renew(need);
        }
        &mut self.chunk[self.filled..]
    }

    /// The first `bytes` of the room have arrived.
    pub fn arrived(&mut self, bytes: usize) {
        self.filled += bytes;
        assert!(self.filled <= self.chunk.len(), "no more arrives than there is room for");
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// The bytes at the front are no frame: the stream has lost its frame boundaries.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(bytes) = self.front_bytes()? else { return Ok(None) };
        if self.filled < bytes {
            return Ok(None);
        }
        self.filled -= bytes;
        self.front_bytes = None;
        Frame::parse(self.chunk.split_to(bytes).freeze()).map(Some)
    }

    /// Takes bytes that lie in a buffer of their own. Whole frames stay there; only the frames that
    /// straddle its ends are put together here.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn absorb(&mut self, mut other: BytesMut, mut each: impl FnMut(Frame)) -> Result<(), FrameError> {
        while self.filled > 0 && !other.is_empty() {
            let missing = self.front_bytes()?.unwrap_or(HEADER_BYTES) - self.filled;
            let part = other.split_to(missing.min(other.len()));
            self.copy(&part);
            if let Some(frame) = self.next()? {
                each(frame);
            }
        }
        while other.len() >= HEADER_BYTES {
            let bytes = Frame::peek_bytes(&other)?;
            if other.len() < bytes {
                break;
            }
            each(Frame::parse(other.split_to(bytes).freeze())?);
        }
        self.copy(&other);
        Ok(())
    }

    /// How often the allocator had to help.
    #[cfg(test)]
    fn misses(&self) -> u64 {
        self.pool.misses()
    }

    /// The size of the frame at the front, when its header is there: verified before anything is sized by it.
    fn front_bytes(&mut self) -> Result<Option<usize>, FrameError> {
        if self.front_bytes.is_none() && self.filled >= HEADER_BYTES {
            self.front_bytes = Some(Frame::peek_bytes(&self.chunk[..self.filled])?);
        }
        Ok(self.front_bytes)
    }

    fn copy(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            let room = self.room();
            let bytes = part.len().min(room.len());
            room[..bytes].copy_from_slice(&part[..bytes]);
            part = &part[bytes..];
            self.arrived(bytes);
        }
    }

    /// Goes on in a chunk with room for `need` bytes from the front.
    fn renew(&mut self, need: usize) {
        let part = self.chunk.split_to(self.filled);
        self.chunk.clear();
        self.pool.ensure(&mut self.chunk, need.max(self.chunk_bytes));
        // Initialised once per chunk, so that reading into it needs no unsafe code: 0.03 ns per byte.
        self.chunk.resize(need.max(self.chunk_bytes), 0);
        self.chunk[..part.len()].copy_from_slice(&part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::frame_of;
    use proptest::prelude::*;

    fn feed(splitter: &mut FrameSplitter, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = splitter.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            splitter.arrived(count);
            bytes = &bytes[count..];
        }
    }

    fn drain(splitter: &mut FrameSplitter) -> Vec<Frame> {
        std::iter::from_fn(|| splitter.next().unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_come_out_whole_however_the_stream_is_cut(
            payloads in proptest::collection::vec(0usize..3000, 1..20),
            cuts in proptest::collection::vec(1usize..2000, 1..20),
            in_place in any::<bool>(),
        ) {
            let frames: Vec<Frame> = payloads.iter().zip(0..).map(|(bytes, slot)| frame_of(1, slot, *bytes)).collect();
            let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect();
            let mut splitter = FrameSplitter::new(4096);
            let mut out = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.into_iter().cycle() {
                let (part, tail) = rest.split_at(cut.min(rest.len()));
                if in_place {
                    feed(&mut splitter, part);
                    out.extend(drain(&mut splitter));
                } else {
                    splitter.absorb(BytesMut::from(part), |frame| out.push(frame)).unwrap();
                }
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(out, frames);
        }

        #[test]
        fn random_bytes_are_refused_without_a_panic_or_a_large_buffer(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            good in 0usize..3,
        ) {
            let mut splitter = FrameSplitter::new(4096);
            for slot in 0..good {
                feed(&mut splitter, frame_of(1, slot as u64, 50).as_bytes());
            }
            feed(&mut splitter, &bytes);
            let mut frames = 0;
            let refused = loop {
                match splitter.next() {
                    Ok(Some(_)) => frames += 1,
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            prop_assert_eq!(frames, good);
            prop_assert_eq!(refused, bytes.len() >= HEADER_BYTES);
            prop_assert!(splitter.chunk.capacity() <= 4 * 4096);
        }

        #[test]
        fn one_flipped_bit_stops_the_stream(bit in 0usize..(HEADER_BYTES + 100) * 8) {
            let mut bytes = frame_of(1, 7, 100).as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut splitter = FrameSplitter::new(4096);
            feed(&mut splitter, &bytes);
            prop_assert!(splitter.next().is_err());
        }
    }

    #[test]
    fn a_steady_stream_stops_allocating() {
        let mut splitter = FrameSplitter::new(CHUNK_BYTES);
        let frame = frame_of(1, 1, 900);
        let mut misses = 0;
        for round in 0..20_000 {
            feed(&mut splitter, frame.as_bytes());
            assert_eq!(splitter.next().unwrap().as_ref(), Some(&frame));
            if round == 1000 {
                misses = splitter.misses();
            }
        }
        assert_eq!(splitter.misses(), misses);
    }

    #[test]
    fn a_frame_larger_than_a_chunk_gets_room() {
        let mut splitter = FrameSplitter::new(4096);
        let frame = frame_of(1, 1, 1 << 20);
        feed(&mut splitter, frame.as_bytes());
        feed(&mut splitter, frame_of(1, 2, 10).as_bytes());
        assert_eq!(drain(&mut splitter), [frame, frame_of(1, 2, 10)]);
    }
}
