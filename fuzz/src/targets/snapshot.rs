//! A snapshot, from its header to its trailer: what is not what was written never becomes one that counts.

use std::sync::OnceLock;

use annulus_rings::{ConfigurationId, NodeId, Slot};
use annulus_storage::{
    Expected, Identity, MemoryVault, SNAPSHOT_HEADER_BYTES, SnapshotConfiguration, SnapshotDecoder,
    SnapshotError, SnapshotExtent, SnapshotHeader, SnapshotPart, SnapshotReceiving, SnapshotWriting, Vault,
    VaultState, read_snapshot,
};

use crate::edits::{Edits, Script};
use crate::medium::IDENTITY;
use crate::{Target, seal, valid};

/// How it is sealed and in which pieces it comes, and edits of a valid snapshot or bytes as they are.
pub const SNAPSHOT: Target =
    Target { name: "snapshot", run, beginnings, bytes_per_byte: 64, bytes_fixed: 4 << 20 };

/// A little more than a block.
const LARGE_RECORD_BYTES: usize = 66_000;

fn beginnings() -> Vec<Vec<u8>> {
    [[0, 0], [7, 3]].map(|beginning| beginning.to_vec()).to_vec()
}

/// What came of it: the records folded into a number, or that it was refused.
type Outcome = Result<(u64, SnapshotExtent), ()>;

fn run(input: &[u8]) {
    let (sound, structures) = valid_snapshot();
    let mut script = Script::new(input);
    let mode = script.byte();
    let piece_bytes = 1 + 997 * usize::from(script.byte());
    let mut bytes = sound.clone();
    let is_raw = mode & 0x80 != 0;
    if is_raw {
        bytes = script.rest().to_vec();
    } else {
        Edits::next(&mut script, 16).apply(&mut bytes, structures);
    }
    seal::snapshot(&mut bytes, seal::Seals(mode));
    let whole = decode(std::iter::once(&bytes[..]));
    // Small pieces of a large snapshot would say nothing new.
    let piece_bytes = piece_bytes.max(bytes.len() / 64);
    assert_eq!(decode(bytes.chunks(piece_bytes)), whole, "in pieces and at once");
    if mode == 0 && whole.is_ok() {
        assert!(bytes == *sound, "nothing else than what was written");
    }
    receive(&bytes, piece_bytes, whole);
}

fn header(identity: Identity) -> SnapshotHeader {
    let members = vec![NodeId(1), NodeId(2), NodeId(3)];
    let configuration =
        SnapshotConfiguration { id: ConfigurationId(1), first_slot: Slot(0), members: members.clone() };
    SnapshotHeader {
        identity,
        ring: valid::RING,
        slot: Slot(100),
        time_ns: 1,
        origin: NodeId(1),
        pending: Some(SnapshotConfiguration { id: ConfigurationId(2), first_slot: Slot(120), members }),
        configuration,
    }
}

/// A snapshot of two blocks, and where its parts start.
fn valid_snapshot() -> &'static (Vec<u8>, Vec<usize>) {
    static VALID: OnceLock<(Vec<u8>, Vec<usize>)> = OnceLock::new();
    VALID.get_or_init(|| {
        let mut vault = MemoryVault::new(1 << 20);
        let name = header(IDENTITY).name();
        let mut writing = SnapshotWriting::begin(&mut vault, 1, header(IDENTITY));
        for (index, bytes) in [10, LARGE_RECORD_BYTES, 20, 0, 100].into_iter().enumerate() {
            writing.record(&mut vault, &vec![index as u8; bytes]);
        }
        writing.finish(&mut vault);
        let snapshot = loop {
            let mut completions = Vec::new();
            vault.poll(&mut completions);
            for completion in completions {
                writing.on(&mut vault, completion);
            }
            if let Some(outcome) = writing.outcome() {
                break outcome.expect("memory suffices");
            }
        };
        let mut bytes = vec![0; snapshot.bytes as usize];
        vault.read_at(name, VaultState::Published, 0, &mut bytes).expect("it was published");
        let trailer = bytes.len() - 48;
        let second = SNAPSHOT_HEADER_BYTES + 48 + 4 + 10 + 4 + LARGE_RECORD_BYTES;
        (bytes, vec![0, SNAPSHOT_HEADER_BYTES, second, trailer, 96, 240])
    })
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = SnapshotDecoder::new(Expected::Cluster(IDENTITY.cluster), None);
    let mut fold = 0;
    let (mut records, mut pushed) = (0, 0);
    for piece in pieces {
        decoder.push(piece);
        pushed += piece.len() as u64;
        loop {
            match decoder.advance().map_err(drop)? {
                SnapshotPart::More | SnapshotPart::End => break,
                SnapshotPart::Header => assert_eq!(decoder.verified().bytes, SNAPSHOT_HEADER_BYTES as u64),
                SnapshotPart::Block => {
                    records += decoder.records().count() as u64;
                    fold = decoder.records().fold(fold, folded);
                }
            }
            assert!(decoder.verified().bytes <= pushed, "no more is verified than came");
        }
    }
    let extent = decoder.finish().map_err(drop)?;
    assert_eq!((extent.records, extent.bytes), (records, pushed));
    Ok((fold, extent))
}

fn folded(fold: u64, record: &[u8]) -> u64 {
    record.iter().fold(fold.wrapping_add(record.len() as u64), |fold, byte| {
        fold.rotate_left(5).wrapping_add(u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// A peer sends it: what is published here is what was sent, and nothing is left of what is refused.
fn receive(sent: &[u8], piece_bytes: usize, whole: Outcome) {
    let name = header(IDENTITY).name();
    let identity = Identity { node: NodeId(2), disk_uuid: 5, ..IDENTITY };
    let mut vault = MemoryVault::new(sent.len() as u64 + 4096);
    let mut receiving = SnapshotReceiving::begin(&mut vault, 1, identity, name, false);
    let mut rest = sent.chunks(piece_bytes);
    let published = loop {
        let mut completions = Vec::new();
        vault.poll(&mut completions);
        for completion in completions {
            receiving.on(&mut vault, completion);
        }
        if let Some(outcome) = receiving.outcome() {
            break outcome.ok();
        }
        let Some(offset) = receiving.wanted() else { continue };
        let piece = rest.next().unwrap_or_default();
        if piece.is_empty() || receiving.piece(&mut vault, offset, piece).is_err() {
            receiving.abandon(&mut vault);
        }
    };
    let Some(published) = published else {
        assert!(vault.list().expect("memory answers").is_empty(), "nothing is left");
        return;
    };
    let mut fold = 0;
    let own = Expected::Own(identity);
    let read = read_snapshot(&mut vault, name, VaultState::Published, own, |_, records| {
        fold = records.fold(fold, folded);
        Ok::<(), SnapshotError>(())
    });
    let (read, extent) = read.expect("what is published is whole");
    assert_eq!(read, published.header);
    assert_eq!(Ok((fold, extent)), whole, "it is what was sent");
}
