//! Repairs checksums, so that what lies behind them is fuzzed too. The layouts are those of `frame.rs`,
//! `block.rs`, `segment.rs`, `superblock.rs` and those of snapshots; they are written down here a second time on purpose.

use annulus_rings::frame::{HEADER_BYTES, checksum};

const PAYLOAD_BYTES_AT: usize = 64;
const KIND_AT: usize = 74;
/// Kinds whose payload is other frames.
const CARRYING: [u8; 2] = [6, 14];

const BLOCK_MAGIC: &[u8; 8] = b"ANNULBLK";
const BLOCK_ALIGN_BYTES: usize = 4096;
const BLOCK_HEADER_BYTES: usize = 128;
const CHAIN_AT: usize = 72;
const DIGEST_AT: usize = 80;
const BYTES_AT: usize = 88;
const FRAMES_AT: usize = 92;
const FRAMES_BYTES_AT: usize = 96;

const SNAPSHOT_HEADER_BYTES: usize = 512;
const SNAPSHOT_BLOCK_MAGIC: &[u8; 8] = b"ANNULSNB";
/// The header of a block, and the trailer.
const PART_HEADER_BYTES: usize = 48;
/// Fields of the header that name the disk and the node: copies differ in them.
const NODE_FIELDS: [std::ops::Range<usize>; 2] = [16..32, 68..76];

/// What of a journal or a snapshot is repaired, one bit each.
#[derive(Clone, Copy)]
pub(crate) struct Seals(pub(crate) u8);

impl Seals {
    fn frames(self) -> bool {
        self.0 & 1 != 0
    }

    fn digest(self) -> bool {
        self.0 & 2 != 0
    }

    fn blocks(self) -> bool {
        self.0 & 4 != 0
    }

    fn chain(self) -> bool {
        self.0 & 8 != 0
    }

    fn segments(self) -> bool {
        self.0 & 16 != 0
    }
}

/// Stores the checksum of everything behind it.
pub(crate) fn header(bytes: &mut [u8]) {
    if let Some((sum, rest)) = bytes.split_first_chunk_mut() {
        *sum = checksum(rest).to_le_bytes();
    }
}

/// Repairs the frame that is all of `bytes`, and those that it carries.
pub(crate) fn frame(bytes: &mut [u8]) {
    let Some((head, payload)) = bytes.split_at_mut_checked(HEADER_BYTES) else { return };
    if CARRYING.contains(&head[KIND_AT]) {
        let mut rest = &mut payload[..];
        while let Some((inner, after)) = first_frame(rest) {
            frame(inner);
            rest = after;
        }
    }
    head[8..16].copy_from_slice(&checksum(payload).to_le_bytes());
    header(head);
}

/// The frame that `bytes` start with, by the size that its header states, and what follows it.
fn first_frame(bytes: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let payload_bytes = number(bytes.get(PAYLOAD_BYTES_AT..)?)?;
    bytes.split_at_mut_checked(HEADER_BYTES.checked_add(payload_bytes)?)
}

/// Repairs a segment as far as `seals` say. Returns the checksum of its last block, which the next chains to.
pub(crate) fn segment(bytes: &mut [u8], seals: Seals, mut chain: u64) -> u64 {
    if seals.segments()
        && let Some(head) = bytes.get_mut(..96)
    {
        header(head);
    }
    let mut at = BLOCK_ALIGN_BYTES;
    while let Some(block) = bytes.get_mut(at..).filter(|block| block.len() >= BLOCK_HEADER_BYTES) {
        let mut block_bytes = BLOCK_ALIGN_BYTES;
        if block[8..16] == *BLOCK_MAGIC {
            block_bytes = number(&block[BYTES_AT..])
                .unwrap_or(0)
                .clamp(BLOCK_ALIGN_BYTES, block.len().max(BLOCK_ALIGN_BYTES));
            chain = self::block(block, seals, chain);
        }
        at += block_bytes.next_multiple_of(BLOCK_ALIGN_BYTES);
    }
    chain
}

/// Repairs a block, its frames first.
fn block(bytes: &mut [u8], seals: Seals, chain: u64) -> u64 {
    let (head, body) = bytes.split_at_mut(BLOCK_HEADER_BYTES);
    let mut digest = 0u64;
    let frames_bytes = number(&head[FRAMES_BYTES_AT..]).unwrap_or(0).min(body.len());
    let mut rest = &mut body[..frames_bytes];
    for _ in 0..number(&head[FRAMES_AT..]).unwrap_or(0) {
        let Some((inner, after)) = first_frame(rest) else { break };
        if seals.frames() {
            frame(inner);
        }
        let sum = u64::from_le_bytes(*inner.first_chunk().expect("a frame has a header"));
        digest = (digest.rotate_left(29) ^ sum).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let padding = inner.len().next_multiple_of(8) - inner.len();
        rest = after.get_mut(padding..).unwrap_or_default();
    }
    if seals.digest() {
        head[DIGEST_AT..][..8].copy_from_slice(&digest.to_le_bytes());
    }
    if seals.chain() {
        head[CHAIN_AT..][..8].copy_from_slice(&chain.to_le_bytes());
    }
    if seals.blocks() {
        header(head);
    }
    u64::from_le_bytes(*head.first_chunk().expect("a block has a header"))
}

/// Repairs a snapshot as far as `seals` say: its header, its blocks and trailer, and what chains them.
pub(crate) fn snapshot(bytes: &mut [u8], seals: Seals) {
    let Some((head, mut rest)) = bytes.split_at_mut_checked(SNAPSHOT_HEADER_BYTES) else { return };
    if seals.frames() {
        header(head);
    }
    let mut nobody = head.to_vec();
    for field in NODE_FIELDS {
        nobody[field].fill(0);
    }
    header(&mut nobody);
    let mut chain = checksum(&nobody);
    while rest.len() >= PART_HEADER_BYTES {
        let is_block = rest[8..16] == *SNAPSHOT_BLOCK_MAGIC;
        let size = if is_block { number(&rest[40..]).unwrap_or(0) } else { PART_HEADER_BYTES };
        let size = size.clamp(PART_HEADER_BYTES, rest.len());
        let (part, after) = rest.split_at_mut(size);
        let (part, body) = part.split_at_mut(PART_HEADER_BYTES);
        if is_block && seals.digest() {
            part[24..32].copy_from_slice(&checksum(body).to_le_bytes());
        }
        if seals.blocks() {
            part[16..24].copy_from_slice(&chain.to_le_bytes());
        }
        if seals.digest() {
            header(part);
        }
        chain = u64::from_le_bytes(*part.first_chunk().expect("a part has a header"));
        rest = after;
    }
}

fn number(bytes: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.first_chunk()?) as usize)
}
