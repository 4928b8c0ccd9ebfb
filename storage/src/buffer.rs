//! Aligned memory for direct I/O, and the pool that recycles it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::block::BLOCK_ALIGN_BYTES;

/// Bytes that start on a 4 KiB boundary and fill whole blocks of 4 KiB.
///
/// A buffer is owned by one party at a time: handing it to a [`Disk`](crate::Disk) moves it there, and
/// the completion moves it back. So nothing can touch the bytes while the device reads or writes them.
pub struct AlignedBuffer {
    bytes: NonNull<u8>,
    capacity: usize,
    /// Where the disk registered it with the kernel, if it did.
    pub(crate) registered: Option<u16>,
}

// SAFETY: the buffer owns its bytes, as a `Box<[u8]>` does.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    /// Zeroed memory of at least `bytes_min` bytes.
    pub fn new(bytes_min: usize) -> AlignedBuffer {
        let capacity = bytes_min.max(1).next_multiple_of(BLOCK_ALIGN_BYTES);
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not zero.
        let bytes = unsafe { alloc_zeroed(layout) };
        let Some(bytes) = NonNull::new(bytes) else { handle_alloc_error(layout) };
        AlignedBuffer { bytes, capacity, registered: None }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, BLOCK_ALIGN_BYTES).expect("a buffer is far below isize::MAX")
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `capacity` bytes were allocated and zeroed, and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.capacity) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr(), self.capacity) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.bytes.as_ptr(), Self::layout(self.capacity)) }
    }
}

/// Buffers that wait to be used again, so that a steady load allocates nothing (M2).
pub(crate) struct BufferPool {
    spare: Vec<AlignedBuffer>,
    buffer_bytes: usize,
    spare_bytes: usize,
    spare_bytes_max: usize,
}

impl BufferPool {
    /// A pool of buffers of `buffer_bytes`, or more where one frame needs it. It keeps at most
    /// `spare_bytes_max` bytes.
    pub(crate) fn new(buffer_bytes: usize, spare_bytes_max: usize) -> BufferPool {
        let count_max = spare_bytes_max / buffer_bytes + 1;
        BufferPool { spare: Vec::with_capacity(count_max), buffer_bytes, spare_bytes: 0, spare_bytes_max }
    }

    /// A buffer of at least `bytes_min` bytes; its content is of no account.
    pub(crate) fn take(&mut self, bytes_min: usize) -> AlignedBuffer {
        match self.spare.iter().rposition(|buffer| buffer.len() >= bytes_min) {
            Some(index) => {
                let buffer = self.spare.swap_remove(index);
                self.spare_bytes -= buffer.len();
                buffer
            }
            None => AlignedBuffer::new(bytes_min.max(self.buffer_bytes)),
        }
    }

    /// Keeps `buffer` for later, or frees it where the pool is full. A registered buffer always stays:
    /// there are few, and the kernel holds its memory anyway.
    pub(crate) fn put(&mut self, buffer: AlignedBuffer) {
        if buffer.registered.is_some() || self.spare_bytes + buffer.len() <= self.spare_bytes_max {
            self.spare_bytes += buffer.len();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_zeroed_and_whole_blocks() {
        let mut buffer = AlignedBuffer::new(5000);
        assert_eq!(buffer.len(), 8192);
        assert_eq!(buffer.as_ptr() as usize % BLOCK_ALIGN_BYTES, 0);
        assert!(buffer.iter().all(|byte| *byte == 0));
        buffer[8191] = 7;
        assert_eq!(buffer[8191], 7);
    }

    #[test]
    fn a_pool_hands_out_the_buffer_that_it_got_back() {
        let mut pool = BufferPool::new(4096, 16384);
        let first = pool.take(100);
        let address = first.as_ptr();
        pool.put(first);
        assert_eq!(pool.take(4096).as_ptr(), address);
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_bound() {
        let mut pool = BufferPool::new(4096, 8192);
        for _ in 0..5 {
            pool.put(AlignedBuffer::new(4096));
        }
        assert_eq!(pool.spare.len(), 2);
    }
}
