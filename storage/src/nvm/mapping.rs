//! A region in the address space of the process: the stores, flushes and fences of the processor.
//!
//! The one module of the journal on non-volatile memory with unsafe code. What it relies on: the mapping is made
//! once, covers the file's whole size, which nobody changes, and lives as long as the [`Mapping`]; and every access
//! is checked against that size first.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;

use super::medium::{Medium, WORD_BYTES};
use super::options::NvmBacking;
use super::persistence::caches_persist;
use super::region::RegionError;
use crate::disk::DiskKind;

/// Memory that is shared with a file, or that has none.
pub struct Mapping {
    base: NonNull<u8>,
    bytes: u64,
    file: Option<File>,
    kind: DiskKind,
    write_back: WriteBack,
}

/// How a line gets out of the caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WriteBack {
    /// It need not: the caches survive the loss of power.
    Never,
    /// `clwb`: the line may stay.
    Clwb,
    /// `clflushopt`.
    ClflushOpt,
    /// `clflush`: one after the other.
    Clflush,
}

const LINE_BYTES: u64 = 64;
/// From this size on, stores go past the caches.
const STREAM_BYTES_MIN: usize = 256;

impl Mapping {
    /// Maps all of `file`.
    ///
    /// # Errors
    /// The file is not on what `backing` says it is on, or cannot be mapped.
    pub(crate) fn of_file(file: File, backing: NvmBacking) -> Result<Mapping, RegionError> {
        let size = file.metadata().map_err(|error| RegionError::Io("reading its size", error))?.len();
        let flags = match backing {
            NvmBacking::Dax => libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC,
            NvmBacking::Battery | NvmBacking::Emulated => libc::MAP_SHARED,
        };
        let base = map(size, flags, file.as_raw_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::EINVAL) if backing == NvmBacking::Dax => {
                RegionError::Volatile(error)
            }
            _ => RegionError::Io("mapping", error),
        })?;
        Mapping::new(base, size, Some(file), backing)
    }

    /// Maps ordinary memory.
    ///
    /// # Errors
    /// There is not so much.
    pub(crate) fn of_memory(bytes: u64) -> Result<Mapping, RegionError> {
        let base = map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
        let base = base.map_err(|error| RegionError::Io("mapping memory", error))?;
        Mapping::new(base, bytes, None, NvmBacking::Emulated)
    }

    fn new(
        base: NonNull<u8>,
        bytes: u64,
        file: Option<File>,
        backing: NvmBacking,
    ) -> Result<Mapping, RegionError> {
        let flushing = write_back_of_processor().ok_or(RegionError::Processor)?;
        let persists = backing == NvmBacking::Dax && caches_persist();
        let write_back = if persists { WriteBack::Never } else { flushing };
        let kind = backing.kind();
        let mapping = Mapping { base, bytes, file, kind, write_back };
        mapping.touch();
        tracing::debug!(%kind, ?write_back, bytes, "region mapped");
        Ok(mapping)
    }

    /// Has every page mapped now: the first touch of one costs as much as a hundred commits.
    fn touch(&self) {
        if cfg!(miri) {
            return; // It knows no such advice.
        }
        if self.file.is_none() {
            self.advise(libc::MADV_HUGEPAGE, "asking for large pages");
        }
        self.advise(libc::MADV_POPULATE_WRITE, "mapping all pages");
    }

    /// What is refused only makes first touches slower, or says that a page is bad: reading finds that out.
    fn advise(&self, advice: libc::c_int, what: &str) {
        // SAFETY: the range is the whole mapping, and neither advice changes what it holds.
        if unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes as usize, advice) } != 0 {
            tracing::debug!(error = %io::Error::last_os_error(), what, "refused");
        }
    }

    /// Where `bytes` bytes from `at` on are.
    fn place(&self, at: u64, bytes: u64) -> *mut u8 {
        let end = at.checked_add(bytes);
        assert!(end.is_some_and(|end| end <= self.bytes), "an access stays inside the region");
        // SAFETY: `at` is inside the mapping, as was just checked.
        unsafe { self.base.as_ptr().add(at as usize) }
    }

    /// Stores past the caches: durable after the next fence.
    fn stream(&mut self, at: u64, bytes: &[u8]) {
        assert!(at.is_multiple_of(WORD_BYTES), "words are written whole");
        let place = self.place(at, bytes.len() as u64);
        // SAFETY: `place` checked that the mapping has room for all of `bytes`; it is aligned to words because a
        // mapping is aligned to pages. No reference into the mapping exists.
        unsafe { stream_words(place, bytes) };
    }
}

impl Medium for Mapping {
    fn kind(&self) -> DiskKind {
        self.kind
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(file) = &self.file {
            // The kernel's read tells a media error; a load of ours would be a fatal signal.
            return file.read_exact_at(buffer, at);
        }
        let place = self.place(at, buffer.len() as u64);
        // SAFETY: `place` checked that so many bytes are mapped, and the buffer is other memory.
        unsafe { std::ptr::copy_nonoverlapping(place, buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let place = self.place(at, bytes.len() as u64);
        // SAFETY: `place` checked that so many bytes are mapped, and the source is other memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    }

    fn flush(&mut self, at: u64, bytes: u64) {
        if self.write_back == WriteBack::Never || bytes == 0 {
            return;
        }
        let first = at / LINE_BYTES * LINE_BYTES;
        let end = (at + bytes).next_multiple_of(LINE_BYTES).min(self.bytes);
        let place = self.place(first, end - first);
        for offset in (0..end - first).step_by(LINE_BYTES as usize) {
            // SAFETY: `place` checked that all lines from `first` to `end` are mapped.
            let line = unsafe { place.add(offset as usize) };
            // SAFETY: the line is mapped; writing it back changes no value.
            unsafe { write_back_line(self.write_back, line) };
        }
    }

    fn fence(&mut self) {
        fence();
    }

    fn store(&mut self, at: u64, bytes: &[u8]) {
        if self.write_back != WriteBack::Never && bytes.len() >= STREAM_BYTES_MIN {
            self.stream(at, bytes);
        } else {
            self.write(at, bytes);
            self.flush(at, bytes.len() as u64);
        }
    }

    fn replace(&mut self, at: u64, bytes: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::Unsupported.into()) };
        file.write_all_at(&vec![0; bytes as usize], at)?;
        file.sync_data()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `map` with this size, and nothing points into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes as usize) };
    }
}

fn map(bytes: u64, flags: libc::c_int, fd: libc::c_int) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory that is in use.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes as usize, protection, flags, fd, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(base.cast()).expect("the kernel never maps address 0 unasked"))
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod processor {
    //! x86-64.

    use std::arch::asm;
    use std::arch::x86_64::{
        __cpuid_count, __m128i, _mm_clflush, _mm_loadu_si128, _mm_sfence, _mm_stream_si64, _mm_stream_si128,
    };

    use super::WriteBack;

    const CLFLUSHOPT: u32 = 1 << 23;
    const CLWB: u32 = 1 << 24;

    /// The best instruction that there is. Other processors have none.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn write_back_of_processor() -> Option<WriteBack> {
        let features = __cpuid_count(7, 0).ebx;
        Some(match features {
            _ if features & CLWB != 0 => WriteBack::Clwb,
            _ if features & CLFLUSHOPT != 0 => WriteBack::ClflushOpt,
            _ => WriteBack::Clflush,
        })
    }

    /// # Safety
    /// `line` is mapped, and the processor has the instruction.
    pub(super) unsafe fn write_back_line(write_back: WriteBack, line: *mut u8) {
        match write_back {
            WriteBack::Never => {}
            // SAFETY: the caller's.
            WriteBack::Clwb => unsafe {
                asm!("clwb [{line}]", line = in(reg) line, options(nostack, preserves_flags));
            },
            // SAFETY: the caller's.
            WriteBack::ClflushOpt => unsafe {
                asm!("clflushopt [{line}]", line = in(reg) line, options(nostack, preserves_flags));
            },
            // SAFETY: the caller's.
            WriteBack::Clflush => unsafe { _mm_clflush(line) },
        }
    }

    /// Copies `bytes` to `place` past the caches.
    ///
    /// # Safety
    /// So many bytes are mapped at `place`, which is a multiple of 8 and not where `bytes` are. A fence follows
    /// before anybody relies on them.
    #[allow(clippy::cast_ptr_alignment)] // Checked here, and by the caller.
    pub(super) unsafe fn stream_words(place: *mut u8, bytes: &[u8]) {
        let mut place = place;
        let (mut pairs, mut rest) = bytes.as_chunks::<16>();
        if !place.addr().is_multiple_of(16) {
            (pairs, rest) = (&[], bytes);
        }
        for pair in pairs {
            // SAFETY: an unaligned load of 16 bytes that exist.
            let value = unsafe { _mm_loadu_si128(pair.as_ptr().cast::<__m128i>()) };
            // SAFETY: mapped says the caller, and aligned to 16 bytes.
            unsafe { _mm_stream_si128(place.cast::<__m128i>(), value) };
            // SAFETY: at most the end of what is mapped.
            place = unsafe { place.add(16) };
        }
        let (words, tail) = rest.as_chunks::<8>();
        assert!(tail.is_empty(), "words are written whole");
        for word in words {
            // SAFETY: mapped says the caller, and aligned to 8 bytes.
            unsafe { _mm_stream_si64(place.cast::<i64>(), i64::from_le_bytes(*word)) };
            // SAFETY: at most the end of what is mapped.
            place = unsafe { place.add(8) };
        }
    }

    /// Waits for stores past the caches and for lines written back.
    pub(super) fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod processor {
    //! A processor that this module does not know: it is refused before any of this is called. Miri gets plain
    //! stores, for what is said of pointers here.

    use super::WriteBack;

    pub(super) fn write_back_of_processor() -> Option<WriteBack> {
        cfg!(miri).then_some(WriteBack::Clflush)
    }

    /// # Safety
    /// None: it does nothing.
    pub(super) unsafe fn write_back_line(_: WriteBack, _: *mut u8) {}

    /// # Safety
    /// So many bytes are mapped at `place`, which is not where `bytes` are.
    pub(super) unsafe fn stream_words(place: *mut u8, bytes: &[u8]) {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    }

    pub(super) fn fence() {}
}

use processor::{fence, stream_words, write_back_line, write_back_of_processor};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_in_any_way_is_read_back() {
        let mut mapping = Mapping::of_memory(1 << 16).unwrap();
        let bytes: Vec<u8> = (0..4096u32).map(|n| (n * 7) as u8).collect();
        for (at, length) in [(0, 4096), (4104, 264), (8192, 8), (16, 1000), (65_528, 8)] {
            for write_back in [WriteBack::Never, WriteBack::Clflush, mapping.write_back] {
                mapping.write_back = write_back;
                mapping.zero(at, length as u64);
                mapping.store(at, &bytes[..length]);
                mapping.fence();
                let mut found = vec![0; length];
                mapping.read(at, &mut found).unwrap();
                assert_eq!(found, bytes[..length], "{length} bytes at {at}, {write_back:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "inside the region")]
    fn an_access_beyond_the_region_is_caught() {
        Mapping::of_memory(4096).unwrap().store(4092, &[0; 8]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it maps no files")]
    fn a_file_shares_what_is_stored() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let other = file.try_clone().unwrap();
        let mut mapping = Mapping::of_file(file, NvmBacking::Emulated).unwrap();
        assert_eq!(mapping.kind(), DiskKind::NvmEmulated);
        mapping.store(512, &[9; 512]);
        mapping.fence();
        let mut found = [0; 512];
        other.read_exact_at(&mut found, 512).unwrap();
        assert_eq!(found, [9; 512]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it maps no files")]
    fn a_file_without_dax_is_refused_with_what_to_do() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let Err(error) = Mapping::of_file(file, NvmBacking::Dax) else { panic!("called durable") };
        let message = error.to_string();
        assert!(message.contains("mount -o dax") && message.contains("VOLATILE"), "{message}");
    }
}
