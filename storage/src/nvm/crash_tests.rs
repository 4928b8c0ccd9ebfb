//! Every crash of a journal on non-volatile memory that the model can have: at each fence, every set of pending
//! words; and every flipped bit. What recovery gives is the state before, the state after, or an error.

use annulus_rings::{Frame, Lsn};

use super::disk::NvmDisk;
use super::region::{EXTENTS_OFFSET, Region};
use super::shadow::{Crash, Shadow};
use crate::disk::{Completion, Disk as _, Segments as _};
use crate::error::RecoverError;
use crate::identity::SegmentId;
use crate::journal::Journal;
use crate::journal_tests::{IDENTITY, append, frame, recover_with};
use crate::options::JournalOptions;
use crate::segment::SegmentHeader;
use crate::truncation_tests;

const SEGMENT_BYTES: u64 = 8 << 10;
const REGION_BYTES: u64 = EXTENTS_OFFSET + 7 * SEGMENT_BYTES;

/// Crashes with at most so many images are tried out whole; of others, a sample is taken.
const IMAGES_MAX: u64 = 1 << 10;
const SAMPLES: usize = 60;

fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: SEGMENT_BYTES,
        write_bytes_max: 4 << 10,
        frame_bytes_max: 2 << 10,
        backlog_bytes_max: 64 << 10,
        ..JournalOptions::default()
    }
}

/// Numbers without a source of randomness.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A region whose extents hold what an earlier owner left.
fn fresh() -> Shadow {
    let mut words = vec![0; REGION_BYTES as usize / 8];
    let mut draw = Draw(7);
    words[EXTENTS_OFFSET as usize / 8..].fill_with(|| draw.below(1 << 30) << 20);
    let shadow = Shadow::of(words);
    Region::format(shadow.clone(), &IDENTITY);
    shadow
}

type Recovered = Result<(Journal<NvmDisk<Shadow>>, Vec<Frame>), RecoverError>;

fn recover(shadow: &Shadow) -> Recovered {
    let region = Region::open(shadow.clone(), &IDENTITY).map_err(unusable)?;
    recover_with(NvmDisk::on(region, None).map_err(unusable)?, options())
}

/// An error is an error, wherever it is noticed.
fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> RecoverError {
    let source = std::io::Error::other(error);
    RecoverError::Io { segment: SegmentId::FIRST, action: "opening", source }
}

/// Frames with words of no bit, of one bit and of many.
fn frames(count: u64) -> Vec<Frame> {
    let payload = |slot: u64| {
        let words = (0..slot * 5 % 23).map(|word| match word % 3 {
            0 => 1 << ((slot + word) % 64),
            1 => 0,
            _ => 0xfedc_ba98_7654_3210 ^ slot << 8,
        });
        words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()
    };
    (0..count).map(|slot| frame(slot, &payload(slot))).collect()
}

/// Appends frames, one to three a turn, and marks what was acknowledged. Leaves the last block as it is, or waits
/// until the tail is noted.
fn play(shadow: &Shadow, journal: &mut Journal<NvmDisk<Shadow>>, frames: &[Frame], is_quiet: bool) {
    let mut rest = frames;
    let mut turn = 0;
    while !rest.is_empty() {
        turn += 1;
        let (now, later) = rest.split_at(rest.len().min(1 + turn % 3));
        for frame in now {
            append(journal, frame);
        }
        rest = later;
        while journal.persisted() < journal.appended() {
            journal.submit();
            shadow.mark(journal.poll().unwrap().0);
        }
    }
    for _ in 0..if is_quiet { 20 } else { 0 } {
        journal.poll().unwrap();
    }
}

/// Tries the images of a crash: all, or some of each sort.
fn each_image(crash: &Crash, draw: &mut Draw, mut check: impl FnMut(Vec<u64>)) {
    if crash.images() <= IMAGES_MAX {
        for number in 0..crash.images() {
            let mut left = number as usize;
            check(crash.image(|_, values| {
                let arrived = left % (values + 1);
                left /= values + 1;
                arrived
            }));
        }
        return;
    }
    check(crash.image(|_, _| 0));
    check(crash.image(|_, values| values));
    let words = crash.words();
    for _ in 0..SAMPLES {
        let one = draw.below(words as u64) as usize;
        check(crash.image(|index, values| if index == one { 0 } else { values }));
        check(crash.image(|index, values| if index == one { values } else { 0 }));
        let density = 1 + draw.below(15);
        check(crash.image(|_, values| if draw.below(16) < density { values } else { 0 }));
        let lines = crash.lines();
        let salt = draw.below(1 << 20);
        check(crash.image(
            |index, values| {
                if Draw(salt ^ lines[index] as u64).below(16) < density { values } else { 0 }
            },
        ));
    }
}

/// What recovery gave: everything acknowledged, and nothing that was not appended.
fn assert_before_or_after(recovered: &[Frame], appended: &[Frame], acknowledged: u64) {
    assert!(recovered.len() as u64 >= acknowledged, "{} of {acknowledged} are left", recovered.len());
    assert!(recovered.len() <= appended.len());
    for (recovered, appended) in recovered.iter().zip(appended) {
        assert_eq!(recovered.as_bytes(), appended.as_bytes());
    }
}

#[test]
#[cfg_attr(miri, ignore = "it recovers whole journals")]
fn every_crash_gives_the_state_before_or_after() {
    let all = frames(40);
    let shadow = fresh();
    let (mut journal, _) = recover(&shadow).unwrap();
    shadow.record();
    play(&shadow, &mut journal, &all[..25], true);
    play(&shadow, &mut journal, &all[25..], false);
    let (mut images, mut continued) = (0u64, 0u64);
    let mut draw = Draw(1);
    for crash in shadow.crashes() {
        let whole = crash.image(|_, values| values);
        each_image(&crash, &mut draw, |words| {
            images += 1;
            let looks_flipped = is_first_difference_one_bit(&words, &whole);
            let after = Shadow::of(words);
            match recover(&after) {
                Ok((mut journal, recovered)) => {
                    assert_before_or_after(&recovered, &all, crash.mark);
                    if images.is_multiple_of(16) {
                        continued += 1;
                        append_more(&after, &mut journal, &recovered);
                    }
                }
                // A block that lacks one word of one bit cannot be told from one with a flipped bit.
                Err(RecoverError::Corrupt { .. }) if looks_flipped => {}
                Err(error) => panic!("{error}"),
            }
        });
    }
    assert!(images > 5000 && continued > 300, "{images} images, {continued} continued");
}

/// Segments are freed, zeroed and used again, several times over.
#[test]
#[cfg_attr(miri, ignore = "it recovers whole journals")]
fn every_crash_of_a_truncated_journal_keeps_what_is_needed() {
    const KEPT: u64 = 6;
    let all = frames(150);
    let shadow = fresh();
    let (mut journal, _) = recover(&shadow).unwrap();
    shadow.record();
    for frame in &all {
        append(&mut journal, frame);
        while journal.persisted() < journal.appended() {
            journal.submit();
            shadow.mark(journal.poll().unwrap().0);
        }
        journal.truncate(Lsn(journal.persisted().0.saturating_sub(KEPT)));
    }
    assert!(journal.statistics().segments_removed > 6, "{:?}", journal.statistics());
    let mut draw = Draw(9);
    // Of each ten crashes one: there are many, and most are alike.
    for crash in shadow.crashes().iter().step_by(10) {
        let whole = crash.image(|_, values| values);
        each_image(crash, &mut draw, |words| {
            let looks_flipped = is_first_difference_one_bit(&words, &whole);
            let region = Region::open(Shadow::of(words), &IDENTITY).unwrap();
            let disk = NvmDisk::on(region, None).unwrap();
            let records = match truncation_tests::recover(disk, options()) {
                Ok((_, records)) => records,
                Err(RecoverError::Corrupt { .. }) if looks_flipped => return,
                Err(error) => panic!("{error}"),
            };
            let (first, last) = match &records[..] {
                [] => (1, 0),
                [(first, _), ..] => (first.0, records[records.len() - 1].0.0),
            };
            assert!(first <= crash.mark.saturating_sub(KEPT).max(1), "{first} for {}", crash.mark);
            assert!(last >= crash.mark, "{last} for {}", crash.mark);
            for (lsn, frame) in &records {
                assert_eq!(frame.as_bytes(), all[lsn.0 as usize - 1].as_bytes());
            }
        });
    }
}

fn is_first_difference_one_bit(words: &[u64], whole: &[u64]) -> bool {
    let difference = words.iter().zip(whole).map(|(word, whole)| word ^ whole).find(|bits| *bits != 0);
    difference.is_some_and(u64::is_power_of_two)
}

/// A journal that was recovered goes on, and what it then promises is kept too.
fn append_more(shadow: &Shadow, journal: &mut Journal<NvmDisk<Shadow>>, recovered: &[Frame]) {
    let more = frames(3);
    play(shadow, journal, &more, false);
    let lost = Shadow::of(shadow.durable());
    let (_, again) = recover(&lost).unwrap();
    assert_eq!(again.len(), recovered.len() + more.len());
}

#[test]
#[cfg_attr(miri, ignore = "it recovers whole journals")]
fn power_lost_after_a_killed_process_was_recovered_loses_nothing_recovered() {
    let all = frames(12);
    let shadow = fresh();
    let (mut journal, _) = recover(&shadow).unwrap();
    play(&shadow, &mut journal, &all[..11], false);
    append(&mut journal, &all[11]);
    // The process is killed between the stores of a turn and their fence: the caches of the processor stay.
    shadow.record();
    journal.submit();
    std::mem::forget(journal);
    let crashes = shadow.crashes();
    let [.., stores, _after] = &*crashes else { panic!("no fence") };
    assert!(stores.words() > 0, "nothing was pending");
    let killed = Shadow::of(stores.image(|_, _| 0));
    killed.store_pending(stores);
    let (_, recovered) = recover(&killed).unwrap();
    assert_eq!(recovered.len(), 12, "it reads what the caches hold");
    let (_, again) = recover(&Shadow::of(killed.durable())).unwrap();
    assert_eq!(again.len(), 12, "what was read back was not durable");
}

/// Flips every bit of what is used, or one in `step`, one at a time.
fn flip_all(shadow: &Shadow, appended: &[Frame], step: usize) {
    let words = shadow.durable();
    let mut refused = 0u64;
    for word in (0..words.len()).filter(|word| is_used(&words, *word)) {
        for bit in (word % step..64).step_by(step) {
            let mut flipped = words.clone();
            flipped[word] ^= 1 << bit;
            match recover(&Shadow::of(flipped)) {
                Ok((_, recovered)) => {
                    assert_before_or_after(&recovered, appended, appended.len() as u64);
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0);
}

/// Whether a word is something, or near something.
fn is_used(words: &[u64], word: usize) -> bool {
    let near = word.saturating_sub(3)..(word + 4).min(words.len());
    words[near].iter().any(|near| *near != 0)
}

#[test]
#[cfg_attr(miri, ignore = "it recovers whole journals")]
fn every_flipped_bit_is_harmless_or_noticed() {
    for (is_quiet, step) in [(false, 1), (true, 7)] {
        let all = frames(9);
        let shadow = zeroed();
        let (mut journal, _) = recover(&shadow).unwrap();
        play(&shadow, &mut journal, &all, is_quiet);
        std::mem::forget(journal);
        flip_all(&shadow, &all, step);
    }
}

/// A region whose extents hold nothing.
fn zeroed() -> Shadow {
    let shadow = Shadow::of(vec![0; REGION_BYTES as usize / 8]);
    Region::format(shadow.clone(), &IDENTITY);
    shadow
}

#[test]
#[cfg_attr(miri, ignore = "it recovers whole journals")]
fn a_flipped_bit_beside_a_torn_block_is_never_a_lost_vote() {
    let all = frames(14);
    let shadow = fresh();
    let (mut journal, _) = recover(&shadow).unwrap();
    play(&shadow, &mut journal, &all[..8], false);
    shadow.record();
    play(&shadow, &mut journal, &all[8..], false);
    let mut draw = Draw(3);
    for crash in shadow.crashes() {
        for _ in 0..400 {
            let density = 1 + draw.below(15);
            let mut words = crash.image(|_, values| if draw.below(16) < density { values } else { 0 });
            let word = draw.below(words.len() as u64) as usize;
            words[word] ^= 1 << draw.below(64);
            if let Ok((_, recovered)) = recover(&Shadow::of(words)) {
                assert_before_or_after(&recovered, &all, crash.mark);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "it recovers whole journals")]
fn a_lost_block_below_the_durable_tail_is_damage() {
    let all = frames(6);
    let shadow = fresh();
    let (mut journal, _) = recover(&shadow).unwrap();
    play(&shadow, &mut journal, &all, true);
    std::mem::forget(journal);
    let mut disk = NvmDisk::on(Region::open(shadow.clone(), &IDENTITY).unwrap(), None).unwrap();
    let tail = disk.durable_tail().unwrap();
    let mut last = crate::identity::Position { offset: tail.offset - 256, ..tail };
    let mut block = [0; 256];
    disk.read_at(last, &mut block).unwrap();
    while u64::from_le_bytes(*block[8..].first_chunk().unwrap()) != u64::from_le_bytes(*b"ANNULBLK") {
        last.offset -= 256;
        disk.read_at(last, &mut block).unwrap();
    }
    disk.erase(last, tail.offset - last.offset).unwrap();
    let Err(error) = recover(&shadow) else { panic!("an acknowledged block was forgotten") };
    assert!(matches!(error, RecoverError::Corrupt { .. }), "{error}");
}

#[test]
#[cfg_attr(miri, ignore = "it reads a region thousands of times")]
fn every_crash_of_the_table_gives_the_one_before_or_after() {
    let shadow = fresh();
    let mut disk = NvmDisk::on(Region::open(shadow.clone(), &IDENTITY).unwrap(), None).unwrap();
    let mut lists = vec![disk.list().unwrap()];
    shadow.mark(0);
    shadow.record();
    let mut completions = Vec::new();
    for segment in 1..8u64 {
        let header = SegmentHeader { identity: IDENTITY, segment: SegmentId(segment), bytes: SEGMENT_BYTES };
        disk.prepare(header, true);
        if segment > 4 {
            disk.free(SegmentId(segment - 4));
            lists.push(disk.list().unwrap());
            shadow.mark(lists.len() as u64 - 1);
        }
        disk.wait().unwrap();
        disk.poll(&mut completions).unwrap();
        lists.push(disk.list().unwrap());
        shadow.mark(lists.len() as u64 - 1);
    }
    assert!(completions.iter().all(|done| matches!(done, Completion::Prepared { result: Ok(()), .. })));
    let mut draw = Draw(5);
    for crash in shadow.crashes() {
        each_image(&crash, &mut draw, |words| {
            let mut disk = NvmDisk::on(Region::open(Shadow::of(words), &IDENTITY).unwrap(), None).unwrap();
            let found = disk.list().unwrap();
            let mark = crash.mark as usize;
            assert!(lists[mark..].iter().take(2).any(|list| *list == found), "{found:?} after {mark}");
        });
    }
}

#[test]
#[cfg_attr(miri, ignore = "it recovers whole journals")]
fn a_switch_of_a_third_value_is_damage() {
    let shadow = fresh();
    let (journal, _) = recover(&shadow).unwrap();
    std::mem::forget(journal);
    for bit in 0..64 {
        let mut words = shadow.durable();
        words[4096 / 8] ^= 1 << bit;
        let Err(error) = recover(&Shadow::of(words)) else { panic!("bit {bit} was believed") };
        assert!(error.to_string().contains("neither of its two values"), "{error}");
    }
}
