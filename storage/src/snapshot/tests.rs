//! Snapshots from the first record to the copy at a peer.

use annulus_rings::{RingId, Slot};

use super::samples::{bytes, header, header_of, identity, identity_of, records, write};
use super::*;

const RING: RingId = RingId(3);

/// The records of a published snapshot.
fn read(
    vault: &mut impl Vault,
    name: SnapshotName,
    expected: Expected,
) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let mut all = Vec::new();
    read_snapshot(vault, name, VaultState::Published, expected, |header, records| {
        assert_eq!(header.name(), name);
        all.extend(records.map(<[u8]>::to_vec));
        Ok::<(), SnapshotError>(())
    })?;
    Ok(all)
}

/// A vault that holds a file with these bytes.
fn vault_with(name: SnapshotName, state: VaultState, bytes: &[u8]) -> MemoryVault {
    let mut vault = MemoryVault::new(1 << 30);
    vault.submit(0, VaultOperation::Begin { name, bytes: 0 });
    vault.submit(0, VaultOperation::Write { name, offset: 0, bytes: bytes.to_vec() });
    if state == VaultState::Published {
        vault.submit(0, VaultOperation::Publish { name });
    }
    vault.poll(&mut Vec::new());
    vault
}

/// Receives `sent` in pieces of `piece_bytes` until `until` bytes have come or the snapshot is published.
fn receive(
    vault: &mut impl Vault,
    receiving: &mut SnapshotReceiving,
    sent: &[u8],
    piece_bytes: usize,
    until: usize,
) -> Option<Result<ShelvedSnapshot, SnapshotError>> {
    let mut completions = Vec::new();
    loop {
        vault.poll(&mut completions);
        for completion in completions.drain(..) {
            receiving.on(vault, completion);
        }
        if let Some(outcome) = receiving.outcome() {
            return Some(outcome);
        }
        let Some(offset) = receiving.wanted() else { continue };
        let at = offset as usize;
        if at >= until {
            return None;
        }
        let end = (at + piece_bytes).min(sent.len());
        receiving.piece(vault, offset, &sent[at..end]).unwrap();
    }
}

#[test]
fn a_snapshot_gives_back_its_records() {
    for count in [0, 1, 3, 500] {
        let (header, records) = (header(3, 100), records(count));
        let mut vault = MemoryVault::new(1 << 30);
        let written = write(&mut vault, header.clone(), &records).unwrap();
        assert_eq!(written.header, header);
        assert_eq!(read(&mut vault, header.name(), Expected::Own(identity())).unwrap(), records);
    }
}

#[test]
fn a_record_of_the_largest_size_is_taken_and_a_larger_one_fails_the_snapshot() {
    let mut vault = MemoryVault::new(1 << 30);
    let largest = vec![vec![1; 100], vec![7; RECORD_BYTES_MAX], vec![2; 100]];
    write(&mut vault, header(3, 100), &largest).unwrap();
    assert_eq!(read(&mut vault, header(3, 100).name(), Expected::Anyone).unwrap(), largest);
    let outcome = write(&mut vault, header(3, 200), &[vec![7; RECORD_BYTES_MAX + 1]]);
    assert!(matches!(outcome, Err(SnapshotError::RecordTooLarge { .. })), "{outcome:?}");
    assert_eq!(vault.list().unwrap().len(), 1, "nothing of it is left");
}

#[test]
fn a_snapshot_that_finds_no_room_leaves_nothing() {
    let mut vault = MemoryVault::new(300_000);
    let outcome = write(&mut vault, header(3, 100), &records(500));
    assert!(matches!(outcome, Err(SnapshotError::Io { .. })), "{outcome:?}");
    assert!(vault.list().unwrap().is_empty());
    write(&mut vault, header(3, 100), &records(5)).expect("a smaller one finds room");
}

#[test]
fn an_abandoned_snapshot_leaves_nothing_and_keeps_the_memory_bounded() {
    let mut vault = MemoryVault::new(1 << 30);
    let mut writing = SnapshotWriting::begin(&mut vault, 5, header(3, 100));
    let mut given = 0;
    while writing.wants_records() > 0 {
        writing.record(&mut vault, &[9; 1000]);
        given += 1000;
    }
    assert!(
        (1_000_000..1_100_000).contains(&given),
        "the vault did not answer, so no more was taken: {given}"
    );
    writing.abandon(&mut vault);
    let mut completions = Vec::new();
    vault.poll(&mut completions);
    completions.drain(..).for_each(|completion| writing.on(&mut vault, completion));
    assert!(matches!(writing.outcome(), Some(Err(SnapshotError::Abandoned))));
    assert!(vault.list().unwrap().is_empty());
}

#[test]
fn a_peer_receives_the_same_state_under_its_own_name() {
    let (sent, records) = (bytes(header(3, 100), &records(400)), records(400));
    let name = header(3, 100).name();
    for piece_bytes in [100, 4096, 70_000, sent.len()] {
        let mut vault = MemoryVault::new(1 << 30);
        let mut receiving = SnapshotReceiving::begin(&mut vault, 9, identity_of(2), name, false);
        let outcome = receive(&mut vault, &mut receiving, &sent, piece_bytes, usize::MAX);
        let shelved = outcome.expect("it came to an end").unwrap();
        assert_eq!((shelved.header.identity, shelved.header.origin), (identity_of(2), header(3, 100).origin));
        assert_eq!(read(&mut vault, name, Expected::Own(identity_of(2))).unwrap(), records);
        assert!(read(&mut vault, name, Expected::Own(identity())).is_err(), "the sender's it is not");
    }
}

#[test]
fn a_reception_that_was_cut_goes_on_where_it_was_verified() {
    let (sent, name) = (bytes(header(3, 100), &records(400)), header(3, 100).name());
    for until in [1, 600, 90_000, sent.len() * 99 / 100] {
        let mut vault = MemoryVault::new(1 << 30);
        let mut first = SnapshotReceiving::begin(&mut vault, 9, identity_of(2), name, false);
        assert!(receive(&mut vault, &mut first, &sent, 3000, until).is_none(), "cut");
        let mut second = SnapshotReceiving::begin(&mut vault, 10, identity_of(2), name, true);
        let mut completions = Vec::new();
        while second.wanted().is_none() {
            vault.poll(&mut completions);
            completions.retain(|completion| completion.token == 10);
            completions.drain(..).for_each(|completion| second.on(&mut vault, completion));
        }
        let verified = second.wanted().unwrap() as usize;
        assert!(verified + 70_000 > until, "at most a block comes twice: {verified} of {until}");
        receive(&mut vault, &mut second, &sent, 3000, usize::MAX).expect("it came to an end").unwrap();
        assert_eq!(read(&mut vault, name, Expected::Own(identity_of(2))).unwrap(), records(400));
    }
}

#[test]
fn a_damaged_piece_is_refused_and_another_peer_completes_the_snapshot() {
    let (sent, name) = (bytes(header(3, 100), &records(400)), header(3, 100).name());
    let other = bytes(header_of(2, 3, 100), &records(300));
    let mut vault = MemoryVault::new(1 << 30);
    let mut receiving = SnapshotReceiving::begin(&mut vault, 9, identity_of(3), name, false);
    let half = sent.len() / 2;
    assert!(receive(&mut vault, &mut receiving, &sent, 5000, half).is_none());
    let mut rotten = sent.clone();
    rotten[half + 80_000] ^= 4;
    let at = receiving.wanted().unwrap();
    assert!(receiving.piece(&mut vault, at, &rotten[at as usize..]).is_err());
    let again = receiving.wanted().unwrap();
    assert!(again <= at + 150_000 && again > 0, "what was verified stays: {again}");
    // Another peer's snapshot of the same slot has other blocks: it begins again.
    assert!(receiving.piece(&mut vault, again, &other[again as usize..]).is_err());
    assert_eq!(receiving.wanted(), Some(0));
    receive(&mut vault, &mut receiving, &other, 5000, usize::MAX).expect("it came to an end").unwrap();
    assert_eq!(read(&mut vault, name, Expected::Own(identity_of(3))).unwrap(), records(300));
}

#[test]
fn pieces_that_were_not_asked_for_change_nothing() {
    let (sent, name) = (bytes(header(3, 100), &records(100)), header(3, 100).name());
    let mut vault = MemoryVault::new(1 << 30);
    let mut receiving = SnapshotReceiving::begin(&mut vault, 9, identity_of(2), name, false);
    receiving.piece(&mut vault, 0, &sent[..1000]).unwrap();
    receiving.piece(&mut vault, 0, &sent[..1000]).unwrap();
    receiving.piece(&mut vault, 5000, &sent[5000..6000]).unwrap();
    assert_eq!(receiving.wanted(), Some(1000));
}

#[test]
fn a_foreign_snapshot_is_not_received() {
    let sent = |header| bytes(header, &records(10));
    let refusal = |sent: &[u8]| {
        let mut vault = MemoryVault::new(1 << 30);
        let name = header(3, 100).name();
        let mut receiving = SnapshotReceiving::begin(&mut vault, 9, identity_of(2), name, false);
        receiving.piece(&mut vault, 0, sent).unwrap_err()
    };
    assert!(matches!(refusal(&sent(header(4, 100))), SnapshotError::Foreign { .. }), "another ring");
    assert!(matches!(refusal(&sent(header(3, 99))), SnapshotError::Foreign { .. }), "another slot");
    let mut elsewhere = header(3, 100);
    elsewhere.identity.cluster.0 += 1;
    assert!(matches!(refusal(&sent(elsewhere)), SnapshotError::Foreign { .. }), "another cluster");
}

#[test]
fn pieces_that_are_sent_make_the_whole() {
    let (sent, name) = (bytes(header(3, 100), &records(100)), header(3, 100).name());
    let mut vault = vault_with(name, VaultState::Published, &sent);
    let mut sending =
        SnapshotSending::new(4, &ShelvedSnapshot { header: header(3, 100), bytes: sent.len() as u64 });
    let mut whole = Vec::new();
    while sending.ask(&mut vault, whole.len() as u64, 10_000) {
        assert!(!sending.ask(&mut vault, 0, 10_000), "one at a time");
        let mut completions = Vec::new();
        vault.poll(&mut completions);
        let piece = sending.on(completions.pop().unwrap()).unwrap();
        assert_eq!((piece.offset, piece.bytes_whole), (whole.len() as u64, sent.len() as u64));
        whole.extend(piece.bytes);
    }
    assert!(whole == sent);
}

#[test]
fn the_shelf_keeps_the_newest_and_what_is_held() {
    let mut vault = MemoryVault::new(1 << 30);
    let (mut shelf, _) = SnapshotShelf::open(&mut vault, 0, &identity(), 2).unwrap();
    let slots = |shelf: &SnapshotShelf| {
        shelf.snapshots(RING).map(|snapshot| snapshot.header.slot.0).collect::<Vec<_>>()
    };
    for slot in [300, 100, 400, 200] {
        shelf.add(write(&mut vault, header(3, slot), &records(5)).unwrap());
        shelf.add(write(&mut vault, header(4, slot), &records(5)).unwrap());
    }
    assert_eq!(shelf.newest(RING).unwrap().header.slot, Slot(400), "a late one does not move it back");
    shelf.hold(header(3, 100).name());
    assert_eq!(shelf.tidy(&mut vault, 0, RING), 1);
    assert_eq!(slots(&shelf), [400, 300, 100]);
    shelf.release(header(3, 100).name());
    assert_eq!(shelf.tidy(&mut vault, 0, RING), 1);
    assert_eq!(slots(&shelf), [400, 300]);
    assert_eq!(vault.list().unwrap().len(), 2 + 4, "the other ring's are all there");
    let (shelf, refused) = SnapshotShelf::open(&mut vault, 0, &identity(), 2).unwrap();
    assert!(refused.is_empty());
    assert_eq!(slots(&shelf), [400, 300], "the next start finds the same");
}

#[test]
fn what_is_found_damaged_is_not_used_and_goes_when_it_is_of_no_use_to_anybody() {
    let mut vault = MemoryVault::new(1 << 30);
    let (mut shelf, _) = SnapshotShelf::open(&mut vault, 0, &identity(), 2).unwrap();
    for slot in [100, 200, 300] {
        shelf.add(write(&mut vault, header(3, slot), &records(5)).unwrap());
    }
    shelf.found_damaged(header(3, 200).name());
    assert_eq!(
        shelf.tidy(&mut vault, 0, RING),
        0,
        "two sound ones are kept, and the damaged one between them"
    );
    shelf.add(write(&mut vault, header(3, 400), &records(5)).unwrap());
    assert_eq!(shelf.tidy(&mut vault, 0, RING), 2, "the oldest and the damaged one");
    assert_eq!(vault.list().unwrap().len(), 2);
}

#[test]
fn a_start_removes_what_was_being_written_and_offers_what_was_being_received() {
    let mut vault = MemoryVault::new(1 << 30);
    let partial = |vault: &mut MemoryVault, header: SnapshotHeader, bytes: &[u8]| {
        let name = header.name();
        vault.submit(0, VaultOperation::Begin { name, bytes: 0 });
        vault.submit(0, VaultOperation::Write { name, offset: 0, bytes: bytes.to_vec() });
    };
    let own = header(3, 100);
    partial(&mut vault, own.clone(), &own.encode());
    let received = header_of(2, 3, 200).copied_to(identity());
    partial(&mut vault, received.clone(), &received.encode());
    partial(&mut vault, header(3, 300), &[0; 20]);
    let (shelf, _) = SnapshotShelf::open(&mut vault, 0, &identity(), 2).unwrap();
    assert_eq!(shelf.partials(RING).collect::<Vec<_>>(), [(Slot(200), 512)]);
    assert_eq!(vault.list().unwrap().len(), 1);
}

#[test]
fn a_start_reports_what_is_damaged_or_foreign_and_uses_the_rest() {
    let mut vault = vault_with(header(3, 300).name(), VaultState::Published, &[1; 5000]);
    write(&mut vault, header(3, 100), &records(5)).unwrap();
    write(&mut vault, header_of(2, 3, 200), &records(5)).unwrap();
    let (shelf, refused) = SnapshotShelf::open(&mut vault, 0, &identity(), 2).unwrap();
    assert_eq!(shelf.newest(RING).unwrap().header.slot, Slot(100));
    assert!(matches!(refused[0].error, SnapshotError::Foreign { .. }), "{refused:?}");
    assert!(matches!(refused[1].error, SnapshotError::Damaged { .. }), "{refused:?}");
}
