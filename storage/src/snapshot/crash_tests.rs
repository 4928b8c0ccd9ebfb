//! A crash, an error or rot at every operation of the vault: the snapshot is whole, or it does not count.

use annulus_rings::RingId;

use super::crash_vault::CrashVault;
use super::samples::{bytes, header, header_of, identity, identity_of, records, write};
use super::*;

const RING: RingId = RingId(3);
/// Crashes tried between each two operations.
const SEEDS: u64 = 12;

/// Chances that look random: the same for a seed.
fn chances(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Some crashes lose nearly everything, others nearly nothing.
        (state >> 33) % 8 < seed % 9
    }
}

/// Opens the shelf of a node as its start does, and removes what it says.
fn open(vault: &mut CrashVault, node: u16) -> SnapshotShelf {
    let (shelf, refused) = SnapshotShelf::open(vault, 0, &identity_of(node), 2).unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    while !vault.is_idle() {
        vault.poll(&mut Vec::new());
    }
    shelf
}

/// Records of a published snapshot, all of which must be right.
fn read(vault: &mut CrashVault, snapshot: &ShelvedSnapshot, expected: Expected) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    read_snapshot(vault, snapshot.header.name(), VaultState::Published, expected, |_, records| {
        all.extend(records.map(<[u8]>::to_vec));
        Ok::<(), SnapshotError>(())
    })
    .expect("what has its name is whole");
    all
}

/// What the start after a crash finds: the old snapshot and maybe the new one, and no leftovers.
fn check(vault: &mut CrashVault, is_done: bool) {
    for _ in 0..2 {
        let shelf = open(vault, 1);
        let slots: Vec<u64> = shelf.snapshots(RING).map(|snapshot| snapshot.header.slot.0).collect();
        assert!(slots == [200, 100] || slots == [100] && !is_done, "{slots:?}");
        for snapshot in shelf.snapshots(RING) {
            let count = if snapshot.header.slot.0 == 100 { 20 } else { 100 };
            assert_eq!(read(vault, snapshot, Expected::Own(identity())), records(count));
        }
        assert_eq!(vault.list().unwrap().len(), slots.len(), "nothing else is left");
    }
}

#[test]
fn a_crash_anywhere_leaves_a_whole_snapshot_or_one_that_does_not_count() {
    let mut vault = CrashVault::default();
    write(&mut vault, header(3, 100), &records(20)).unwrap();
    let records = records(100);
    let mut records = records.iter();
    let mut writing = SnapshotWriting::begin(&mut vault, 1, header(3, 200));
    let mut completions = Vec::new();
    let mut crashes = 0;
    loop {
        let is_done = matches!(writing.stage(), WritingStage::Over);
        for seed in 0..SEEDS {
            check(&mut vault.crash(chances(seed + 1000 * crashes)), is_done);
            crashes += 1;
        }
        if let Some(outcome) = writing.outcome() {
            outcome.unwrap();
            break;
        }
        for _ in 0..5 {
            match records.next() {
                Some(record) => writing.record(&mut vault, record),
                None => writing.finish(&mut vault),
            }
        }
        vault.poll(&mut completions);
        completions.drain(..).for_each(|completion| writing.on(&mut vault, completion));
    }
    check(&mut vault, true);
    assert!(crashes > 100, "{crashes}");
}

#[test]
fn an_error_anywhere_fails_the_snapshot_leaves_nothing_and_the_next_is_written() {
    let mut undone = CrashVault::default();
    write(&mut undone, header(3, 200), &records(100)).unwrap();
    for fails_at in 0..undone.done {
        let mut vault = CrashVault::failing_at(fails_at);
        let outcome = write(&mut vault, header(3, 200), &records(100));
        assert!(matches!(outcome, Err(SnapshotError::Io { .. })), "operation {fails_at}: {outcome:?}");
        assert!(vault.is_idle() && vault.list().unwrap().is_empty(), "operation {fails_at}");
        write(&mut vault, header(3, 200), &records(100)).expect("one error is not for ever");
    }
}

#[test]
fn a_vault_in_a_box_is_one() {
    let mut vault: Box<dyn Vault> = Box::new(MemoryVault::new(1 << 20));
    write(&mut vault, header(3, 100), &records(20)).unwrap();
    let (shelf, _) = SnapshotShelf::open(&mut vault, 0, &identity(), 2).unwrap();
    assert_eq!(shelf.snapshots(RING).count(), 1);
}

#[test]
fn rot_on_the_way_to_the_device_is_found_before_the_snapshot_counts() {
    let mut sound = CrashVault::default();
    write(&mut sound, header(3, 200), &records(100)).unwrap();
    let mut found = 0;
    for rots_at in 0..sound.done {
        let mut vault = CrashVault::rotting_at(rots_at);
        if let Err(error) = write(&mut vault, header(3, 200), &records(100)) {
            assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
            assert!(vault.list().unwrap().is_empty());
            found += 1;
        }
    }
    assert_eq!(found, 2 + records(100).iter().map(Vec::len).sum::<usize>().div_ceil(64 << 10));
}

#[test]
fn a_reception_goes_on_after_a_crash_anywhere() {
    let (sent, name) = (bytes(header_of(1, 3, 200), &records(100)), header(3, 200).name());
    let mut vault = CrashVault::default();
    let mut receiving = SnapshotReceiving::begin(&mut vault, 1, identity_of(2), name, false);
    let (mut completions, mut crashes, mut resumed) = (Vec::new(), 0, 0);
    loop {
        for seed in 0..SEEDS {
            resumed += u64::from(go_on(vault.crash(chances(seed + 1000 * crashes)), &sent));
            crashes += 1;
        }
        if let Some(outcome) = receiving.outcome() {
            outcome.unwrap();
            break;
        }
        if let Some(offset) = receiving.wanted() {
            let rest = &sent[offset as usize..];
            receiving.piece(&mut vault, offset, &rest[..rest.len().min(30_000)]).unwrap();
        }
        vault.poll(&mut completions);
        completions.drain(..).for_each(|completion| receiving.on(&mut vault, completion));
    }
    assert!(resumed > 20 && crashes > 100, "{resumed} of {crashes} went on with something");
}

/// Starts again after a crash and receives the rest. True if not all of it had to come again.
fn go_on(mut vault: CrashVault, sent: &[u8]) -> bool {
    let shelf = open(&mut vault, 2);
    let name = header(3, 200).name();
    let own = Expected::Own(identity_of(2));
    if let Some(published) = shelf.newest(RING) {
        assert_eq!(read(&mut vault, published, own), records(100));
        return false;
    }
    let resume = shelf.partials(RING).any(|(slot, _)| slot == name.slot);
    let mut receiving = SnapshotReceiving::begin(&mut vault, 2, identity_of(2), name, resume);
    let (mut completions, mut first) = (Vec::new(), None);
    let snapshot = loop {
        if let Some(outcome) = receiving.outcome() {
            break outcome.unwrap();
        }
        if let Some(offset) = receiving.wanted() {
            first.get_or_insert(offset);
            receiving
                .piece(&mut vault, offset, &sent[offset as usize..])
                .expect("the peer's bytes are right");
        }
        vault.poll(&mut completions);
        completions.drain(..).for_each(|completion| receiving.on(&mut vault, completion));
    };
    assert_eq!(read(&mut vault, &snapshot, own), records(100));
    first.is_none_or(|first| first > 0)
}
