//! A small journal with every damage that one cut or one bit can do: what recovery gives back is what was
//! written before it, or an error.

use std::collections::BTreeMap;

use annulus_rings::Frame;

use crate::block::{BLOCK_ALIGN_BYTES, SECTOR_BYTES, is_zero};
use crate::crash_disk::{CrashDisk, Image};
use crate::error::RecoverError;
use crate::identity::SegmentId;
use crate::journal_tests::{frame, recover_with, write_block};
use crate::options::JournalOptions;
use crate::segment::FIRST_BLOCK_OFFSET;

/// The bytes of a segment's header that mean something.
const HEADER_BYTES: usize = 96;

/// Segments of five pages, so that every byte can be tried.
fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 5 * BLOCK_ALIGN_BYTES as u64,
        write_bytes_max: 2 * BLOCK_ALIGN_BYTES,
        frame_bytes_max: 6 << 10,
        backlog_bytes_max: 8 << 10,
        ..JournalOptions::default()
    }
}

/// A journal, and what is known of it.
struct Written {
    image: Image,
    frames: Vec<Frame>,
    blocks: Vec<Block>,
}

/// Where a block lies, and how many frames the journal has up to its end.
struct Block {
    segment: SegmentId,
    start: usize,
    end: usize,
    frames: usize,
}

/// Blocks of one, two, two and one page: two in each of two segments. They hold sectors of zeros too.
fn written() -> Written {
    let disk = CrashDisk::default();
    let (mut journal, _) = recover_with(disk.clone(), options()).unwrap();
    let (mut frames, mut blocks) = (Vec::new(), Vec::new());
    let (mut segment, mut start) = (SegmentId::FIRST, FIRST_BLOCK_OFFSET as usize);
    for (slot, bytes) in [(0u64, 300usize), (1, 5000), (2, 4500), (3, 700)] {
        let mut payload: Vec<u8> = (0..bytes).map(|at| (at * 7 + slot as usize) as u8 | 1).collect();
        payload[200..].iter_mut().take(bytes / 3).for_each(|byte| *byte = 0);
        let group = [frame(2 * slot, b"small"), frame(2 * slot + 1, &payload)];
        write_block(&disk, &mut journal, &group);
        frames.extend(group);
        let pages = (128 + 136 + 128 + bytes.next_multiple_of(8)).div_ceil(BLOCK_ALIGN_BYTES);
        if start + pages * BLOCK_ALIGN_BYTES > options().segment_bytes as usize {
            (segment, start) = (segment.next(), FIRST_BLOCK_OFFSET as usize);
        }
        let end = start + pages * BLOCK_ALIGN_BYTES;
        blocks.push(Block { segment, start, end, frames: frames.len() });
        start = end;
    }
    let image = disk.image();
    for block in &blocks {
        assert_eq!(&image[&block.segment][block.start + 8..][..8], b"ANNULBLK", "a block starts here");
    }
    assert_eq!(blocks.last().unwrap().segment, SegmentId(2));
    Written { image, frames, blocks }
}

fn recover(image: Image) -> Result<Vec<Frame>, RecoverError> {
    recover_with(CrashDisk::of(image), options()).map(|(_, frames)| frames)
}

/// Whether a page or a header lies at `offset`: what was written there is needed.
fn is_needed(written: &Written, segment: SegmentId, offset: usize) -> bool {
    let in_block = |block: &Block| block.segment == segment && (block.start..block.end).contains(&offset);
    offset < HEADER_BYTES || written.blocks.iter().any(in_block)
}

/// From any byte on the medium has only zeros, as if nothing behind it had ever arrived.
#[test]
fn whatever_is_cut_off_the_blocks_before_it_are_recovered_or_the_cut_is_noticed() {
    let written = written();
    let (mut prefixes, mut noticed) = (BTreeMap::new(), 0);
    for (index, block) in written.blocks.iter().enumerate() {
        for cut in block.start..block.end {
            let mut image = written.image.clone();
            let is_whole = is_zero(&image[&block.segment][cut..block.end]);
            image.get_mut(&block.segment).unwrap()[cut..].fill(0);
            let behind = image.range_mut(block.segment.next()..);
            behind.for_each(|(_, bytes)| bytes[FIRST_BLOCK_OFFSET as usize..].fill(0));
            let kept = if is_whole { index + 1 } else { index };
            let frames = kept.checked_sub(1).map_or(0, |last| written.blocks[last].frames);
            match recover(image) {
                Ok(recovered) => {
                    assert_eq!(recovered, written.frames[..frames], "block {index}, cut at {cut}");
                    *prefixes.entry(kept).or_insert(0) += 1;
                }
                // A sector that arrived in part is no torn write.
                Err(RecoverError::Corrupt { .. }) => {
                    assert!(!cut.is_multiple_of(SECTOR_BYTES), "block {index}, cut at {cut}");
                    noticed += 1;
                }
                Err(error) => panic!("block {index}, cut at {cut}: {error}"),
            }
        }
    }
    assert_eq!(prefixes.len(), written.blocks.len() + 1, "every prefix was recovered");
    assert!(noticed > 0);
}

#[test]
fn a_file_of_any_other_length_is_refused() {
    let written = written();
    for segment in [SegmentId(1), SegmentId(2), SegmentId(3)] {
        let whole = written.image[&segment].len();
        for bytes in (0..whole).chain([whole + 1]) {
            let mut image = written.image.clone();
            image.get_mut(&segment).unwrap().resize(bytes, 0);
            let error = recover(image).err();
            assert!(
                matches!(error, Some(RecoverError::Truncated { found, .. }) if found == bytes as u64),
                "segment {}, {bytes} bytes: {error:?}",
                segment.0
            );
        }
    }
}

/// All bits of blocks and headers, and one of every byte that was never written.
#[test]
fn any_flipped_bit_is_noticed_or_lay_where_nothing_was_written() {
    let written = written();
    for (&segment, bytes) in &written.image {
        for offset in 0..bytes.len() {
            let is_needed = is_needed(&written, segment, offset);
            let bits = if is_needed { 0..8 } else { offset % 8..offset % 8 + 1 };
            for bit in bits {
                let mut image = written.image.clone();
                image.get_mut(&segment).unwrap()[offset] ^= 1 << bit;
                match recover(image) {
                    Ok(recovered) => {
                        assert!(!is_needed, "segment {}, byte {offset}, bit {bit}", segment.0);
                        assert!(recovered == written.frames, "segment {}, byte {offset}", segment.0);
                    }
                    Err(RecoverError::Corrupt { .. } | RecoverError::ForeignSegment { .. }) => {}
                    Err(error) => panic!("segment {}, byte {offset}: {error}", segment.0),
                }
            }
        }
    }
}
