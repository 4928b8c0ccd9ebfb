//! Buffers that the kernel picks from when bytes arrive.
//!
//! ```text
//! entries (shared with the kernel)   | address, length, index | …   tail in the reserved half-word of entry 0
//! slots   (ours)                     | BytesMut | …              the memory that entry `index` points to
//! ```
//! The kernel takes entries at its own head, we put them at the tail. What arrived is split off the
//! front of the slot and becomes frames; the rest of the slot is published again at once, and when it
//! gets too small another chunk takes its place.

use std::alloc::{self, Layout};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use annulus_rings::FramePool;
use bytes::BytesMut;
use io_uring::types::BufRingEntry;

/// A fresh slot.
const SLOT_BYTES: usize = 64 << 10;
/// A slot with less room than this is replaced.
const SLOT_BYTES_MIN: usize = 8 << 10;
/// The kernel wants the entries on a page boundary.
const PAGE_BYTES: usize = 4096;

/// A ring of provided buffers.
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    tail: u16,
    slots: Vec<BytesMut>,
    pool: FramePool,
    group: u16,
}

impl BufferRing {
    /// A ring of `count` buffers, a power of two, all published.
    pub(crate) fn new(group: u16, count: u16) -> BufferRing {
        assert!(count.is_power_of_two(), "the kernel masks its head with the count");
        let layout = Layout::array::<BufRingEntry>(count.into())
            .and_then(|layout| layout.align_to(PAGE_BYTES))
            .expect("2^15 entries of 16 bytes have a layout");
        // SAFETY: the layout is not empty, for a power of two is not zero.
        let memory = unsafe { alloc::alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast()) else { alloc::handle_alloc_error(layout) };
        let slots = (0..count).map(|_| BytesMut::new()).collect();
        let mut ring =
            BufferRing { entries, layout, tail: 0, slots, pool: FramePool::new(SLOT_BYTES), group };
        for index in 0..count {
            ring.publish(index);
        }
        ring
    }

    /// What operations call this ring.
    pub(crate) fn group(&self) -> u16 {
        self.group
    }

    /// How many buffers there are.
    pub(crate) fn entries(&self) -> u16 {
        self.slots.len() as u16
    }

    /// Where the entries lie, for the kernel.
    pub(crate) fn address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    /// Takes the `bytes` that the kernel wrote to a buffer, and gives it a buffer back.
    pub(crate) fn take(&mut self, index: u16, bytes: usize) -> BytesMut {
        let arrived = self.slots[usize::from(index)].split_to(bytes);
        self.publish(index);
        arrived
    }

    /// Gives the kernel what is left of a slot, or a fresh chunk.
    fn publish(&mut self, index: u16) {
        let slot = &mut self.slots[usize::from(index)];
        if slot.len() < SLOT_BYTES_MIN {
            slot.clear();
            self.pool.ensure(slot, SLOT_BYTES);
            // Initialised once per chunk, so that what arrives can be shared without unsafe code.
            slot.resize(SLOT_BYTES, 0);
        }
        // The last byte stays ours: it is the handle by which the pool reclaims the chunk.
        let (address, bytes) = (slot.as_mut_ptr() as u64, slot.len() - 1);
        let place = self.tail & (self.entries() - 1);
        // SAFETY: `place` is below the number of entries, all of which lie in one allocation.
        let mut entry = unsafe { self.entries.add(place.into()) };
        // SAFETY: initialised by the allocation; the kernel reads entries below the tail only.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(address);
        entry.set_len(bytes as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
        self.shared_tail().store(self.tail, Ordering::Release);
    }

    /// The tail as the kernel reads it.
    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the pointer is to the first of the entries, which are initialised.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the half-word lies in the allocation, is aligned, and is written as an atomic only.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the owner of the io_uring unregistered it before.
        unsafe { alloc::dealloc(self.entries.as_ptr().cast(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts `bytes` where the entry at `place` points to, as the kernel does.
    fn arrive(ring: &BufferRing, place: u16, bytes: &[u8]) -> u16 {
        // SAFETY: the place is below the number of entries.
        let entry = unsafe { ring.entries.add(place.into()) };
        // SAFETY: the entries were initialised by the allocation, and nobody writes to one now.
        let entry = unsafe { entry.as_ref() };
        assert!(bytes.len() <= entry.len() as usize);
        let target = std::ptr::with_exposed_provenance_mut::<u8>(entry.addr() as usize);
        // SAFETY: the entry points to a slot with room for as many bytes as it says, which nobody else uses.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        entry.bid()
    }

    #[test]
    fn what_arrives_is_split_off_and_the_rest_is_published_again() {
        let mut ring = BufferRing::new(3, 2);
        assert_eq!(ring.shared_tail().load(Ordering::Acquire), 2);
        let index = arrive(&ring, 0, b"first");
        let first = ring.take(index, 5);
        assert_eq!(ring.shared_tail().load(Ordering::Acquire), 3);
        let index = arrive(&ring, 0, b"second");
        let second = ring.take(index, 6);
        assert_eq!((&first[..], &second[..]), (&b"first"[..], &b"second"[..]));
    }

    #[test]
    fn a_slot_that_gets_small_is_replaced_while_its_frames_live() {
        let mut ring = BufferRing::new(3, 1);
        let mut frames = Vec::new();
        for fill in 0..9 {
            let index = arrive(&ring, 0, &[fill; 15_000]);
            frames.push(ring.take(index, 15_000).freeze());
        }
        for (frame, fill) in frames.iter().zip(0..) {
            assert!(frame[..] == *vec![fill; 15_000]);
        }
    }
}
