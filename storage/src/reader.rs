//! The thread beside the core that looks after old segments: it reads them back, and removes them.
//!
//! One thread for both: a segment is never removed while it is being read, and no open file keeps the space of
//! one that was removed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::buffer::AlignedBuffer;
use crate::disk::Completion;
use crate::file_disk::Access;
use crate::helper::{Helper, Stop, pause};
use crate::identity::{Position, SegmentId};
use crate::segment::file_name;
use crate::wake::WakeFd;

/// The journal asks again for a removal that failed: not faster than this.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// What there is to do.
pub(crate) enum Work {
    Read { token: u64, at: Position, buffer: AlignedBuffer, bytes: usize },
    Remove(SegmentId),
}

/// Works on the old segments of one directory.
pub(crate) struct Reader {
    directory: PathBuf,
    access: Access,
    opened: Option<(SegmentId, File)>,
}

impl Reader {
    /// Starts the thread.
    pub(crate) fn spawn(
        directory: PathBuf,
        access: Access,
        wake: WakeFd,
    ) -> io::Result<Helper<Work, Completion>> {
        let mut reader = Reader { directory, access, opened: None };
        Helper::spawn("annulus-read", wake, move |work, stop: &Stop| match work {
            Work::Read { token, at, mut buffer, bytes } => {
                let result = reader.read(at, &mut buffer[..bytes]);
                Completion::Read { token, buffer, result }
            }
            Work::Remove(segment) => {
                let result = reader.remove(segment);
                if result.is_err() {
                    pause(AFTER_FAILURE, stop);
                }
                Completion::Removed { segment, result }
            }
        })
    }

    fn read(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        let file = match self.opened.take() {
            Some((segment, file)) if segment == at.segment => file,
            _ => self.access.to_read(&self.directory.join(file_name(at.segment)))?,
        };
        let result = file.read_exact_at(buffer, at.offset);
        self.opened = Some((at.segment, file));
        result
    }

    fn remove(&mut self, segment: SegmentId) -> io::Result<()> {
        self.opened.take_if(|(opened, _)| *opened == segment);
        match std::fs::remove_file(self.directory.join(file_name(segment))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // One that is gone was removed by an attempt that failed later: it may not be durable.
            _ => File::open(&self.directory)?.sync_all(),
        }
    }
}
