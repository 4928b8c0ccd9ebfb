//! The data directory of a node.
//!
//! ```text
//! node.lock          held while a process uses the directory
//! superblock         whose directory it is: the last file made, so all else is there when it is
//! core-<i>/          segments of core i's journal
//! core-<i>.begun     the journal of core i has begun: an empty `core-<i>/` is a loss from then on
//! ```

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};

use crate::error::OpenError;
use crate::identity::Identity;
use crate::superblock::{DATA_VERSION, Superblock, SuperblockError};

const LOCK: &str = "node.lock";
const SUPERBLOCK: &str = "superblock";

/// A data directory, locked against other processes while it or any of its core directories lives.
///
/// ```
/// use annulus_rings::{ClusterId, CoreId, NodeId};
/// use annulus_storage::DataDir;
///
/// let directory = tempfile::tempdir()?;
/// let data = DataDir::open(directory.path(), ClusterId(7), NodeId(1), 2)?;
/// assert_eq!(data.core(CoreId(1)).identity().node, NodeId(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    superblock: Superblock,
    lock: Arc<File>,
}

/// The directory of one core's journal. It can be sent to the core's thread.
#[derive(Clone, Debug)]
pub struct CoreDirectory {
    path: PathBuf,
    begun_mark: PathBuf,
    identity: Identity,
    /// Keeps the lock while anything uses the directory.
    lock: Arc<File>,
}

impl DataDir {
    /// Opens the data directory of a node, or makes it where there is none or an empty one.
    ///
    /// # Errors
    /// Any [`OpenError`] but those of disks and options; each says what to do.
    pub fn open(path: &Path, cluster: ClusterId, node: NodeId, cores: u16) -> Result<DataDir, OpenError> {
        if node == NodeId(0) || cores == 0 {
            return Err(OpenError::Options("node ids and core counts start at 1".into()));
        }
        std::fs::create_dir_all(path).map_err(OpenError::io(path, "creating the data directory"))?;
        let lock = lock(path)?;
        let superblock = match read_superblock(&path.join(SUPERBLOCK))? {
            Some(superblock) => superblock,
            None => create(path, cluster, node, cores)?,
        };
        let data = DataDir { path: path.into(), superblock, lock: Arc::new(lock) };
        data.check(cluster, node, cores)?;
        Ok(data)
    }

    /// Whose directory it is.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The life of this node's disk.
    pub fn incarnation(&self) -> Incarnation {
        self.superblock.incarnation
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a core's journal. The core is one of those the directory was opened with.
    pub fn core(&self, core: CoreId) -> CoreDirectory {
        assert!(core.0 < self.superblock.cores, "a core of this node");
        CoreDirectory {
            path: core_path(&self.path, core.0),
            begun_mark: core_path(&self.path, core.0).with_extension("begun"),
            identity: Identity {
                cluster: self.superblock.cluster,
                node: self.superblock.node,
                core,
                incarnation: self.superblock.incarnation,
                disk_uuid: self.superblock.disk_uuid,
            },
            lock: Arc::clone(&self.lock),
        }
    }

    fn check(&self, cluster: ClusterId, node: NodeId, cores: u16) -> Result<(), OpenError> {
        let path = self.path.clone();
        let Superblock { cluster: own_cluster, node: own_node, cores: own_cores, .. } = self.superblock;
        if own_cluster != cluster {
            return Err(OpenError::ForeignCluster { path, found: own_cluster, expected: cluster });
        }
        if own_node != node {
            return Err(OpenError::ForeignNode { path, found: own_node, expected: node });
        }
        if own_cores != cores {
            return Err(OpenError::CoreCount { path, found: own_cores, expected: cores });
        }
        let lost = (0..cores).map(|core| core_path(&path, core)).find(|core| !core.is_dir());
        lost.map_or(Ok(()), |core| Err(OpenError::MissingCore(core)))
    }
}

impl CoreDirectory {
    /// Whose journal it holds.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, for whoever writes to the directory by means that outlive the process.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    pub(crate) fn begun_mark(&self) -> &Path {
        &self.begun_mark
    }
}

/// Reads the superblock of a data directory without locking or changing anything.
///
/// # Errors
/// There is none, it is damaged, or of another version.
pub fn inspect_superblock(path: &Path) -> Result<Superblock, OpenError> {
    read_superblock(&path.join(SUPERBLOCK))?.ok_or_else(|| OpenError::NotADataDirectory(path.into()))
}

fn core_path(directory: &Path, core: u16) -> PathBuf {
    directory.join(format!("core-{core}"))
}

/// How long a directory may stay locked before that is an error: a killed process holds it until the kernel
/// has finished its last writes.
const IN_USE_MAX: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(OpenError::io(&path, "opening the lock file"))?;
    let give_up = Instant::now() + IN_USE_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => thread::sleep(RETRY_INTERVAL),
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(directory.into())),
            Err(TryLockError::Error(error)) => return Err(OpenError::io(&path, "locking")(error)),
        }
    }
}

fn read_superblock(path: &Path) -> Result<Option<Superblock>, OpenError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(path, "reading the superblock")(error)),
    };
    match Superblock::decode(&bytes) {
        Ok(superblock) => Ok(Some(superblock)),
        Err(SuperblockError::Damaged(why)) => Err(OpenError::Superblock { path: path.into(), why }),
        Err(SuperblockError::Version(found)) => {
            Err(OpenError::Version { path: path.into(), found, expected: DATA_VERSION })
        }
    }
}

/// Makes the directory of a node that never ran. What an interrupted attempt left is made again: the
/// superblock comes last.
fn create(path: &Path, cluster: ClusterId, node: NodeId, cores: u16) -> Result<Superblock, OpenError> {
    refuse_foreign_content(path)?;
    for core in 0..cores {
        let core = core_path(path, core);
        std::fs::create_dir_all(&core).map_err(OpenError::io(&core, "creating the directory of a core"))?;
    }
    sync_directory(path).map_err(OpenError::io(path, "syncing the data directory"))?;
    if let Some(parent) = path.canonicalize().ok().as_deref().and_then(Path::parent) {
        sync_directory(parent).map_err(OpenError::io(parent, "syncing the directory"))?;
    }
    let disk_uuid = draw_uuid().map_err(OpenError::io("/dev/urandom", "drawing an identity"))?;
    // Peers know the disk by it: another directory of the same node must have another. 0 would be none.
    let incarnation = Incarnation((disk_uuid as u32).max(1));
    let superblock = Superblock { cluster, node, incarnation, disk_uuid, cores };
    let file = path.join(SUPERBLOCK);
    superblock.publish(&file).map_err(OpenError::io(&file, "writing the superblock"))?;
    Ok(superblock)
}

/// Without a superblock there may be nothing but what an interrupted creation leaves.
fn refuse_foreign_content(path: &Path) -> Result<(), OpenError> {
    let failed = || OpenError::io(path, "reading the data directory");
    for entry in std::fs::read_dir(path).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let empty_core = name.starts_with("core-")
            && std::fs::read_dir(entry.path()).is_ok_and(|mut content| content.next().is_none());
        if name != LOCK && name != "superblock.new" && !empty_core {
            return Err(OpenError::NotADataDirectory(path.into()));
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn draw_uuid() -> io::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

// Not under Miri: it has neither locks nor syncs of directories.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    fn open(path: &Path) -> Result<DataDir, OpenError> {
        DataDir::open(path, CLUSTER, NodeId(1), 2)
    }

    #[test]
    fn reopening_gives_the_same_identity() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).unwrap().core(CoreId(1)).identity();
        assert_eq!(open(directory.path()).unwrap().core(CoreId(1)).identity(), first);
    }

    #[test]
    fn every_directory_is_a_life_of_its_own() {
        let incarnation = || open(tempfile::tempdir().unwrap().path()).unwrap().incarnation();
        let lives = [incarnation(), incarnation(), incarnation()];
        assert!(lives.iter().all(|life| *life != Incarnation(0)));
        assert!(lives[0] != lives[1] || lives[1] != lives[2], "{lives:?}");
    }

    #[test]
    fn a_second_opener_is_refused_with_the_name_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let core = open(directory.path()).unwrap().core(CoreId(0));
        let error = open(directory.path()).unwrap_err();
        assert!(error.to_string().contains(&*directory.path().to_string_lossy()), "{error}");
        assert!(matches!(error, OpenError::InUse(_)), "a core directory holds the lock too");
        drop(core);
        open(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_of_another_cluster_node_or_core_count_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        let refusal = |cluster, node, cores| {
            DataDir::open(directory.path(), ClusterId(cluster), NodeId(node), cores).unwrap_err()
        };
        assert!(matches!(refusal(8, 1, 2), OpenError::ForeignCluster { .. }));
        assert!(matches!(refusal(7, 2, 2), OpenError::ForeignNode { .. }));
        assert!(matches!(refusal(7, 1, 3), OpenError::CoreCount { .. }));
    }

    #[test]
    fn a_directory_with_foreign_content_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::NotADataDirectory(_))));
    }

    #[test]
    fn a_lost_superblock_never_becomes_a_new_identity() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        std::fs::write(directory.path().join("core-0/0000000000000001.segment"), "x").unwrap();
        std::fs::remove_file(directory.path().join(SUPERBLOCK)).unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::NotADataDirectory(_))));
    }

    #[test]
    fn a_damaged_superblock_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        let path = directory.path().join(SUPERBLOCK);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::Superblock { .. })));
    }

    #[test]
    fn a_lost_core_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        std::fs::remove_dir(directory.path().join("core-1")).unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::MissingCore(_))));
    }

    #[test]
    fn an_interrupted_creation_is_completed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("core-0")).unwrap();
        std::fs::write(directory.path().join("superblock.new"), "half").unwrap();
        open(directory.path()).unwrap();
    }
}
