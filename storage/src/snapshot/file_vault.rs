//! Snapshots as files of a directory below a core's.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};

use super::vault::{
    SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultFile, VaultOperation, VaultState,
};
use super::vault_files::{VaultFiles, read_up_to};
use crate::data_dir::CoreDirectory;
use crate::error::OpenError;
use crate::helper::{Helper, Stop};
use crate::wake::WakeFd;

/// Written at once without a sync: little enough that a group write of the journal, which may have to wait for
/// it, waits little; and that the last sync finds little to do.
const UNSYNCED_BYTES_MAX: u64 = 1 << 20;
/// After data was moved, the device is left alone this many times as long as that took.
const PAUSE_RATIO: u32 = 2;
/// But never longer.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Files kept open: each ring of a core may write or read one.
const OPENED_MAX: usize = 8;

/// The vault of a durable core. One helper thread does what blocks, one operation after another, and pauses
/// between them so that the journal comes first.
pub struct FileVault {
    files: VaultFiles,
    helper: Helper<Job, VaultCompletion>,
    /// Tokens of jobs that were given, in their order.
    given: VecDeque<u64>,
    is_dead: bool,
    wake: WakeFd,
    /// Holds the lock of the data directory. The last field: by then the helper has ended.
    _lock: CoreDirectory,
}

struct Job {
    token: u64,
    operation: VaultOperation,
}

impl FileVault {
    /// Opens the snapshots of a core; makes their directory, if there is none.
    ///
    /// # Errors
    /// [`OpenError::Io`]: what the operating system refused.
    pub fn open(directory: &CoreDirectory) -> Result<FileVault, OpenError> {
        FileVault::open_paced(directory, PAUSE_RATIO)
    }

    /// Opens the snapshots of a core beside which no journal is written: it never pauses.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_alone(directory: &CoreDirectory) -> Result<FileVault, OpenError> {
        FileVault::open_paced(directory, 0)
    }

    fn open_paced(directory: &CoreDirectory, pause_ratio: u32) -> Result<FileVault, OpenError> {
        let files = VaultFiles::of_core(directory.path());
        let path = files.directory();
        if !path.is_dir() {
            let made = std::fs::create_dir(path).and_then(|()| File::open(directory.path())?.sync_all());
            made.map_err(OpenError::io(path, "making the directory of snapshots"))?;
        }
        let wake = WakeFd::default();
        let mut worker = Worker { files: files.clone(), opened: VecDeque::new() };
        let helper = Helper::spawn("annulus-vault", wake.clone(), move |job: Job, stop: &Stop| {
            let begin = Instant::now();
            let moves_data =
                matches!(job.operation, VaultOperation::Write { .. } | VaultOperation::Read { .. });
            let result = worker.perform(job.operation);
            if moves_data && !stop.is_asked() {
                std::thread::sleep((begin.elapsed() * pause_ratio).min(PAUSE_MAX));
            }
            VaultCompletion { token: job.token, result }
        });
        let helper = helper.map_err(OpenError::io(path, "starting the thread that keeps snapshots"))?;
        Ok(FileVault {
            files,
            helper,
            given: VecDeque::new(),
            is_dead: false,
            wake,
            _lock: directory.clone(),
        })
    }
}

impl Vault for FileVault {
    fn list(&mut self) -> io::Result<Vec<VaultFile>> {
        // A process that was killed while it published leaves a name that a power failure would take back, and by
        // then the journal may be cut below that snapshot.
        File::open(self.files.directory())?.sync_all()?;
        self.files.list()
    }

    fn read_at(
        &mut self,
        name: SnapshotName,
        state: VaultState,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        read_up_to(&self.files.open(name, state)?, offset, buffer)
    }

    fn submit(&mut self, token: u64, operation: VaultOperation) {
        self.given.push_back(token);
        if self.is_dead {
            return self.wake.signal();
        }
        self.helper.give(Job { token, operation });
    }

    fn poll(&mut self, completions: &mut Vec<VaultCompletion>) {
        while !self.is_dead {
            match self.helper.collect() {
                Ok(Some(completion)) => {
                    self.given.pop_front();
                    completions.push(completion);
                }
                Ok(None) => return,
                Err(_) => self.is_dead = true,
            }
        }
        // Nobody answers any more: so everything has failed.
        let failed = |token| {
            let error = io::Error::other("the thread that keeps snapshots died");
            VaultCompletion { token, result: Err(error) }
        };
        completions.extend(self.given.drain(..).map(failed));
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.wake.set(eventfd)
    }
}

/// What the helper thread works with.
struct Worker {
    files: VaultFiles,
    /// The file used last comes last.
    opened: VecDeque<Opened>,
}

struct Opened {
    name: SnapshotName,
    state: VaultState,
    file: File,
    unsynced_bytes: u64,
}

impl Worker {
    fn perform(&mut self, operation: VaultOperation) -> io::Result<VaultAnswer> {
        use VaultState::Partial;
        match operation {
            VaultOperation::Begin { name, bytes } => self.begin(name, bytes),
            VaultOperation::Write { name, offset, bytes } => {
                let opened = self.opened(name, Partial)?;
                opened.file.write_all_at(&bytes, offset)?;
                opened.unsynced_bytes += bytes.len() as u64;
                if opened.unsynced_bytes >= UNSYNCED_BYTES_MAX {
                    opened.unsynced_bytes = 0;
                    opened.file.sync_data()?;
                }
                Ok(VaultAnswer::Written(bytes))
            }
            VaultOperation::Sync { name } => {
                let file = &self.opened(name, Partial)?.file;
                file.sync_all()?;
                // What is read back is to come from the device. Where that is refused, it comes from memory.
                let _ = fadvise(file, 0, None, Advice::DontNeed);
                Ok(VaultAnswer::Synced)
            }
            VaultOperation::Read { name, state, offset, bytes_max } => {
                let file = &self.opened(name, state)?.file;
                let mut bytes = vec![0; bytes_max];
                let read = read_up_to(file, offset, &mut bytes)?;
                bytes.truncate(read);
                Ok(VaultAnswer::Read(bytes))
            }
            VaultOperation::Publish { name } => self.publish(name),
            VaultOperation::Remove { name, state } => self.remove(name, state),
        }
    }

    fn begin(&mut self, name: SnapshotName, bytes: u64) -> io::Result<VaultAnswer> {
        self.close(name, VaultState::Partial);
        let path = self.files.path(name, VaultState::Partial);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(file.metadata()?.len().min(bytes))?;
        self.keep(Opened { name, state: VaultState::Partial, file, unsynced_bytes: 0 });
        Ok(VaultAnswer::Begun)
    }

    fn publish(&mut self, name: SnapshotName) -> io::Result<VaultAnswer> {
        self.close(name, VaultState::Partial);
        self.close(name, VaultState::Published);
        let path = |state| self.files.path(name, state);
        std::fs::rename(path(VaultState::Partial), path(VaultState::Published))?;
        File::open(self.files.directory())?.sync_all()?;
        Ok(VaultAnswer::Published)
    }

    fn remove(&mut self, name: SnapshotName, state: VaultState) -> io::Result<VaultAnswer> {
        self.close(name, state);
        match std::fs::remove_file(self.files.path(name, state)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(VaultAnswer::Removed),
        }
    }

    /// The file, opened if it is not.
    fn opened(&mut self, name: SnapshotName, state: VaultState) -> io::Result<&mut Opened> {
        let index = self.opened.iter().position(|opened| opened.name == name && opened.state == state);
        if let Some(opened) = index.and_then(|index| self.opened.remove(index)) {
            return Ok(self.keep(opened));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(state == VaultState::Partial);
        let file = options.open(self.files.path(name, state))?;
        Ok(self.keep(Opened { name, state, file, unsynced_bytes: 0 }))
    }

    fn keep(&mut self, opened: Opened) -> &mut Opened {
        if self.opened.len() == OPENED_MAX {
            self.opened.pop_front();
        }
        self.opened.push_back(opened);
        self.opened.back_mut().expect("it was pushed now")
    }

    fn close(&mut self, name: SnapshotName, state: VaultState) {
        self.opened.retain(|opened| opened.name != name || opened.state != state);
    }
}
