//! Segment files, read without changing anything.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::disk::{SegmentFile, Segments};
use crate::identity::{Position, SegmentId};
use crate::segment::{file_name, parse_file_name};

/// The segments of one core's directory, opened for reading only.
pub struct SegmentFiles {
    directory: PathBuf,
    opened: Option<(SegmentId, File)>,
}

impl SegmentFiles {
    /// The segments in `directory`. Nothing is opened yet.
    pub fn open(directory: &Path) -> SegmentFiles {
        SegmentFiles { directory: directory.into(), opened: None }
    }

    /// Keeps no file of `segment` open.
    pub(crate) fn close(&mut self, segment: SegmentId) {
        self.opened.take_if(|(opened, _)| *opened == segment);
    }
}

impl Segments for SegmentFiles {
    fn list(&mut self) -> io::Result<Vec<SegmentFile>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let Some(segment) = entry.file_name().to_str().and_then(parse_file_name) {
                files.push(SegmentFile { segment, bytes: entry.metadata()?.len() });
            }
        }
        files.sort_unstable_by_key(|file| file.segment);
        Ok(files)
    }

    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        let file = match self.opened.take() {
            Some((segment, file)) if segment == at.segment => file,
            _ => File::open(self.directory.join(file_name(at.segment)))?,
        };
        let result = file.read_exact_at(buffer, at.offset);
        self.opened = Some((at.segment, file));
        result
    }

    fn has_begun(&self) -> bool {
        false
    }
}
