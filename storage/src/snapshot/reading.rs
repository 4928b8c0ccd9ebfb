//! Reads a snapshot from front to back and gives out only what is verified.

use std::io;

use super::block::{SnapshotExtent, SnapshotRecords};
use super::decoder::{SnapshotDecoder, SnapshotPart};
use super::error::SnapshotError;
use super::header::{Expected, SnapshotHeader};
use super::vault::{SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultOperation, VaultState};

/// Read at once: the work of one [`SnapshotReading::advance`] stays below this and one block.
pub(crate) const READ_BYTES: usize = 128 << 10;

/// Reads a snapshot poll-style, to install it or to verify it. It holds what one read brings, and one block.
///
/// Nothing of it is needed to end: who drops it ignores the completions of its token.
pub struct SnapshotReading {
    token: u64,
    name: SnapshotName,
    state: VaultState,
    decoder: SnapshotDecoder,
    /// Where the next read starts.
    offset: u64,
    is_asked: bool,
    /// The file ended there.
    is_at_end: bool,
    failure: Option<io::Error>,
}

impl SnapshotReading {
    /// Starts at the front of a file. Its completions carry `token`.
    pub fn begin(
        vault: &mut impl Vault,
        token: u64,
        name: SnapshotName,
        state: VaultState,
        expected: Expected,
    ) -> SnapshotReading {
        let decoder = SnapshotDecoder::new(expected, Some(name));
        let mut reading = SnapshotReading {
            token,
            name,
            state,
            decoder,
            offset: 0,
            is_asked: false,
            is_at_end: false,
            failure: None,
        };
        reading.ask(vault);
        reading
    }

    /// Takes a completion of its token.
    pub fn on(&mut self, completion: VaultCompletion) {
        self.is_asked = false;
        match completion.result {
            Ok(VaultAnswer::Read(bytes)) => {
                self.is_at_end = bytes.len() < READ_BYTES;
                self.offset += bytes.len() as u64;
                self.decoder.push(&bytes);
            }
            Ok(_) => self.failure = Some(io::Error::other("the vault answered something else")),
            Err(error) => self.failure = Some(error),
        }
    }

    /// Goes on by one part. [`SnapshotPart::More`] says that a completion is awaited.
    ///
    /// # Errors
    /// The snapshot is damaged, cut off or foreign, or the vault failed. What was given out before was right,
    /// but it is not the whole: forget it.
    pub fn advance(&mut self, vault: &mut impl Vault) -> Result<SnapshotPart, SnapshotError> {
        if let Some(source) = self.failure.take() {
            return Err(SnapshotError::Io { action: "reading a snapshot", source });
        }
        if self.is_asked {
            return Ok(SnapshotPart::More);
        }
        match self.decoder.advance()? {
            SnapshotPart::More if self.is_at_end => {
                Err(SnapshotError::CutOff { offset: self.decoder.verified().bytes })
            }
            // The end of the file is to be seen too: nothing may follow the trailer.
            SnapshotPart::More | SnapshotPart::End if !self.is_at_end => {
                self.ask(vault);
                Ok(SnapshotPart::More)
            }
            part => Ok(part),
        }
    }

    /// The header, once it was verified.
    pub fn header(&self) -> Option<&SnapshotHeader> {
        self.decoder.header()
    }

    /// The records of the block that came last.
    pub fn records(&self) -> SnapshotRecords<'_> {
        self.decoder.records()
    }

    /// How far it was verified; behind the end, the extent of the whole.
    pub fn verified(&self) -> &SnapshotExtent {
        self.decoder.verified()
    }

    /// What was verified, to go on from there.
    pub(crate) fn into_decoder(self) -> SnapshotDecoder {
        self.decoder
    }

    fn ask(&mut self, vault: &mut impl Vault) {
        let SnapshotReading { name, state, offset, .. } = *self;
        vault.submit(self.token, VaultOperation::Read { name, state, offset, bytes_max: READ_BYTES });
        self.is_asked = true;
    }
}

/// At start, blocks: reads a snapshot from front to back, and shows each verified block to `each`.
///
/// # Errors
/// The snapshot is damaged, cut off or foreign, the vault failed, or `each` did. What was shown before is not
/// the whole: forget it.
pub fn read_snapshot<V: Vault, E: From<SnapshotError>>(
    vault: &mut V,
    name: SnapshotName,
    state: VaultState,
    expected: Expected,
    mut each: impl FnMut(&SnapshotHeader, SnapshotRecords<'_>) -> Result<(), E>,
) -> Result<(SnapshotHeader, SnapshotExtent), E> {
    let mut decoder = SnapshotDecoder::new(expected, Some(name));
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    loop {
        let read = vault.read_at(name, state, offset, &mut buffer);
        let bytes = read.map_err(SnapshotError::io("reading a snapshot"))?;
        offset += bytes as u64;
        decoder.push(&buffer[..bytes]);
        loop {
            match decoder.advance()? {
                SnapshotPart::More | SnapshotPart::End => break,
                SnapshotPart::Header => {}
                SnapshotPart::Block => {
                    let header = decoder.header().expect("a header comes before the first block");
                    each(header, decoder.records())?;
                }
            }
        }
        if bytes == 0 {
            let extent = decoder.finish()?;
            let header = decoder.header().expect("a header comes before the end");
            return Ok((header.clone(), extent));
        }
    }
}
