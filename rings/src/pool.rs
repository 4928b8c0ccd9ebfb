//! Buffers for frames, taken from chunks that are reclaimed when every frame in them is gone.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Hands out buffers that become frames.
///
/// A chunk is cut into frames until it is spent, then waits at the back until nothing refers to it.
/// A steady load releases chunks in the order it took them, so no allocation happens after the first
/// round; a load that holds more than the pool keeps falls back to the allocator.
pub struct FramePool {
    chunk: BytesMut,
    spent: VecDeque<BytesMut>,
    chunk_bytes: usize,
    misses: u64,
}

/// Chunks that wait to be reclaimed, at the most.
const SPENT_MAX: usize = 64;
/// How many of them are looked at when a chunk is needed.
const RECLAIM_TRIES: usize = 4;

impl FramePool {
    /// A pool of chunks of `chunk_bytes` each.
    pub fn new(chunk_bytes: usize) -> FramePool {
        FramePool {
            chunk: BytesMut::new(),
            spent: VecDeque::with_capacity(SPENT_MAX),
            chunk_bytes,
            misses: 0,
        }
    }

    /// An empty buffer with room for `bytes` without moving.
    pub fn take(&mut self, bytes: usize) -> BytesMut {
        let mut chunk = std::mem::take(&mut self.chunk);
        self.ensure(&mut chunk, bytes + 1);
        // At least one byte stays with the pool: it is the handle that reclaims the chunk later.
        self.chunk = chunk.split_off(bytes);
        chunk
    }

    /// Sees to it that `chunk`, which is empty, has room for `bytes` without moving: a spent chunk is
    /// kept for reclaiming and another takes its place.
    pub fn ensure(&mut self, chunk: &mut BytesMut, bytes: usize) {
        if chunk.capacity() < bytes {
            let spent = std::mem::replace(chunk, self.renew(bytes));
            if self.spent.len() < SPENT_MAX && spent.capacity() > 0 {
                self.spent.push_back(spent);
            }
        }
    }

    /// How often the allocator had to help, the first chunks included.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// A chunk with at least `bytes` of room.
    fn renew(&mut self, bytes: usize) -> BytesMut {
        let chunk_bytes = self.chunk_bytes.max(bytes);
        // A chunk that somebody holds for long goes to the back, so that it keeps none from coming back.
        for _ in 0..RECLAIM_TRIES.min(self.spent.len()) {
            let mut oldest = self.spent.pop_front().expect("as many are there as are tried");
            if oldest.try_reclaim(chunk_bytes) {
                return oldest;
            }
            self.spent.push_back(oldest);
        }
        self.misses += 1;
        BytesMut::with_capacity(chunk_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_load_stops_allocating() {
        let mut pool = FramePool::new(4096);
        let mut held = VecDeque::new();
        let mut misses = 0;
        for round in 0..if cfg!(miri) { 1000 } else { 10_000 } {
            let mut buffer = pool.take(100);
            buffer.extend_from_slice(&[7; 100]);
            held.push_back(buffer.freeze());
            if held.len() > 50 {
                held.pop_front();
            }
            if round == 500 {
                misses = pool.misses();
            }
        }
        assert_eq!(pool.misses(), misses, "no allocation after the first rounds");
    }

    #[test]
    fn a_frame_that_is_held_for_long_keeps_no_other_chunk_from_coming_back() {
        let mut pool = FramePool::new(4096);
        let mut kept = pool.take(100);
        kept.extend_from_slice(&[7; 100]);
        for _ in 0..if cfg!(miri) { 1000 } else { 10_000 } {
            pool.take(100).extend_from_slice(&[7; 100]);
        }
        assert!(pool.misses() < 5, "{} chunks were allocated", pool.misses());
        assert_eq!(kept, [7; 100][..]);
    }
}
