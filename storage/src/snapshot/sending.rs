//! Reads a published snapshot in pieces for a peer.

use super::error::SnapshotError;
use super::shelf::ShelvedSnapshot;
use super::vault::{SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultOperation, VaultState};

/// A snapshot that a peer asks for piece by piece. It holds one piece. What it reads is not verified here: the
/// receiver verifies every byte, and asks another peer where one is damaged.
pub struct SnapshotSending {
    token: u64,
    name: SnapshotName,
    bytes: u64,
    /// Where the piece starts that is being read.
    asked: Option<u64>,
}

/// A piece of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotPiece {
    /// Which snapshot.
    pub name: SnapshotName,
    /// Where it starts.
    pub offset: u64,
    /// The size of the whole snapshot.
    pub bytes_whole: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl SnapshotSending {
    /// Gets ready to send a snapshot of the shelf. Its completions carry `token`.
    pub fn new(token: u64, snapshot: &ShelvedSnapshot) -> SnapshotSending {
        SnapshotSending { token, name: snapshot.header.name(), bytes: snapshot.bytes, asked: None }
    }

    /// Which snapshot.
    pub fn name(&self) -> SnapshotName {
        self.name
    }

    /// Whether a piece is being read.
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Reads the piece of at most `bytes_max` bytes from `offset` on. False when one is being read already, or
    /// the snapshot ends before `offset`.
    pub fn ask(&mut self, vault: &mut impl Vault, offset: u64, bytes_max: usize) -> bool {
        if self.asked.is_some() || offset >= self.bytes {
            return false;
        }
        let bytes_max = bytes_max.min((self.bytes - offset) as usize);
        let (name, state) = (self.name, VaultState::Published);
        vault.submit(self.token, VaultOperation::Read { name, state, offset, bytes_max });
        self.asked = Some(offset);
        true
    }

    /// Takes a completion of its token, and gives the piece that was asked for.
    ///
    /// # Errors
    /// The file cannot be read, or is not as long as it was: read it again from the front, to see whether it is
    /// damaged.
    pub fn on(&mut self, completion: VaultCompletion) -> Result<SnapshotPiece, SnapshotError> {
        let offset = self.asked.take().unwrap_or(self.bytes);
        match completion.result {
            Ok(VaultAnswer::Read(bytes)) if !bytes.is_empty() => {
                Ok(SnapshotPiece { name: self.name, offset, bytes_whole: self.bytes, bytes })
            }
            Ok(_) => Err(SnapshotError::CutOff { offset }),
            Err(source) => Err(SnapshotError::Io { action: "reading a snapshot", source }),
        }
    }
}
