//! Recovery over a medium that holds anything: it ends with records or with an error, and what it ends with
//! can be gone on with.

use std::sync::OnceLock;

use annulus_rings::{Frame, Lsn, RingId, Slot};
use annulus_storage::Journal;

use crate::edits::{Edits, Script};
use crate::medium::{self, Image, Medium};
use crate::seal::{self, Seals};
use crate::{Target, valid};

/// Edits of the segments of a valid journal, or the blocks of the first one as they are; checksums repaired
/// as far as the input says. An index of the journal is reserved at each of a few recoveries.
pub const JOURNAL: Target =
    Target { name: "journal", run, beginnings, bytes_per_byte: 64, bytes_fixed: 16 << 20 };

const GROUPS_MAX: usize = 4;
const PAGE_BYTES: usize = 4096;

fn beginnings() -> Vec<Vec<u8>> {
    [[0, 0, 0], [0, 31, 0], [0, 31, 1], [0, 7, 1], [0x20, 0, 0], [0x20, 31, 1]]
        .map(|beginning| beginning.to_vec())
        .to_vec()
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let (mode, seals) = (script.byte(), Seals(script.byte()));
    let (image, written) = valid_journal(mode & 0x20 != 0);
    let mut image = image.clone();
    if mode & 0x40 != 0 {
        image.retain(|segment, _| segment.0 != u64::from(mode & 7));
    }
    let is_raw = mode & 0x80 != 0;
    if is_raw {
        replace(&mut image, script.rest());
    } else {
        edit(&mut image, &mut script);
    }
    image.values_mut().fold(0, |chain, segment| seal::segment(segment, seals, chain));
    let medium = Medium::of(image);
    let Ok((journal, first, frames)) = medium.recover() else { return };
    if !is_raw && seals.0 == 0 {
        let written = &written[first.0 as usize - 1..];
        assert!(written.starts_with(&frames), "nothing but what was written, from its first position on");
    }
    go_on(&medium, journal, first, frames);
}

fn valid_journal(is_truncated: bool) -> &'static (Image, Vec<Frame>) {
    static VALID: [OnceLock<(Image, Vec<Frame>)>; 2] = [const { OnceLock::new() }; 2];
    VALID[usize::from(is_truncated)].get_or_init(|| medium::valid_journal(is_truncated))
}

/// Puts `bytes` where the first segment's blocks are.
fn replace(image: &mut Image, bytes: &[u8]) {
    if let Some((_, first)) = image.iter_mut().next() {
        let blocks = &mut first[PAGE_BYTES..];
        blocks.fill(0);
        let count = blocks.len().min(bytes.len());
        blocks[..count].copy_from_slice(&bytes[..count]);
    }
}

fn edit(image: &mut Image, script: &mut Script<'_>) {
    for _ in 0..GROUPS_MAX {
        let index = usize::from(script.byte()) % image.len().max(1);
        let Some(segment) = image.values_mut().nth(index) else { return };
        let structures = structures(segment);
        Edits::next(script, 8).apply(segment, &structures);
    }
}

/// Where headers start in a segment: its own, those of pages that are not zero, and those of the first frames.
fn structures(segment: &[u8]) -> Vec<usize> {
    let mut structures = vec![0, PAGE_BYTES];
    for at in (PAGE_BYTES..segment.len()).step_by(PAGE_BYTES) {
        let Some(page) = segment.get(at..at + PAGE_BYTES).filter(|page| page[8] != 0) else { continue };
        structures.push(at);
        let mut frame_at = 128;
        while let Some(bytes) = page.get(frame_at..).and_then(|rest| Frame::peek_bytes(rest).ok()) {
            structures.push(at + frame_at);
            frame_at += bytes.next_multiple_of(8);
        }
    }
    structures
}

/// What was recovered is recovered again, can be read back, and grows.
fn go_on(medium: &Medium, mut journal: Journal<Medium>, first: Lsn, mut frames: Vec<Frame>) {
    read_back(&mut journal);
    let more =
        [valid::accept(valid::RING, 1, 99, 7, b"later"), valid::accept(RingId(2), 1, 99, 7, &[8; 5000])];
    medium::write(&mut journal, &more);
    let needed = journal.first_lsn();
    drop(journal);
    frames.extend(more);
    let (_, first_again, again) = medium.recover().expect("what was recovered and written can be recovered");
    assert!(first <= first_again && first_again <= needed, "what is not needed may be gone, and no more");
    let frames = &frames[(first_again.0 - first.0) as usize..];
    assert_eq!(again, frames, "what was recovered, and what was written behind it");
}

fn read_back(journal: &mut Journal<Medium>) {
    journal.retrieve(valid::RING, Slot(0), Slot(64), 1 << 20, 1).expect("nothing else is being read");
    for _ in 0..1000 {
        journal.submit();
        journal.poll().expect("the medium fails no read");
        if let Some(answer) = journal.retrieved() {
            let slots = answer.frames.iter().map(|frame| frame.header().slot.0);
            assert!(slots.eq(0..answer.frames.len() as u64), "slots come without a gap");
            return;
        }
    }
    panic!("reading back comes to an end");
}
