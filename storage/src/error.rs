//! What can go wrong with a journal, said so that a person can act on it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use annulus_rings::{ClusterId, Lsn, NodeId};

use crate::identity::{Position, SegmentId};
use crate::nvm::RegionError;

/// Why a data directory, a disk or a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused something.
    #[error("{path}: {action}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// Another process has the directory open.
    #[error("{path} is in use by another process: stop it, or give this node a directory of its own", path = .0.display())]
    InUse(PathBuf),
    /// The directory holds something else.
    #[error("{path} is not empty and holds no superblock: it is not a data directory of annulus, or it lost its superblock. Give an empty directory, or restore this one", path = .0.display())]
    NotADataDirectory(PathBuf),
    /// The superblock is damaged.
    #[error("{path}: the superblock is damaged ({why}): restore it, or keep this node stopped and let the others serve. Do not start it with an empty directory: it could forget votes", path = path.display())]
    Superblock {
        /// The superblock.
        path: PathBuf,
        /// What does not match.
        why: &'static str,
    },
    /// A format of another version.
    #[error("{path} has format version {found}, this build reads version {expected}: use the matching build", path = path.display())]
    Version {
        /// The superblock.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// This build's version.
        expected: u16,
    },
    /// The directory belongs to another cluster.
    #[error("{path} belongs to cluster {found}, not to cluster {expected}: check the cluster id and the data directory", path = path.display())]
    ForeignCluster {
        /// The directory.
        path: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The cluster asked for.
        expected: ClusterId,
    },
    /// The directory belongs to another node.
    #[error("{path} belongs to node {found}, not to node {expected}: check the node id and the data directory", path = path.display())]
    ForeignNode {
        /// The directory.
        path: PathBuf,
        /// Its node.
        found: NodeId,
        /// The node asked for.
        expected: NodeId,
    },
    /// The directory was made for another number of cores.
    #[error("{path} was made for {found} core(s), not {expected}: rings would lose their journals. Start with {found} core(s)", path = path.display())]
    CoreCount {
        /// The directory.
        path: PathBuf,
        /// Its cores.
        found: u16,
        /// The cores asked for.
        expected: u16,
    },
    /// The journal of a core is gone.
    #[error("{path} is missing: what this node acknowledged is lost. Restore it, or keep this node stopped and let the others serve. Do not start it with an empty directory: it could forget votes", path = .0.display())]
    MissingCore(PathBuf),
    /// The file system refuses `O_DIRECT`.
    #[error("{path}: this file system refuses O_DIRECT: choose the sync mode `fdatasync`, which also works through the page cache", path = .0.display())]
    NoDirectIo(PathBuf),
    /// The kernel gives no `io_uring`.
    #[error(
        "no io_uring ({source}): annulus needs Linux 6.1 or newer, kernel.io_uring_disabled=0, and a container profile that allows it; a low `ulimit -l` (memlock) refuses it too on old kernels"
    )]
    NoUring {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel has no locked memory left for a ring.
    #[error(
        "memlock is too small for io_uring ({source}): raise `ulimit -l` to 8192 (KiB) or more for this user, whose processes share it"
    )]
    Memlock {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A region of non-volatile memory cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Region {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: RegionError,
    },
    /// Options that contradict each other.
    #[error("journal options: {0}")]
    Options(String),
}

impl OpenError {
    /// Why the kernel refused a ring.
    pub(crate) fn uring(source: io::Error) -> OpenError {
        match source.raw_os_error() {
            Some(libc::ENOMEM) => OpenError::Memlock { source },
            _ => OpenError::NoUring { source },
        }
    }

    /// An answer of the operating system, with what was tried where.
    pub(crate) fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.into();
        move |source| OpenError::Io { path, action, source }
    }
}

/// Why a journal cannot be read back. None of these is repaired silently: going on could forget a vote
/// that was acknowledged (A10).
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The device failed.
    #[error("segment {}: {action}: {source}. Nothing that was acknowledged was changed: mend the disk, or make room on it, and start again; until then the others serve. Do not start this node with an empty directory: it could forget votes", segment.0)]
    Io {
        /// The segment.
        segment: SegmentId,
        /// What was tried.
        action: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// History that may have been acknowledged is damaged.
    #[error("segment {} is damaged at offset {}: {why}. History above position {durable} may have been acknowledged, so this replica must not vote: keep this node stopped and let the others serve. Do not start it with an empty directory: it could forget votes", at.segment.0, at.offset)]
    Corrupt {
        /// Where.
        at: Position,
        /// The last position that was read back.
        durable: Lsn,
        /// What does not match.
        why: &'static str,
    },
    /// A segment that must be there is not.
    #[error("segment {} is missing: restore the file, or keep this node stopped and let the others serve. Do not start it with an empty directory: it could forget votes", .0.0)]
    MissingSegment(SegmentId),
    /// A segment file has not the size that it was made with.
    #[error("segment {} has {found} bytes, it was made with {expected}: restore the file, or keep this node stopped and let the others serve. Do not start it with an empty directory: it could forget votes", segment.0)]
    Truncated {
        /// The segment.
        segment: SegmentId,
        /// The size of the file.
        found: u64,
        /// The size that its header states.
        expected: u64,
    },
    /// A segment of another journal, or a damaged segment header.
    #[error("segment {}: {why}. If the options are those that it was made with, restore the file, or keep this node stopped and let the others serve. Do not start it with an empty directory: it could forget votes", segment.0)]
    ForeignSegment {
        /// The segment.
        segment: SegmentId,
        /// What does not match.
        why: &'static str,
    },
}

/// A write or a sync failed, or what was durable is damaged: nothing is acknowledged any more, and the process
/// should stop. A failed sync is never tried again: the kernel may have dropped the pages it could not write.
/// Where history is damaged a vote may be lost, and nobody may vote who has lost one (A10).
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal is poisoned: {cause}")]
pub struct Poisoned {
    /// What failed first.
    pub cause: Arc<io::Error>,
}

/// Too many read-backs wait: ask again later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many slots are being read back: ask again later")]
pub struct Busy;
