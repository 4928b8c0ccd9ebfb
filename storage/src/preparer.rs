//! Makes segments: zeros throughout, so that a write to one changes no metadata of the file system.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::buffer::AlignedBuffer;
use crate::file_disk::Access;
use crate::helper::{Stop, pause};
use crate::identity::SegmentId;
use crate::segment::{SegmentHeader, file_name};

/// The ending of a segment that is not whole yet. Such files are removed at the next opening.
pub(crate) const UNFINISHED: &str = "unfinished";

/// One write of zeros: short enough that a journal write that queues behind it waits little.
const CHUNK_BYTES: usize = 256 << 10;
/// The journal asks again for a segment that could not be made: not faster than this.
const AFTER_FAILURE: Duration = Duration::from_millis(250);
/// Unless it is urgent, a preparation leaves the device alone this many times as long as it used it.
const PAUSE_RATIO: u32 = 3;

/// A segment to make.
pub(crate) struct Preparation {
    pub(crate) header: SegmentHeader,
    pub(crate) urgent: bool,
}

/// A segment made, opened for writing, or why not.
pub(crate) struct Prepared {
    pub(crate) segment: SegmentId,
    pub(crate) result: io::Result<File>,
}

/// Makes segments in one directory.
pub(crate) struct Preparer {
    directory: PathBuf,
    /// A file beside the directory that says a journal was begun in it.
    begun: PathBuf,
    access: Access,
    zeros: AlignedBuffer,
}

impl Preparer {
    pub(crate) fn new(directory: PathBuf, begun: PathBuf, access: Access) -> Preparer {
        Preparer { directory, begun, access, zeros: AlignedBuffer::new(CHUNK_BYTES) }
    }

    /// Makes one segment durable under its name, or leaves nothing.
    pub(crate) fn prepare(&mut self, job: &Preparation, stop: &Stop) -> Prepared {
        let segment = job.header.segment;
        let unfinished = self.directory.join(file_name(segment)).with_extension(UNFINISHED);
        let result = self
            .fill(&unfinished, job, stop)
            .and_then(|()| self.publish(&unfinished, segment))
            .and_then(|()| self.access.to_write(&self.directory.join(file_name(segment))));
        if result.is_err() {
            // Best effort: the next opening removes what stays.
            let _ = std::fs::remove_file(&unfinished);
            pause(AFTER_FAILURE, stop);
        }
        Prepared { segment, result }
    }

    fn fill(&mut self, path: &Path, job: &Preparation, stop: &Stop) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        options.custom_flags(self.access.direct_flag());
        let file = options.open(path)?;
        reserve(&file, job.header.bytes)?;
        self.write_zeros(&file, job, stop)?;
        let encoded = job.header.encode();
        self.zeros[..encoded.len()].copy_from_slice(&encoded);
        let written = file.write_all_at(&self.zeros[..crate::block::BLOCK_ALIGN_BYTES], 0);
        self.zeros[..encoded.len()].fill(0);
        written?;
        file.sync_all()
    }

    fn write_zeros(&self, file: &File, job: &Preparation, stop: &Stop) -> io::Result<()> {
        let mut offset = 0;
        while offset < job.header.bytes {
            if stop.is_asked() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let begin = Instant::now();
            let bytes = (job.header.bytes - offset).min(CHUNK_BYTES as u64);
            file.write_all_at(&self.zeros[..bytes as usize], offset)?;
            offset += bytes;
            if !job.urgent {
                std::thread::sleep(begin.elapsed() * PAUSE_RATIO);
            }
        }
        Ok(())
    }

    fn publish(&self, unfinished: &Path, segment: SegmentId) -> io::Result<()> {
        std::fs::rename(unfinished, self.directory.join(file_name(segment)))?;
        File::open(&self.directory)?.sync_all()?;
        if !self.begun.exists() {
            File::create(&self.begun)?.sync_all()?;
            let parent = self.begun.parent().expect("the mark lies in the data directory");
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }
}

/// Reserves the space in one piece, so that a full disk is noticed before anything is promised.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and no memory is passed.
    let answer = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) };
    if answer == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // Not every file system reserves; the zeros that follow take the space all the same.
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        error => Err(error),
    }
}
