//! The file of a region: made aside, whole, and never made again where one was begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::mapping::Mapping;
use super::options::NvmOptions;
use super::region::{EXTENTS_OFFSET, Region, RegionError};
use crate::block::BLOCK_ALIGN_BYTES;
use crate::data_dir::CoreDirectory;
use crate::error::OpenError;
use crate::preparer::{UNFINISHED, reserve};

/// Where the region of a core is.
pub(crate) struct RegionFile(PathBuf);

impl RegionFile {
    /// The file that the options name.
    pub(crate) fn of(core: &CoreDirectory, options: &NvmOptions) -> RegionFile {
        RegionFile(match &options.directory {
            Some(directory) => directory.join(format!("core-{}.nvm", core.identity().core)),
            None => core.path().join("journal.nvm"),
        })
    }

    /// Opens the region, or makes it.
    pub(crate) fn open(
        &self,
        core: &CoreDirectory,
        options: &NvmOptions,
    ) -> Result<Region<Mapping>, OpenError> {
        let region = if self.0.exists() {
            let file = OpenOptions::new().read(true).write(true).open(&self.0);
            let file = file.map_err(OpenError::io(&self.0, "opening the region"))?;
            let mapping = Mapping::of_file(file, options.backing);
            mapping.and_then(|mapping| Region::open(mapping, &core.identity()))
        } else if core.begun_mark().exists() {
            Err(RegionError::Missing)
        } else {
            self.create(core, options)
        };
        let region = region.map_err(|source| self.refused(source))?;
        mark_begun(core).map_err(OpenError::io(core.begun_mark(), "noting that a journal was begun"))?;
        Ok(region)
    }

    /// Why it cannot be used.
    pub(crate) fn refused(&self, source: RegionError) -> OpenError {
        OpenError::Region { path: self.0.clone(), source }
    }

    /// Makes a region aside: it gets its name when it is whole.
    fn create(&self, core: &CoreDirectory, options: &NvmOptions) -> Result<Region<Mapping>, RegionError> {
        verify_size(options.region_bytes)?;
        let unfinished = self.0.with_extension(UNFINISHED);
        let made = self.fill(&unfinished, core, options);
        if made.is_err() {
            // Best effort: the next attempt overwrites what stays.
            let _ = std::fs::remove_file(&unfinished);
        }
        made
    }

    fn fill(
        &self,
        unfinished: &Path,
        core: &CoreDirectory,
        options: &NvmOptions,
    ) -> Result<Region<Mapping>, RegionError> {
        let file = zeroed(unfinished, options.region_bytes);
        let file = file.map_err(|error| RegionError::Io("reserving the region", error))?;
        let mapping = Mapping::of_file(file, options.backing)?;
        let region = Region::format(mapping, &core.identity());
        let named = std::fs::rename(unfinished, &self.0).and_then(|()| sync_parent(&self.0));
        named.map_err(|error| RegionError::Io("giving the region its name", error))?;
        Ok(region)
    }
}

/// Refuses a region that could hold nothing.
pub(crate) fn verify_size(bytes: u64) -> Result<(), RegionError> {
    let bytes_min = EXTENTS_OFFSET + BLOCK_ALIGN_BYTES as u64;
    let is_enough = bytes >= bytes_min && bytes.is_multiple_of(BLOCK_ALIGN_BYTES as u64);
    if is_enough { Ok(()) } else { Err(RegionError::Small { bytes, bytes_min }) }
}

/// A file of zeros that are written: the file system has nothing to do at the first store to a page.
fn zeroed(path: &Path, bytes: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    reserve(&file, bytes)?;
    let zeros = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let slice = left.min(zeros.len() as u64);
        file.write_all(&zeros[..slice as usize])?;
        left -= slice;
    }
    file.sync_all()?;
    Ok(file)
}

/// From here on, that there is no region is a loss.
fn mark_begun(core: &CoreDirectory) -> io::Result<()> {
    let mark = core.begun_mark();
    if mark.exists() {
        return Ok(());
    }
    File::create(mark)?.sync_all()?;
    sync_parent(mark)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
