//! Where journals are kept while the benchmark runs: a temporary directory on a disk.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::environment;

/// A run that fills the disk measures nothing: this much must be free before each row.
const FREE_BYTES_MIN: u64 = 4 << 30;

/// There is no place for journals.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    #[error(
        "{0} is in memory (tmpfs), where nothing is durable: name a directory on a disk with --dir, or \
         measure without durability with --journal memory"
    )]
    InMemory(PathBuf),
    #[error(
        "$TMPDIR, /var/tmp and the current directory are all in memory or not writable: name a directory on \
         a disk with --dir"
    )]
    NoDisk,
    #[error("cannot make a directory in {path}: {source}")]
    Make { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} has {free_mib} MiB free, and journals may need {} MiB: free some, or use --dir",
        FREE_BYTES_MIN >> 20
    )]
    NoSpace { path: PathBuf, free_mib: u64 },
}

/// The directory in which each row gets one of its own.
pub(crate) struct Home {
    path: PathBuf,
}

impl Home {
    /// `wanted`, or the first place that is on a disk. Only journals in files need one.
    pub(crate) fn choose(wanted: Option<&Path>, needs_disk: bool) -> Result<Home, HomeError> {
        if let Some(path) = wanted {
            if needs_disk && environment::is_in_memory(path) {
                return Err(HomeError::InMemory(path.to_owned()));
            }
            return Ok(Home { path: path.to_owned() });
        }
        let places = [std::env::temp_dir(), PathBuf::from("/var/tmp"), PathBuf::from(".")];
        let usable = |path: &PathBuf| !needs_disk || (!environment::is_in_memory(path) && make(path).is_ok());
        places.into_iter().find(usable).map(|path| Home { path }).ok_or(HomeError::NoDisk)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A directory that goes when it is dropped.
    pub(crate) fn room(&self) -> Result<TempDir, HomeError> {
        self.check_space()?;
        make(&self.path)
    }

    fn check_space(&self) -> Result<(), HomeError> {
        let Ok(status) = rustix::fs::statvfs(&self.path) else { return Ok(()) };
        let free_bytes = status.f_bavail * status.f_frsize;
        if free_bytes >= FREE_BYTES_MIN {
            return Ok(());
        }
        Err(HomeError::NoSpace { path: self.path.clone(), free_mib: free_bytes >> 20 })
    }
}

fn make(path: &Path) -> Result<TempDir, HomeError> {
    let failed = |source| HomeError::Make { path: path.to_owned(), source };
    tempfile::Builder::new().prefix("annulus-bench-").tempdir_in(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_no_home_for_a_durable_journal() {
        let error = Home::choose(Some(Path::new("/dev/shm")), true).err().unwrap();
        assert!(error.to_string().contains("--dir"));
        assert!(Home::choose(Some(Path::new("/dev/shm")), false).is_ok());
    }

    #[test]
    fn a_room_goes_when_it_is_dropped() {
        let home = Home::choose(Some(Path::new(env!("CARGO_MANIFEST_DIR"))), false).unwrap();
        let room = make(home.path()).unwrap();
        let path = room.path().to_owned();
        assert!(path.is_dir());
        drop(room);
        assert!(!path.exists());
    }
}
