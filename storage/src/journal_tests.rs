//! The journal against crashes, corruption and failing writes, on a device that the test controls.

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, CoreId, Frame, FrameHeader, Incarnation, Kind, Lsn, NodeId, RingId,
    Slot, reach,
};
use bytes::BytesMut;
use proptest::prelude::*;

use crate::block::{BlockHeader, SECTOR_BYTES};
use crate::crash_disk::{CrashDisk, Image};
use crate::disk::Disk;
use crate::error::RecoverError;
use crate::grain::Grain;
use crate::identity::{Identity, Position, SegmentId};
use crate::journal::Journal;
use crate::memory_disk::MemoryDisk;
use crate::options::JournalOptions;
use crate::recovery::Unrecovered;

pub(crate) const IDENTITY: Identity = Identity {
    cluster: ClusterId(7),
    node: NodeId(1),
    core: CoreId(0),
    incarnation: Incarnation(1),
    disk_uuid: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
};

fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 32 << 10,
        write_bytes_max: 8 << 10,
        frame_bytes_max: 6 << 10,
        backlog_bytes_max: 1 << 20,
        ..JournalOptions::default()
    }
}

pub(crate) fn frame(slot: u64, payload: &[u8]) -> Frame {
    let header = FrameHeader {
        kind: Kind::Accept,
        cluster: ClusterId(7),
        ring: RingId(1),
        configuration: ConfigurationId(0),
        sender: NodeId(1),
        ballot: Ballot { round: 1, node: NodeId(1), incarnation: Incarnation(1) },
        slot: Slot(slot),
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    };
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend_from_slice(payload);
    Frame::seal(buffer, &header)
}

fn recover<D: Disk>(disk: D) -> Result<(Journal<D>, Vec<Frame>), RecoverError> {
    recover_with(disk, options())
}

pub(crate) fn recover_with<D: Disk>(
    disk: D,
    options: JournalOptions,
) -> Result<(Journal<D>, Vec<Frame>), RecoverError> {
    let mut frames = Vec::new();
    let journal = Unrecovered::open(disk, IDENTITY, options).unwrap().recover(|lsn, frame| {
        frames.push(frame);
        assert_eq!(lsn, Lsn(frames.len() as u64), "positions have no gaps");
    })?;
    assert_eq!(journal.appended(), Lsn(frames.len() as u64));
    assert_eq!(journal.persisted(), journal.appended());
    Ok((journal, frames))
}

pub(crate) fn append<D: Disk>(journal: &mut Journal<D>, frame: &Frame) {
    journal.append(journal.appended().next(), frame);
}

fn fresh() -> (CrashDisk, Journal<CrashDisk>) {
    let disk = CrashDisk::default();
    let (journal, frames) = recover(disk.clone()).unwrap();
    assert!(frames.is_empty());
    (disk, journal)
}

/// Appends and makes durable, one block.
pub(crate) fn write_block(disk: &CrashDisk, journal: &mut Journal<CrashDisk>, frames: &[Frame]) {
    for frame in frames {
        append(journal, frame);
    }
    while journal.persisted() < journal.appended() {
        journal.submit();
        (0..disk.in_flight()).for_each(|_| disk.complete(0));
        journal.poll().unwrap();
    }
}

/// A journal of some blocks over two segments, all durable: its image and its frames.
fn small_journal() -> (Image, Vec<Frame>) {
    let (disk, mut journal) = fresh();
    let mut frames = Vec::new();
    for block in 0..9u64 {
        // Some payloads hold whole sectors of zeros, which a torn write would leave too.
        let byte = if block % 3 == 0 { 0 } else { 0xa5 };
        let group: Vec<_> = (0..2).map(|n| frame(block * 2 + n, &vec![byte; 1500])).collect();
        write_block(&disk, &mut journal, &group);
        frames.extend(group);
    }
    (disk.image(), frames)
}

#[test]
fn persisted_never_exceeds_what_completed() {
    let (disk, mut journal) = fresh();
    append(&mut journal, &frame(0, b"first"));
    journal.submit();
    append(&mut journal, &frame(1, b"second"));
    journal.submit();
    append(&mut journal, &frame(2, b"waits: two writes are in flight"));
    journal.submit();
    assert_eq!(disk.in_flight(), 2);
    assert_eq!(journal.poll().unwrap(), Lsn(0));
    disk.complete(1);
    assert_eq!(journal.poll().unwrap(), Lsn(0), "the second alone is no prefix");
    disk.complete(0);
    assert_eq!(journal.poll().unwrap(), Lsn(2));
    journal.submit();
    assert_eq!(journal.poll().unwrap(), Lsn(2));
    disk.complete(0);
    assert_eq!(journal.poll().unwrap(), Lsn(3));
}

#[test]
fn what_arrives_during_a_write_joins_one_group() {
    let (disk, mut journal) = fresh();
    for slot in 0..2 {
        append(&mut journal, &frame(slot, b"starts at once"));
        journal.submit();
    }
    (2..22).for_each(|slot| append(&mut journal, &frame(slot, b"waits")));
    (0..2).for_each(|_| disk.complete(0));
    journal.poll().unwrap();
    journal.submit();
    assert_eq!(disk.in_flight(), 1);
    disk.complete(0);
    assert_eq!(journal.poll().unwrap(), Lsn(22));
    let statistics = journal.statistics();
    assert_eq!((statistics.flushes, statistics.blocks, statistics.frames), (3, 3, 22));
    assert_eq!(statistics.bytes_written, 3 * 4096);
}

#[test]
fn a_failed_write_poisons_the_journal_for_ever() {
    let (disk, mut journal) = fresh();
    append(&mut journal, &frame(0, b"durable"));
    journal.submit();
    append(&mut journal, &frame(1, b"lost"));
    journal.submit();
    disk.fail(1);
    assert!(journal.poll().unwrap_err().to_string().contains("injected"));
    disk.complete(0);
    assert!(journal.poll().is_err(), "nothing is acknowledged after");
    assert_eq!(journal.persisted(), Lsn(0));
    append(&mut journal, &frame(2, b"ignored"));
    journal.submit();
    assert_eq!(disk.in_flight(), 0, "nothing is written after");
    assert!(journal.poll().is_err());
}

#[test]
fn two_writes_in_flight_with_the_first_torn_are_a_torn_tail() {
    // The first write is lost whole, loses its header, or loses its last sector; the second arrives.
    for lost in [0..16usize, 0..1, 7..8] {
        let (disk, mut journal) = fresh();
        write_block(&disk, &mut journal, &[frame(0, b"durable")]);
        append(&mut journal, &frame(1, &[1; 3900]));
        journal.submit();
        append(&mut journal, &frame(2, &[2; 3900]));
        journal.submit();
        let image = disk.crash(|write, sector| write == 1 || !lost.contains(&sector));
        let (mut journal, frames) = recover(CrashDisk::of(image)).unwrap();
        assert_eq!(frames, [frame(0, b"durable")], "the second is not served without the first");
        // Nothing of the tail is taken for valid when the journal grows over it.
        let disk = journal.disk.clone();
        write_block(&disk, &mut journal, &[frame(3, b"another life")]);
        let (_, frames) = recover(CrashDisk::of(disk.image())).unwrap();
        assert_eq!(frames, [frame(0, b"durable"), frame(3, b"another life")]);
    }
}

#[test]
fn an_acknowledged_block_that_is_gone_is_refused() {
    let (disk, mut journal) = fresh();
    for slot in 0..3 {
        write_block(&disk, &mut journal, &[frame(slot, b"acknowledged")]);
    }
    let mut image = disk.image();
    let segment = image.get_mut(&SegmentId::FIRST).unwrap();
    segment[2 * 4096..3 * 4096].fill(0);
    let error = recover(CrashDisk::of(image)).err().unwrap();
    assert!(matches!(error, RecoverError::Corrupt { at, .. } if at.offset == 2 * 4096), "{error}");
}

#[test]
fn bit_rot_in_the_last_block_is_not_taken_for_a_torn_write() {
    let (disk, mut journal) = fresh();
    write_block(&disk, &mut journal, &[frame(0, &[9; 1000])]);
    for byte in [4096, 4096 + 130, 4096 + 600, 4096 + 3000, 4096 + 4095] {
        let mut image = disk.image();
        image.get_mut(&SegmentId::FIRST).unwrap()[byte] ^= 4;
        let error = recover(CrashDisk::of(image)).err().unwrap();
        assert!(matches!(error, RecoverError::Corrupt { .. }), "byte {byte}: {error}");
    }
}

#[test]
fn bit_rot_in_the_first_block_of_a_new_segment_is_not_taken_for_a_torn_write() {
    let (disk, mut journal) = fresh();
    let mut slot = 0;
    while disk.image()[&SegmentId(2)][4096] == 0 {
        write_block(&disk, &mut journal, &[frame(slot, &[9; 1000])]);
        slot += 1;
    }
    for byte in [4096, 4096 + 130, 4096 + 600] {
        let mut image = disk.image();
        image.get_mut(&SegmentId(2)).unwrap()[byte] ^= 4;
        let error = recover(CrashDisk::of(image)).err().unwrap();
        assert!(matches!(error, RecoverError::Corrupt { at, .. } if at.segment == SegmentId(2)), "{error}");
    }
}

#[test]
fn a_block_of_another_life_does_not_continue_this_one() {
    let (disk, mut journal) = fresh();
    write_block(&disk, &mut journal, &[frame(0, b"common")]);
    let common = disk.image();
    let [this, other] = [1u8, 2].map(|life| {
        let disk = CrashDisk::of(common.clone());
        let (mut journal, _) = recover(disk.clone()).unwrap();
        write_block(&disk, &mut journal, &[frame(1, &[life; 100])]);
        write_block(&disk, &mut journal, &[frame(2, &[life; 100])]);
        disk.image()
    });
    // The second block of one life at its own place, behind the first block of the other.
    let mut mixed = this;
    let place = 3 * 4096..4 * 4096;
    let stranger = &other[&SegmentId::FIRST][place.clone()];
    mixed.get_mut(&SegmentId::FIRST).unwrap()[place].copy_from_slice(stranger);
    assert!(matches!(recover(CrashDisk::of(mixed)), Err(RecoverError::Corrupt { .. })));
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of recoveries take minutes")]
fn a_flipped_bit_in_any_sector_is_refused_or_harmless() {
    let (image, written) = small_journal();
    for (segment, bytes) in &image {
        for offset in (0..bytes.len()).step_by(SECTOR_BYTES) {
            let mut image = image.clone();
            image.get_mut(segment).unwrap()[offset + (offset / 7) % SECTOR_BYTES] ^= 0x10;
            if let Ok((_, frames)) = recover(CrashDisk::of(image)) {
                assert_eq!(frames, written, "segment {} offset {offset}", segment.0);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of recoveries take minutes")]
fn a_lost_sector_gives_a_prefix_or_a_refusal_and_never_a_wrong_frame() {
    let (image, written) = small_journal();
    let mut torn = 0;
    for (segment, bytes) in &image {
        for offset in (0..bytes.len()).step_by(SECTOR_BYTES) {
            let mut image = image.clone();
            image.get_mut(segment).unwrap()[offset..offset + SECTOR_BYTES].fill(0);
            if let Ok((_, frames)) = recover(CrashDisk::of(image)) {
                assert!(written.starts_with(&frames), "segment {} offset {offset}", segment.0);
                // All but the last block are known durable by a later one.
                assert!(frames.len() >= written.len() - 2, "segment {} offset {offset}", segment.0);
                torn += usize::from(frames.len() < written.len());
            }
        }
    }
    assert!(torn > 0, "a lost sector of the last block looks like a torn write");
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of recoveries take minutes")]
fn a_truncated_or_missing_segment_is_refused() {
    let (image, _) = small_journal();
    let last = *image.keys().next_back().unwrap();
    for bytes in (0..32 << 10).step_by(SECTOR_BYTES) {
        let mut image = image.clone();
        image.get_mut(&last).unwrap().truncate(bytes);
        let error = recover(CrashDisk::of(image)).err().unwrap();
        assert!(matches!(error, RecoverError::Truncated { .. }), "{bytes}: {error}");
    }
    let used: Vec<_> = image.keys().copied().filter(|segment| segment.0 <= 3).collect();
    for segment in used {
        let mut image = image.clone();
        image.retain(|other, _| *other < segment);
        if segment == SegmentId::FIRST {
            continue; // An empty device is a new one; `DataDir` remembers that a journal was begun.
        }
        let error = recover(CrashDisk::of(image)).err().unwrap();
        assert!(matches!(error, RecoverError::MissingSegment(_)), "{error}");
    }
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let (image, _) = small_journal();
    let other = Identity { disk_uuid: 1, ..IDENTITY };
    let unrecovered = Unrecovered::open(CrashDisk::of(image), other, options()).unwrap();
    assert!(matches!(unrecovered.recover(|_, _| ()), Err(RecoverError::ForeignSegment { .. })));
}

#[test]
fn the_first_block_of_another_disk_is_refused() {
    let of_one_block = |identity| {
        let disk = CrashDisk::default();
        let unrecovered = Unrecovered::open(disk.clone(), identity, options()).unwrap();
        let mut journal = unrecovered.recover(|_, _| ()).unwrap();
        write_block(&disk, &mut journal, &[frame(0, b"first")]);
        disk.image()
    };
    let mut image = of_one_block(IDENTITY);
    let other = of_one_block(Identity { disk_uuid: 1, ..IDENTITY });
    let block = 4096..8192;
    image.get_mut(&SegmentId::FIRST).unwrap()[block.clone()]
        .copy_from_slice(&other[&SegmentId::FIRST][block]);
    assert!(matches!(recover(CrashDisk::of(image)), Err(RecoverError::Corrupt { .. })));
}

#[test]
fn a_block_is_one_only_at_its_own_place() {
    let (image, _) = small_journal();
    let page = &image[&SegmentId::FIRST][4096..8192];
    let is_block = |segment, offset| {
        BlockHeader::parse(page, Grain::Sector, &IDENTITY, Position { segment, offset }).is_some()
    };
    assert!(is_block(SegmentId::FIRST, 4096));
    assert!(!is_block(SegmentId::FIRST, 8192) && !is_block(SegmentId::FIRST.next(), 4096));
}

#[test]
fn a_misdirected_block_is_refused() {
    let (mut image, _) = small_journal();
    let segment = image.get_mut(&SegmentId::FIRST).unwrap();
    segment.copy_within(4096..8192, 8192);
    assert!(matches!(recover(CrashDisk::of(image)), Err(RecoverError::Corrupt { .. })));
    assert!(reach::count(&reach::DAMAGE_REFUSED) > 0);
}

#[test]
fn a_write_that_finds_no_segment_waits_until_there_is_one() {
    let (disk, mut journal) = fresh();
    let turn = |journal: &mut Journal<CrashDisk>| {
        journal.submit();
        while disk.in_flight() > 0 {
            disk.complete(0);
        }
        journal.poll().unwrap();
    };
    disk.fail_preparations(true);
    for slot in 0..100 {
        append(&mut journal, &frame(slot, &[3; 5800]));
        turn(&mut journal);
        if journal.persisted() < journal.appended() {
            break;
        }
    }
    assert!(journal.persisted() < journal.appended() && reach::count(&reach::SEGMENT_AWAITED) > 0);
    disk.fail_preparations(false);
    for _ in 0..5 {
        turn(&mut journal);
    }
    assert_eq!(journal.persisted(), journal.appended());
}

#[test]
fn without_room_for_segments_new_work_is_refused_before_what_was_taken_is_stuck() {
    let (disk, mut journal) = fresh();
    disk.fail_preparations(true);
    let mut slot = 0;
    while journal.has_room(6000) {
        write_block(&disk, &mut journal, &[frame(slot, &[3; 5800])]);
        slot += 1;
        assert!(slot < 100, "the reserved space ends");
    }
    assert!(journal.statistics().preparation_failures > 0);
    assert_eq!(journal.persisted(), journal.appended());
    disk.fail_preparations(false);
    for _ in 0..3 {
        journal.submit();
        journal.poll().unwrap();
    }
    assert!(journal.has_room(6000), "room came back");
}

#[test]
#[cfg_attr(miri, ignore = "it writes megabytes")]
fn a_memory_journal_keeps_the_newest_slots_and_is_named_volatile() {
    let (mut journal, _) = recover(MemoryDisk::new(128 << 10)).unwrap();
    assert!(!journal.is_durable() && journal.kind().to_string().contains("volatile"));
    for slot in 0..200 {
        append(&mut journal, &frame(slot, &[slot as u8; 2000]));
        journal.submit();
        journal.poll().unwrap();
    }
    while journal.persisted() < journal.appended() {
        journal.submit();
        journal.poll().unwrap();
    }
    let mut read_back = |from, upto| {
        journal.retrieve(RingId(1), Slot(from), Slot(upto), 1 << 20, 1).unwrap();
        for _ in 0..100 {
            journal.submit();
            journal.poll().unwrap();
            if let Some(answer) = journal.retrieved() {
                return answer.frames;
            }
        }
        panic!("no answer");
    };
    let newest: Vec<_> = (190..200).map(|slot| frame(slot, &[slot as u8; 2000])).collect();
    assert_eq!(read_back(190, 200), newest);
    assert!(read_back(0, 10).is_empty(), "forgotten");
}

#[test]
fn a_read_back_keeps_to_its_bound_in_bytes_and_to_what_is_durable() {
    let (disk, mut journal) = fresh();
    for slot in 0..20 {
        write_block(&disk, &mut journal, &[frame(slot, &[1; 2000])]);
    }
    append(&mut journal, &frame(20, b"in flight"));
    journal.submit();
    let mut ask = |from, upto, bytes_max| {
        journal.retrieve(RingId(1), Slot(from), Slot(upto), bytes_max, 5).unwrap();
        loop {
            journal.submit();
            journal.poll().unwrap();
            if let Some(answer) = journal.retrieved() {
                return answer.frames.len();
            }
        }
    };
    assert_eq!(ask(3, 13, 5000), 2);
    assert_eq!(ask(3, 13, 1), 1, "at least one");
    assert_eq!(ask(18, 30, 1 << 20), 2);
    assert_eq!(ask(50, 60, 1 << 20), 0);
    assert_eq!(ask(5, 5, 1 << 20), 0);
}

/// What happens to a journal in a run of the model.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(usize, u8)>),
    Submit,
    Complete(usize),
    Poll,
    Crash { arrived: Vec<bool>, erased_sectors: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let frames = prop::collection::vec((0usize..3000, prop_oneof![Just(0u8), any::<u8>()]), 1..4);
    let step = prop_oneof![
        4 => frames.prop_map(Step::Append),
        4 => Just(Step::Submit),
        3 => (0usize..3).prop_map(Step::Complete),
        2 => Just(Step::Poll),
        1 => (prop::collection::vec(any::<bool>(), 64), 0usize..40)
            .prop_map(|(arrived, erased_sectors)| Step::Crash { arrived, erased_sectors }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 400 }, ..ProptestConfig::default() })]

    /// The model is a vector: what was appended, in order. After any crash the journal holds a prefix of
    /// it that has everything acknowledged.
    #[test]
    fn any_crash_leaves_a_prefix_with_everything_acknowledged(
        steps in steps(), writes_in_flight_max in 1usize..4,
    ) {
        let options = JournalOptions { writes_in_flight_max, ..options() };
        let mut disk = CrashDisk::default();
        let (mut journal, _) = recover_with(disk.clone(), options.clone()).unwrap();
        let mut model: Vec<Frame> = Vec::new();
        let mut acknowledged = 0;
        for step in steps {
            match step {
                Step::Append(frames) => for (bytes, fill) in frames {
                    let frame = frame(model.len() as u64, &vec![fill; bytes]);
                    append(&mut journal, &frame);
                    model.push(frame);
                },
                Step::Submit => journal.submit(),
                Step::Complete(index) if index < disk.in_flight() => disk.complete(index),
                Step::Complete(_) => {}
                Step::Poll => acknowledged = journal.poll().unwrap().0 as usize,
                Step::Crash { arrived, erased_sectors } => {
                    let image = disk.crash(|write, sector| arrived[(write * 23 + sector) % arrived.len()]);
                    let first = CrashDisk::of(image.clone());
                    first.die_while_erasing(erased_sectors);
                    let killed = recover_with(first.clone(), options.clone()).is_err();
                    disk = CrashDisk::of(first.image());
                    let (recovered, frames) = recover_with(disk.clone(), options.clone()).unwrap();
                    prop_assert!(model.starts_with(&frames));
                    prop_assert!(frames.len() >= acknowledged);
                    let (_, undisturbed) = recover_with(CrashDisk::of(image), options.clone()).unwrap();
                    prop_assert_eq!(&undisturbed, &frames, "recovery was killed: {}", killed);
                    model = frames;
                    acknowledged = model.len();
                    journal = recovered;
                }
            }
        }
    }
}

#[test]
fn a_write_that_is_done_behind_another_leaves_its_place_to_the_next_but_not_for_ever() {
    let (disk, mut journal) = fresh();
    for slot in 0..10 {
        append(&mut journal, &frame(slot, &[1; 5000]));
    }
    journal.submit();
    assert_eq!(disk.in_flight(), 2);
    for done in 1..=2 {
        disk.complete(1);
        assert_eq!(journal.poll().unwrap(), Lsn(0), "the first is not durable");
        journal.submit();
        assert_eq!(disk.in_flight(), 2, "{done} are done, and two are written");
    }
    disk.complete(1);
    journal.poll().unwrap();
    journal.submit();
    assert_eq!(disk.in_flight(), 1, "four are not acknowledged: no more than that");
    disk.complete(0);
    assert_eq!(journal.poll().unwrap(), Lsn(4));
}
