//! A set of descriptors whose readiness wakes a core.
//!
//! Each wait is a one-shot `POLL_ADD`, armed on demand: a busy core reads its sockets without asking,
//! and pays for being told only when it is about to sleep. Waits look at the state, not at the change,
//! so arming one on a descriptor that is ready already completes at once.

use std::io;
use std::os::fd::RawFd;

use crate::uring::Uring;

/// Descriptors to be told about. It belongs to the thread that made it.
///
/// ```
/// use annulus_transport::{Interest, Readiness};
/// use std::{io::Write, os::fd::AsRawFd, os::unix::net::UnixStream};
///
/// let (near, mut far) = UnixStream::pair()?;
/// let mut set = Readiness::new(8)?;
/// let token = set.add(near.as_raw_fd());
/// set.arm(token, Interest::Readable)?;
/// far.write_all(b"x")?;
/// let mut ready = Vec::new();
/// set.poll(&mut ready)?;
/// assert_eq!(ready, [token]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Readiness {
    ring: Uring,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// Names a descriptor of a [`Readiness`], never two over its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    index: u32,
    generation: u32,
}

/// What to be told of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interest {
    /// There is something to read or accept, or the other side is gone.
    Readable = 0,
    /// There is room to write, or the other side is gone.
    Writable = 1,
}

struct Slot {
    fd: RawFd,
    generation: u32,
    armed: [bool; 2],
}

impl Token {
    /// A small number, for a caller that keeps what it knows of a descriptor in a table. Numbers of
    /// removed descriptors are given again.
    pub fn index(self) -> usize {
        self.index as usize
    }

    fn user_data(self, interest: Interest) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index) << 1 | interest as u64
    }
}

impl Readiness {
    /// An empty set, with room for `entries` changes between two submissions (more only cost a system call).
    ///
    /// # Errors
    /// The kernel has no `io_uring`, or not for this process; the message says what to do.
    pub fn new(entries: u32) -> io::Result<Readiness> {
        Ok(Readiness { ring: Uring::new(entries)?, slots: Vec::new(), free: Vec::new() })
    }

    /// Adds a descriptor, which the caller keeps open until it is removed. Nothing is armed yet.
    pub fn add(&mut self, fd: RawFd) -> Token {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.fd = fd;
            return Token { index, generation: slot.generation };
        }
        let index = self.slots.len() as u32;
        assert!(index < u32::MAX >> 1, "a set holds less than 2^31 descriptors");
        self.slots.push(Slot { fd, generation: 0, armed: [false; 2] });
        Token { index, generation: 0 }
    }

    /// Asks to be told once; asking again before that changes nothing. Takes effect at [`submit`](Self::submit)
    /// or at the next [`poll`](Self::poll).
    ///
    /// # Errors
    /// The kernel refuses operations.
    pub fn arm(&mut self, token: Token, interest: Interest) -> io::Result<()> {
        let Some(slot) = self.slot(token) else { return Ok(()) };
        if slot.armed[interest as usize] {
            return Ok(());
        }
        let fd = slot.fd;
        let events = match interest {
            Interest::Readable => libc::POLLIN,
            Interest::Writable => libc::POLLOUT,
        };
        self.ring.poll_add(fd, events, token.user_data(interest))?;
        self.slots[token.index()].armed[interest as usize] = true;
        Ok(())
    }

    /// Hands what was armed to the kernel; no system call when nothing was.
    ///
    /// # Errors
    /// The kernel refuses operations.
    pub fn submit(&mut self) -> io::Result<()> {
        if self.ring.has_unsubmitted() { self.ring.enter() } else { Ok(()) }
    }

    /// Whether [`poll`](Self::poll) would find something. Never a system call.
    pub fn is_pending(&mut self) -> bool {
        self.ring.is_pending()
    }

    /// Adds to `ready` the descriptors that are ready, and tells how many. They must be armed again.
    /// A descriptor armed for both interests may come twice. No system call when nothing is pending.
    ///
    /// # Errors
    /// The kernel refuses operations.
    pub fn poll(&mut self, ready: &mut Vec<Token>) -> io::Result<usize> {
        if !self.ring.is_pending() && !self.ring.has_unsubmitted() {
            return Ok(0);
        }
        self.ring.enter()?;
        let before = ready.len();
        while let Some(completion) = self.ring.complete() {
            let name = completion.user_data;
            let token = Token { index: name as u32 >> 1, generation: (name >> 32) as u32 };
            // A completion of a removed descriptor concerns nobody.
            if let Some(slot) = self.slot(token) {
                slot.armed[(name & 1) as usize] = false;
                ready.push(token);
            }
        }
        Ok(ready.len() - before)
    }

    /// Forgets a descriptor and gives up the kernel's hold on it, so that closing it closes it.
    ///
    /// # Errors
    /// The kernel refuses operations.
    pub fn remove(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.slot(token) else { return Ok(()) };
        let armed = std::mem::take(&mut slot.armed);
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.index);
        for interest in [Interest::Readable, Interest::Writable] {
            if armed[interest as usize] {
                self.ring.poll_remove(token.user_data(interest))?;
            }
        }
        self.submit()?;
        // The cancelled waits let go of the descriptor when their completions are posted.
        if self.ring.is_pending() { self.ring.enter() } else { Ok(()) }
    }

    /// Signals `eventfd` whenever a descriptor becomes ready.
    ///
    /// # Errors
    /// It is not an eventfd.
    pub fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.ring.register_wake(eventfd)
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        self.slots.get_mut(token.index()).filter(|slot| slot.generation == token.generation)
    }
}
