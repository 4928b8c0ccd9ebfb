//! Snapshots on a real file system.
// Not under Miri: it has neither locks nor syncs of directories.
#![cfg(not(miri))]

use std::fs;
use std::path::Path;
use std::time::Duration;

use annulus_rings::{ClusterId, ConfigurationId, CoreId, NodeId, RingId, Slot};
use annulus_storage::{
    DataDir, Expected, FileVault, ShelvedSnapshot, SnapshotConfiguration, SnapshotError, SnapshotHeader,
    SnapshotName, SnapshotPart, SnapshotReading, SnapshotReceiving, SnapshotSending, SnapshotShelf,
    SnapshotWriting, Vault, VaultCompletion, VaultState, read_snapshot,
};

const RING: RingId = RingId(3);

fn data(path: &Path, node: u16) -> DataDir {
    DataDir::open(path, ClusterId(7), NodeId(node), 1).unwrap()
}

fn header(data: &DataDir, slot: u64) -> SnapshotHeader {
    let identity = data.core(CoreId(0)).identity();
    let members = vec![NodeId(1), NodeId(2), NodeId(3)];
    SnapshotHeader {
        identity,
        ring: RING,
        slot: Slot(slot),
        time_ns: 5,
        origin: identity.node,
        configuration: SnapshotConfiguration { id: ConfigurationId(4), first_slot: Slot(0), members },
        pending: None,
    }
}

/// The next completions; waits for them.
fn next(vault: &mut FileVault) -> Vec<VaultCompletion> {
    let mut completions = Vec::new();
    while completions.is_empty() {
        vault.poll(&mut completions);
        std::thread::sleep(Duration::from_micros(100));
    }
    completions
}

fn write(
    vault: &mut FileVault,
    header: SnapshotHeader,
    records: u64,
) -> Result<ShelvedSnapshot, SnapshotError> {
    let mut writing = SnapshotWriting::begin(vault, 1, header);
    let mut given = 0;
    loop {
        while writing.wants_records() > 0 {
            if given == records {
                writing.finish(vault);
                break;
            }
            writing.record(vault, &given.to_le_bytes().repeat(100));
            given += 1;
        }
        for completion in next(vault) {
            writing.on(vault, completion);
        }
        if let Some(outcome) = writing.outcome() {
            return outcome;
        }
    }
}

fn count(vault: &mut FileVault, name: SnapshotName, expected: Expected) -> Result<u64, SnapshotError> {
    let mut count = 0u64;
    read_snapshot(vault, name, VaultState::Published, expected, |_, records| {
        for record in records {
            assert_eq!(record, count.to_le_bytes().repeat(100));
            count += 1;
        }
        Ok::<(), SnapshotError>(())
    })?;
    Ok(count)
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("core-0/snapshots")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits until the helper has written that much of the only file: what is still queued is lost with the vault.
fn wait_for_bytes(directory: &Path, bytes: u64) {
    let path = directory.join("core-0/snapshots").join(&files(directory)[0]);
    while fs::metadata(&path).unwrap().len() < bytes {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_snapshot_is_there_after_a_restart_and_the_journal_does_not_mind_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path(), 1);
    let mut vault = FileVault::open(&data.core(CoreId(0))).unwrap();
    let written = write(&mut vault, header(&data, 100), 10_000).unwrap();
    drop((vault, data));
    assert_eq!(files(directory.path()), ["00000003-0000000000000064.snapshot"]);

    let data = self::data(directory.path(), 1);
    let identity = data.core(CoreId(0)).identity();
    let mut vault = FileVault::open(&data.core(CoreId(0))).unwrap();
    let (shelf, refused) = SnapshotShelf::open(&mut vault, 0, &identity, 2).unwrap();
    assert!(refused.is_empty());
    assert_eq!(shelf.newest(RING), Some(&written));
    assert_eq!(count(&mut vault, written.header.name(), Expected::Own(identity)).unwrap(), 10_000);
}

#[test]
fn an_interrupted_snapshot_is_removed_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path(), 1);
    let core = data.core(CoreId(0));
    let mut vault = FileVault::open(&core).unwrap();
    write(&mut vault, header(&data, 100), 10).unwrap();
    let mut writing = SnapshotWriting::begin(&mut vault, 1, header(&data, 200));
    while writing.wants_records() > 0 {
        writing.record(&mut vault, &[1; 1000]);
    }
    next(&mut vault);
    drop(vault);
    assert_eq!(files(directory.path()).len(), 2);
    let mut vault = FileVault::open(&core).unwrap();
    SnapshotShelf::open(&mut vault, 0, &core.identity(), 2).unwrap();
    next(&mut vault);
    assert_eq!(files(directory.path()), ["00000003-0000000000000064.snapshot"]);
}

#[test]
fn a_snapshot_goes_from_node_to_node_and_a_restart_of_the_receiver_does_not_begin_again() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let sender = data(directories[0].path(), 1);
    let receiver = data(directories[1].path(), 2);
    let mut sender_vault = FileVault::open(&sender.core(CoreId(0))).unwrap();
    let sent = write(&mut sender_vault, header(&sender, 100), 5000).unwrap();
    let (name, identity) = (sent.header.name(), receiver.core(CoreId(0)).identity());
    let mut sending = SnapshotSending::new(1, &sent);
    let mut resumed_at = Vec::new();
    for (token, until) in [(2, sent.bytes / 2), (3, sent.bytes)] {
        let mut vault = FileVault::open(&receiver.core(CoreId(0))).unwrap();
        let (mut shelf, _) = SnapshotShelf::open(&mut vault, 0, &identity, 2).unwrap();
        let resume = shelf.partials(RING).any(|(slot, _)| slot == name.slot);
        let mut receiving = SnapshotReceiving::begin(&mut vault, token, identity, name, resume);
        let outcome = loop {
            if let Some(outcome) = receiving.outcome() {
                break Some(outcome.unwrap());
            }
            let Some(offset) = receiving.wanted() else {
                for completion in next(&mut vault) {
                    receiving.on(&mut vault, completion);
                }
                continue;
            };
            if resumed_at.len() < token as usize - 1 {
                resumed_at.push(offset);
            }
            if offset >= until {
                wait_for_bytes(directories[1].path(), receiving.verified().bytes);
                break None;
            }
            assert!(sending.ask(&mut sender_vault, offset, 50_000));
            let piece = sending.on(next(&mut sender_vault).pop().unwrap()).unwrap();
            receiving.piece(&mut vault, piece.offset, &piece.bytes).unwrap();
        };
        if let Some(snapshot) = outcome {
            shelf.add(snapshot);
            assert_eq!(count(&mut vault, name, Expected::Own(identity)).unwrap(), 5000);
        }
    }
    assert_eq!(resumed_at[0], 0);
    assert!(resumed_at[1] + 200_000 > sent.bytes / 2, "{resumed_at:?} of {}", sent.bytes);
    assert_eq!(files(directories[1].path()), ["00000003-0000000000000064.snapshot"]);
}

#[test]
fn rot_in_the_file_is_found_by_reading_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path(), 1);
    let mut vault = FileVault::open(&data.core(CoreId(0))).unwrap();
    let written = write(&mut vault, header(&data, 100), 5000).unwrap();
    let path = directory.path().join("core-0/snapshots/00000003-0000000000000064.snapshot");
    let mut bytes = fs::read(&path).unwrap();
    bytes[2_000_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let expected = Expected::Own(written.header.identity);
    let mut reading =
        SnapshotReading::begin(&mut vault, 8, written.header.name(), VaultState::Published, expected);
    let error = loop {
        match reading.advance(&mut vault) {
            Ok(SnapshotPart::More) => next(&mut vault).into_iter().for_each(|one| reading.on(one)),
            Ok(part) => assert_ne!(part, SnapshotPart::End),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SnapshotError::Damaged { offset: 1_900_000..=2_000_000, .. }), "{error}");
}

#[test]
fn a_directory_that_refuses_writing_fails_the_snapshot_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path(), 1);
    let mut vault = FileVault::open(&data.core(CoreId(0))).unwrap();
    let snapshots = directory.path().join("core-0/snapshots");
    fs::remove_dir(&snapshots).unwrap();
    let outcome = write(&mut vault, header(&data, 100), 5000);
    assert!(matches!(outcome, Err(SnapshotError::Io { .. })), "{outcome:?}");
    fs::create_dir(&snapshots).unwrap();
    write(&mut vault, header(&data, 100), 5000).expect("the next one is written");
}
