//! Damaged bytes on the wire, and what the shipped receiver makes of them.

use annulus_rings::{Frame, FrameError};
use annulus_transport::FrameSplitter;
use bytes::BytesMut;

use crate::chaos::Random;
use crate::world::Violation;

/// Bits of a frame that flip at the most.
const FLIPS_MAX: u64 = 8;
/// The receiver's buffer. Small, so that frames straddle its end.
const CHUNK_BYTES: usize = 4096;

/// What became of a frame's bytes between two nodes.
#[derive(Clone)]
pub(super) struct Damaged {
    /// What the summary calls it.
    class: &'static str,
    /// What was sent.
    frame: Frame,
    bytes: Vec<u8>,
    /// Whether the receiver reads into its own buffer, or is given another's.
    in_place: bool,
}

impl Damaged {
    /// Some bits of a frame flip.
    pub(super) fn flipped(frame: &Frame, random: &mut Random) -> Damaged {
        let mut bytes = frame.as_bytes().to_vec();
        let mut bits: Vec<u64> =
            (0..=random.below(FLIPS_MAX)).map(|_| random.below(8 * bytes.len() as u64)).collect();
        bits.sort_unstable();
        bits.dedup();
        for bit in bits {
            bytes[bit as usize / 8] ^= 1 << (bit % 8);
        }
        Damaged { class: "frames corrupted", frame: frame.clone(), bytes, in_place: random.permille(500) }
    }

    /// Some bytes in the middle or at the end of a frame are missing, and what follows comes right behind.
    pub(super) fn cut(frame: &Frame, random: &mut Random) -> Damaged {
        let mut bytes = frame.as_bytes().to_vec();
        let start = 1 + random.below(bytes.len() as u64 - 1) as usize;
        let end = start + 1 + random.below((bytes.len() - start) as u64) as usize;
        bytes.drain(start..end.min(frame.len()));
        Damaged { class: "frames truncated", frame: frame.clone(), bytes, in_place: random.permille(500) }
    }

    /// What the summary calls it.
    pub(super) fn class(&self) -> &'static str {
        self.class
    }

    /// The shipped receiver is given these bytes and the frames behind them. It must notice, or wait for
    /// bytes that never come; it must never take any of it for a frame.
    pub(super) fn arrive<'a>(&self, behind: impl Iterator<Item = &'a Frame>) -> Result<(), Violation> {
        let mut stream = self.bytes.clone();
        behind.for_each(|frame| stream.extend_from_slice(frame.as_bytes()));
        let mut frames = if self.in_place { split_in_place(&stream) } else { split(&stream) };
        // What is missing at the end of a frame may be what the next one begins with: then it is whole.
        frames.retain(|frame| *frame != self.frame);
        if frames.is_empty() {
            return Ok(());
        }
        let what = format!("the damaged bytes of {:?} were taken for {:?}", self.frame, frames[0]);
        Err(Violation { rule: "frame", what })
    }
}

/// As a socket is read.
fn split_in_place(mut stream: &[u8]) -> Vec<Frame> {
    let mut splitter = FrameSplitter::new(CHUNK_BYTES);
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let room = splitter.room();
        let (part, rest) = stream.split_at(room.len().min(stream.len()));
        room[..part.len()].copy_from_slice(part);
        splitter.arrived(part.len());
        stream = rest;
        loop {
            match splitter.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

/// As buffers of the kernel's choice are taken.
fn split(stream: &[u8]) -> Vec<Frame> {
    let mut splitter = FrameSplitter::new(CHUNK_BYTES);
    let mut frames = Vec::new();
    for part in stream.chunks(CHUNK_BYTES) {
        let taken: Result<(), FrameError> = splitter.absorb(BytesMut::from(part), |frame| frames.push(frame));
        if taken.is_err() {
            break;
        }
    }
    frames
}
