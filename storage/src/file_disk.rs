//! A journal's segments as files of one directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::buffer::AlignedBuffer;
use crate::data_dir::CoreDirectory;
use crate::disk::{Completion, Disk, DiskKind, SegmentFile, Segments};
use crate::error::OpenError;
use crate::helper::Helper;
use crate::identity::{Position, SegmentId};
use crate::options::SyncMode;
use crate::preparer::{Preparation, Prepared, Preparer, UNFINISHED};
use crate::reader::{Reader, Work};
use crate::segment::{SegmentHeader, file_name};
use crate::segment_files::SegmentFiles;
use crate::uring::Uring;
use crate::wake::WakeFd;

/// The most memory that one core registers with the kernel: several processes of one user share 8 MiB.
const REGISTERED_BYTES_MAX: usize = 1 << 20;
/// How long a blocking wait at start sleeps between looks.
const WAIT: Duration = Duration::from_micros(200);

/// The device of a durable journal: `io_uring` for group writes, one helper thread that makes segments,
/// and one, started when first needed, that reads old ones back and removes them.
///
/// It belongs to the thread that opened it.
pub struct FileDisk {
    access: Access,
    uring: Uring,
    /// Segments opened for writing, from the one in use on.
    writable: Vec<(SegmentId, Rc<File>)>,
    readable: SegmentFiles,
    preparer: Helper<Preparation, Prepared>,
    reader: Option<Helper<Work, Completion>>,
    /// Operations that failed before they reached the device.
    refused: Vec<Completion>,
    wake: WakeFd,
    /// Holds the lock of the data directory. The last field: fields are dropped in order, and by then
    /// no write is in flight and no helper runs.
    directory: CoreDirectory,
}

/// Room for the segments in use and ahead, so that taking one allocates nothing.
const WRITABLE_MAX: usize = 16;

/// How segment files are opened.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    direct: bool,
    dsync: bool,
}

impl Access {
    pub(crate) fn direct_flag(self) -> i32 {
        if self.direct { libc::O_DIRECT } else { 0 }
    }

    /// Opens a segment for group writes.
    pub(crate) fn to_write(self, path: &Path) -> io::Result<File> {
        let dsync = if self.dsync { libc::O_DSYNC } else { 0 };
        OpenOptions::new().write(true).custom_flags(self.direct_flag() | dsync).open(path)
    }

    /// Opens a segment for reading back while others are written.
    pub(crate) fn to_read(self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(self.direct_flag()).open(path)
    }
}

impl FileDisk {
    /// Opens the directory of a core, on the thread that will use it.
    ///
    /// # Errors
    /// [`OpenError::NoUring`], [`OpenError::Memlock`], [`OpenError::NoDirectIo`], or what the operating system refused.
    pub fn open(directory: &CoreDirectory, sync: SyncMode) -> Result<FileDisk, OpenError> {
        let path = directory.path();
        remove_unfinished(path).map_err(OpenError::io(path, "removing unfinished segments"))?;
        let access = Access { direct: supports_direct(path, sync)?, dsync: sync == SyncMode::ODsync };
        let mut uring = Uring::new(sync).map_err(OpenError::uring)?;
        uring.hold(directory.lock()).map_err(OpenError::uring)?;
        let wake = WakeFd::default();
        let mut preparer = Preparer::new(path.into(), directory.begun_mark().into(), access);
        let work = move |job: Preparation, stop: &_| preparer.prepare(&job, stop);
        let preparer = Helper::spawn("annulus-prepare", wake.clone(), work)
            .map_err(OpenError::io(path, "starting the thread that makes segments"))?;
        let readable = SegmentFiles::open(path);
        Ok(FileDisk {
            access,
            uring,
            writable: Vec::with_capacity(WRITABLE_MAX),
            readable,
            preparer,
            reader: None,
            refused: Vec::new(),
            wake,
            directory: directory.clone(),
        })
    }

    fn segment_path(&self, segment: SegmentId) -> PathBuf {
        self.directory.path().join(file_name(segment))
    }

    /// The file of a segment for writing. Those before it are closed: blocks are only ever appended.
    fn writable(&mut self, segment: SegmentId) -> io::Result<Rc<File>> {
        if let Some((_, file)) = self.writable.iter().find(|(opened, _)| *opened == segment) {
            return Ok(Rc::clone(file));
        }
        let file = Rc::new(self.access.to_write(&self.segment_path(segment))?);
        self.writable.push((segment, Rc::clone(&file)));
        Ok(file)
    }

    /// Answers an operation that never reached the device at the next poll.
    fn refuse(&mut self, completion: Completion) {
        self.refused.push(completion);
        self.wake.signal();
    }

    fn reader(&mut self) -> io::Result<&mut Helper<Work, Completion>> {
        if self.reader.is_none() {
            let directory = self.directory.path().to_path_buf();
            self.reader = Some(Reader::spawn(directory, self.access, self.wake.clone())?);
        }
        Ok(self.reader.as_mut().expect("set above"))
    }
}

impl Segments for FileDisk {
    fn list(&mut self) -> io::Result<Vec<SegmentFile>> {
        self.readable.list()
    }

    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        self.readable.read_at(at, buffer)
    }

    fn has_begun(&self) -> bool {
        self.directory.begun_mark().exists()
    }
}

impl Disk for FileDisk {
    fn kind(&self) -> DiskKind {
        DiskKind::File
    }

    fn erase(&mut self, at: Position, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.segment_path(at.segment))?;
        let zeros = vec![0; bytes as usize];
        file.write_all_at(&zeros, at.offset)
    }

    fn sync(&mut self, segment: SegmentId) -> io::Result<()> {
        self.writable(segment)?.sync_all()
    }

    fn register_buffers(&mut self, buffers: &mut [AlignedBuffer]) {
        let bytes: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if bytes > REGISTERED_BYTES_MAX {
            tracing::debug!(bytes, "journal buffers are too large to register");
            return;
        }
        if let Err(error) = self.uring.register_buffers(buffers) {
            tracing::warn!(%error, bytes, "journal buffers are not registered: raise `ulimit -l` (memlock)");
        }
    }

    fn prepare(&mut self, header: SegmentHeader, urgent: bool) {
        self.preparer.give(Preparation { header, urgent });
    }

    fn remove(&mut self, segment: SegmentId) {
        // No open file keeps its space.
        self.writable.retain(|(opened, _)| *opened != segment);
        self.readable.close(segment);
        match self.reader() {
            Ok(reader) => reader.give(Work::Remove(segment)),
            Err(error) => self.refuse(Completion::Removed { segment, result: Err(error) }),
        }
    }

    fn write(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        match self.writable(at.segment) {
            Ok(file) => {
                self.writable.retain(|(segment, _)| *segment >= at.segment);
                self.uring.write(token, file, at.offset, buffer, bytes);
            }
            Err(error) => self.refuse(Completion::Written { token, buffer, result: Err(error) }),
        }
    }

    fn read(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        match self.reader() {
            Ok(reader) => reader.give(Work::Read { token, at, buffer, bytes }),
            Err(error) => self.refuse(Completion::Read { token, buffer, result: Err(error) }),
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.uring.submit()
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.refused);
        self.uring.poll(|written| {
            let crate::uring::Written { token, buffer, result } = written;
            completions.push(Completion::Written { token, buffer, result });
        })?;
        while let Some(Prepared { segment, result }) = self.preparer.collect()? {
            let result = result.map(|file| self.writable.push((segment, Rc::new(file))));
            completions.push(Completion::Prepared { segment, result });
        }
        if let Some(reader) = &mut self.reader {
            while let Some(completion) = reader.collect()? {
                completions.push(completion);
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        if self.uring.is_idle() {
            std::thread::sleep(WAIT);
            return Ok(());
        }
        self.uring.wait()
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.wake.set(eventfd)?;
        self.uring.register_wake(eventfd)
    }
}

/// Whether files here are opened with `O_DIRECT`.
fn supports_direct(directory: &Path, sync: SyncMode) -> Result<bool, OpenError> {
    let probe = directory.join("direct").with_extension(UNFINISHED);
    let opened =
        OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(&probe);
    let removed = std::fs::remove_file(&probe);
    direct_access(directory, sync, opened.map(drop).and(removed))
}

/// What the answer to opening a file with `O_DIRECT` means for a sync mode.
fn direct_access(directory: &Path, sync: SyncMode, answer: io::Result<()>) -> Result<bool, OpenError> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => {
            Err(OpenError::io(directory, "creating a file")(error))
        }
        Err(_) if sync == SyncMode::Fdatasync => {
            tracing::warn!(directory = %directory.display(), "no O_DIRECT here: writing through the page cache");
            Ok(false)
        }
        Err(_) => Err(OpenError::NoDirectIo(directory.into())),
    }
}

fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    #[test]
    fn a_file_system_without_o_direct_is_refused_with_the_mode_that_works() {
        let error = direct_access(Path::new("/data"), SyncMode::Dsync, refused()).unwrap_err();
        assert!(error.to_string().contains("`fdatasync`"), "{error}");
    }

    #[test]
    fn a_refused_ring_says_whether_memlock_or_the_kernel_is_to_change() {
        let message = |code| OpenError::uring(io::Error::from_raw_os_error(code)).to_string();
        assert!(message(libc::ENOMEM).contains("ulimit -l"));
        assert!(message(libc::EPERM).contains("io_uring_disabled"));
    }

    #[test]
    fn fdatasync_goes_through_the_page_cache_where_o_direct_is_refused() {
        assert!(!direct_access(Path::new("/data"), SyncMode::Fdatasync, refused()).unwrap());
    }
}
