//! Receives a snapshot from a peer in pieces, verified as they come, and goes on where a cut left off.

use annulus_rings::mutant;

use super::block::SnapshotExtent;
use super::decoder::{SnapshotDecoder, SnapshotPart};
use super::ending::Ending;
use super::errands::Errands;
use super::error::SnapshotError;
use super::header::{Expected, SnapshotHeader};
use super::reading::SnapshotReading;
use super::shelf::ShelvedSnapshot;
use super::vault::{SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultOperation, VaultState};
use crate::identity::Identity;

/// Bytes that wait for the vault: beyond them no piece is wanted.
const WINDOW_BYTES: usize = 4 << 20;

/// A snapshot that comes from a peer. Only whole, verified blocks are written; the copy has the same bytes as
/// the sender's but for the fields of the header that say whose disk it lies on.
///
/// It holds 4 MiB that wait for the vault, the piece at hand, and one block that is not whole yet. Dropped at
/// any time, it leaves a partial file that [`begin`](Self::begin) can take up: all of it is verified again
/// first.
pub struct SnapshotReceiving {
    name: SnapshotName,
    identity: Identity,
    errands: Errands,
    stage: Stage,
    decoder: SnapshotDecoder,
    in_flight_bytes: usize,
    /// Where the bytes of a peer were damaged last.
    damaged_at: Option<u64>,
}

enum Stage {
    /// What is there already is verified.
    Resuming(Box<SnapshotReading>),
    Receiving,
    Ending(Ending),
}

impl SnapshotReceiving {
    /// Starts to receive the snapshot `name`, or goes on with the partial file that is there, if `resume` says
    /// that there is one ([`SnapshotShelf::partials`](crate::SnapshotShelf::partials)). Its completions carry
    /// `token`; `identity` is that of this node's disk and core.
    pub fn begin(
        vault: &mut impl Vault,
        token: u64,
        identity: Identity,
        name: SnapshotName,
        resume: bool,
    ) -> SnapshotReceiving {
        let mut errands = Errands::new(token);
        let stage = if resume {
            let own = Expected::Own(identity);
            let reading = SnapshotReading::begin(vault, token, name, VaultState::Partial, own);
            errands.began_elsewhere();
            Stage::Resuming(Box::new(reading))
        } else {
            errands.submit(vault, VaultOperation::Begin { name, bytes: 0 });
            Stage::Receiving
        };
        let decoder = SnapshotDecoder::new(Expected::Cluster(identity.cluster), Some(name));
        SnapshotReceiving { name, identity, errands, stage, decoder, in_flight_bytes: 0, damaged_at: None }
    }

    /// Which snapshot.
    pub fn name(&self) -> SnapshotName {
        self.name
    }

    /// Where the next piece starts, when one is wanted: not while the vault is behind, nor before what was
    /// there is verified, nor behind the end.
    pub fn wanted(&self) -> Option<u64> {
        let is_wanted = matches!(self.stage, Stage::Receiving) && self.in_flight_bytes < WINDOW_BYTES;
        is_wanted.then(|| self.decoder.pushed_bytes())
    }

    /// How far it was verified.
    pub fn verified(&self) -> &SnapshotExtent {
        self.decoder.verified()
    }

    /// The header, once it came.
    pub fn header(&self) -> Option<&SnapshotHeader> {
        self.decoder.header()
    }

    /// Takes a piece. One that does not start where it is [`wanted`](Self::wanted) changes nothing.
    ///
    /// # Errors
    /// The bytes are damaged or foreign: ask another peer, from where it is wanted now. Damaged twice at the
    /// same place, which is so when another peer has other blocks, it begins again from the start.
    pub fn piece(&mut self, vault: &mut impl Vault, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        if self.wanted() != Some(offset) {
            return Ok(());
        }
        self.decoder.push(bytes);
        let taken = self.take_parts(vault);
        if taken.is_err() {
            self.decoder.drop_unverified();
            let at = self.decoder.verified().bytes;
            if self.damaged_at.replace(at) == Some(at) || self.decoder.is_ended() {
                self.begin_again(vault);
            }
        }
        taken
    }

    /// Takes a completion of its token.
    pub fn on(&mut self, vault: &mut impl Vault, completion: VaultCompletion) {
        self.errands.answered();
        let VaultCompletion { token, result } = completion;
        match (&mut self.stage, result) {
            (Stage::Resuming(reading), result) => {
                reading.on(VaultCompletion { token, result });
                self.resume(vault);
            }
            (Stage::Receiving, Ok(VaultAnswer::Written(bytes))) => self.in_flight_bytes -= bytes.len(),
            (Stage::Receiving, Ok(_)) => {}
            (Stage::Receiving, Err(source)) => {
                self.fail(vault, SnapshotError::Io { action: "writing a snapshot", source });
            }
            (Stage::Ending(ending), result) => {
                ending.on(vault, &mut self.errands, self.name, VaultCompletion { token, result });
            }
        }
    }

    /// What came of it, once: a snapshot that is durable and was verified here, or why there is none.
    pub fn outcome(&mut self) -> Option<Result<ShelvedSnapshot, SnapshotError>> {
        match &mut self.stage {
            Stage::Resuming(_) | Stage::Receiving => None,
            Stage::Ending(ending) => ending.outcome(),
        }
    }

    /// Gives it up for good: the partial file is removed. One that is being published is over soon, and stays.
    pub fn abandon(&mut self, vault: &mut impl Vault) {
        match &mut self.stage {
            Stage::Resuming(_) | Stage::Receiving => self.fail(vault, SnapshotError::Abandoned),
            Stage::Ending(ending) => ending.abandon(vault, &mut self.errands, self.name),
        }
    }

    /// Writes every part that is whole.
    fn take_parts(&mut self, vault: &mut impl Vault) -> Result<(), SnapshotError> {
        loop {
            let offset = self.decoder.verified().bytes;
            match self.decoder.advance()? {
                SnapshotPart::More => return Ok(()),
                SnapshotPart::Header => {
                    let own = self.own_header().encode().to_vec();
                    self.write(vault, 0, own);
                }
                SnapshotPart::Block => self.write(vault, offset, self.decoder.part().to_vec()),
                SnapshotPart::End => {
                    self.write(vault, offset, self.decoder.part().to_vec());
                    self.publish(vault);
                    return Ok(());
                }
            }
        }
    }

    /// Verifies what is there, and goes on behind it.
    fn resume(&mut self, vault: &mut impl Vault) {
        let Stage::Resuming(reading) = &mut self.stage else { return };
        let is_whole = loop {
            match reading.advance(vault) {
                Ok(SnapshotPart::Header | SnapshotPart::Block) => {}
                Ok(SnapshotPart::More) => return self.errands.began_elsewhere(),
                Ok(SnapshotPart::End) => break true,
                // A cut leaves a block that is not whole, a crash anything: what was verified counts.
                Err(_) => break false,
            }
        };
        let Stage::Resuming(reading) = std::mem::replace(&mut self.stage, Stage::Receiving) else { return };
        let decoder = reading.into_decoder();
        if is_whole {
            self.decoder = decoder;
            self.publish(vault);
        } else if decoder.header().is_none() || decoder.is_ended() {
            self.begin_again(vault);
        } else {
            self.decoder = decoder;
            if !mutant!(SNAPSHOT_RESUMED_UNVERIFIED) {
                self.decoder.drop_unverified();
            }
            let bytes = self.decoder.verified().bytes;
            self.errands.submit(vault, VaultOperation::Begin { name: self.name, bytes });
        }
    }

    fn begin_again(&mut self, vault: &mut impl Vault) {
        self.decoder = SnapshotDecoder::new(Expected::Cluster(self.identity.cluster), Some(self.name));
        self.damaged_at = None;
        self.errands.submit(vault, VaultOperation::Begin { name: self.name, bytes: 0 });
    }

    fn publish(&mut self, vault: &mut impl Vault) {
        let (header, extent) = (self.own_header(), *self.decoder.verified());
        self.stage = Stage::Ending(Ending::publish(vault, &mut self.errands, header, extent));
    }

    fn write(&mut self, vault: &mut impl Vault, offset: u64, bytes: Vec<u8>) {
        self.in_flight_bytes += bytes.len();
        self.errands.submit(vault, VaultOperation::Write { name: self.name, offset, bytes });
    }

    fn fail(&mut self, vault: &mut impl Vault, error: SnapshotError) {
        self.stage = Stage::Ending(Ending::fail(vault, &mut self.errands, self.name, error));
    }

    fn own_header(&self) -> SnapshotHeader {
        let header = self.decoder.header().expect("asked for only behind the header");
        header.copied_to(self.identity)
    }
}
