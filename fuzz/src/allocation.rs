//! An allocator that counts what each thread asks for: tests bound it. Make it the `#[global_allocator]`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
pub struct Counting;

/// What a thread has asked for, whether it was given back or not.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// How often.
    pub allocations: u64,
    /// How much.
    pub bytes: u64,
}

thread_local! {
    static TALLY: Cell<Tally> = const { Cell::new(Tally { allocations: 0, bytes: 0 }) };
}

impl Tally {
    /// What this thread has asked for until now.
    pub fn now() -> Tally {
        TALLY.get()
    }

    /// What this thread has asked for since then.
    #[must_use]
    pub fn elapsed(self) -> Tally {
        let now = Tally::now();
        Tally { allocations: now.allocations - self.allocations, bytes: now.bytes - self.bytes }
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Tally { allocations, bytes } = TALLY.get();
        TALLY.set(Tally { allocations: allocations + 1, bytes: bytes + layout.size() as u64 });
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}
