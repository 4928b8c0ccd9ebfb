//! What an operator names: the data directory of a node, or the directory of one of its cores.

use std::fmt;
use std::path::{Path, PathBuf};

use annulus_rings::CoreId;
use annulus_storage::{Identity, OpenError, Superblock, inspect_superblock};
use serde::Serialize;

/// Whose files they are.
#[derive(Serialize)]
pub struct Owner {
    cluster: u64,
    node: u16,
    core: u16,
    incarnation: u32,
    disk_uuid: String,
}

impl Owner {
    /// In plain fields.
    pub fn of(identity: &Identity) -> Owner {
        Owner {
            cluster: identity.cluster.0,
            node: identity.node.0,
            core: identity.core.0,
            incarnation: identity.incarnation.0,
            disk_uuid: format!("{:032x}", identity.disk_uuid),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Owner { cluster, node, core, incarnation, disk_uuid } = self;
        write!(f, "cluster {cluster}, node {node}, core {core}, incarnation {incarnation}, disk {disk_uuid}")
    }
}

/// Why nothing could be looked at.
#[derive(Debug)]
pub enum DirectoryError {
    /// It is neither a data directory nor the directory of a core.
    NotADataDirectory(PathBuf, OpenError),
    /// A core's directory is missing.
    MissingCore(PathBuf),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::NotADataDirectory(path, error) => {
                write!(f, "{}: {error}; name a node's data directory, or a core-N in it", path.display())
            }
            DirectoryError::MissingCore(path) => {
                write!(f, "{} is missing: its node has a journal there", path.display())
            }
        }
    }
}

/// The directories of the cores below a data directory; or the directory itself, if it is a core's.
pub fn core_directories(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    if core_number(directory).is_some() && directory.is_dir() {
        return Ok(vec![directory.to_owned()]);
    }
    let superblock = superblock(directory)?;
    let cores = (0..superblock.cores).map(|core| directory.join(format!("core-{core}")));
    let there = |core: PathBuf| if core.is_dir() { Ok(core) } else { Err(DirectoryError::MissingCore(core)) };
    cores.map(there).collect()
}

/// Whose data directory it is.
pub fn superblock(directory: &Path) -> Result<Superblock, DirectoryError> {
    inspect_superblock(directory)
        .map_err(|error| DirectoryError::NotADataDirectory(directory.to_owned(), error))
}

/// Whose files lie in a core's directory, as the superblock above it says. Nobody's, if there is none.
pub fn identity_of_core(core_directory: &Path) -> Option<Identity> {
    let core = core_number(core_directory)?;
    let superblock = inspect_superblock(core_directory.parent()?).ok()?;
    let Superblock { cluster, node, incarnation, disk_uuid, .. } = superblock;
    Some(Identity { cluster, node, core, incarnation, disk_uuid })
}

fn core_number(directory: &Path) -> Option<CoreId> {
    let name = directory.file_name()?.to_str()?;
    name.strip_prefix("core-")?.parse().ok().map(CoreId)
}
