//! Memory that keeps what was stored, once it has it.

use std::io;

use crate::disk::DiskKind;

/// What is written at once: stores and addresses are multiples of it.
pub(crate) const WORD_BYTES: u64 = 8;
const ZEROS: [u8; 4096] = [0; 4096];

/// Memory whose stores become durable in two steps: their lines are flushed, then a fence waits for all of them.
///
/// Before that any of the aligned words of 8 bytes may become durable at any time, each whole, in any order.
/// Addresses count from the start of the region and lie inside it.
pub trait Medium {
    /// What it is made of.
    fn kind(&self) -> DiskKind;

    /// The size of the region.
    fn bytes(&self) -> u64;

    /// Reads what was written last, durable or not.
    ///
    /// # Errors
    /// The memory cannot give it back. It is told here, where a load would kill the process.
    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes, and no more.
    fn write(&mut self, at: u64, bytes: &[u8]);

    /// Starts making lines durable.
    fn flush(&mut self, at: u64, bytes: u64);

    /// Waits until everything that was flushed is durable.
    fn fence(&mut self);

    /// Writes and flushes: durable after the next fence.
    fn store(&mut self, at: u64, bytes: &[u8]) {
        self.write(at, bytes);
        self.flush(at, bytes.len() as u64);
    }

    /// Stores zeros.
    fn zero(&mut self, at: u64, bytes: u64) {
        let mut done = 0;
        while done < bytes {
            let slice = (bytes - done).min(ZEROS.len() as u64);
            self.store(at + done, &ZEROS[..slice as usize]);
            done += slice;
        }
    }

    /// At start, may block: has a page that cannot be read replaced by one of zeros.
    ///
    /// # Errors
    /// There is no other.
    fn replace(&mut self, at: u64, bytes: u64) -> io::Result<()>;
}
