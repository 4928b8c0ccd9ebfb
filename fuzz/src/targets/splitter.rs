//! The cutting of a stream into frames: wherever the stream itself is cut, the same frames come out.

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{Frame, FrameError};
use bytes::{Bytes, BytesMut};

use crate::edits::{Edits, Script};
use crate::splitter::FrameSplitter;
use crate::{Target, seal, valid};

/// How the stream arrives, and the pieces that make it: valid frames, edited ones, and noise. A header may
/// announce a largest frame, for which there is room then.
pub const SPLITTER: Target =
    Target { name: "splitter", run, beginnings, bytes_per_byte: 512, bytes_fixed: 5 << 20 };

const PIECES_MAX: usize = 12;

/// The frames of a stream, and whether it was refused behind them.
type Result = (Vec<Frame>, Option<FrameError>);

/// A whole frame and an edited one, sealed or not, in two ways of cutting.
fn beginnings() -> Vec<Vec<u8>> {
    let ways = [[1, 200, 0, 0, 1, 0, 0, 1, 0], [0, 10, 0, 100, 0, 7, 0, 200, 5]];
    let pieces =
        ways.iter().flat_map(|way| [1, 3].map(|what| [&way[..], &[16, 100, 0, what, 50, 0]].concat()));
    pieces.collect()
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let chunk_bytes = [512, 4096, 300, 64 << 10][usize::from(script.byte()) % 4];
    let cuts: Vec<usize> = (0..4).map(|_| 1 + script.number() % 1500).collect();
    let stream = stream(&mut script);
    let expected = parse(&stream);
    assert_eq!(in_place(&stream, &cuts, chunk_bytes), expected, "read into the splitter's own room");
    assert_eq!(absorbed(&stream, &cuts, chunk_bytes), expected, "read into other buffers");
}

fn stream(script: &mut Script<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    for slot in 0..PIECES_MAX {
        if script.is_over() {
            break;
        }
        let what = script.byte();
        let filling = vec![what; 3 * script.number() % 5000];
        let mut bytes = valid::accept(valid::RING, 1, 1, slot as u64, &filling).as_bytes().to_vec();
        if what & 0b01 != 0 {
            Edits::next(script, 4).apply(&mut bytes, &[0, 64, HEADER_BYTES]);
        }
        if what & 0b10 != 0 {
            seal::frame(&mut bytes);
        }
        if what & 0b1100 == 0b1100 {
            bytes = script.take(usize::from(what)).to_vec();
        }
        stream.extend_from_slice(&bytes);
    }
    stream
}

/// The model: everything is there at once.
fn parse(stream: &[u8]) -> Result {
    let mut rest = Bytes::copy_from_slice(stream);
    let mut frames = Vec::new();
    while rest.len() >= HEADER_BYTES {
        let bytes = match Frame::peek_bytes(&rest) {
            Ok(bytes) if bytes <= rest.len() => bytes,
            Ok(_) => break,
            Err(error) => return (frames, Some(error)),
        };
        match Frame::parse(rest.split_to(bytes)) {
            Ok(frame) => frames.push(frame),
            Err(error) => return (frames, Some(error)),
        }
    }
    (frames, None)
}

fn in_place(mut stream: &[u8], cuts: &[usize], chunk_bytes: usize) -> Result {
    let mut splitter = FrameSplitter::new(chunk_bytes);
    let mut frames = Vec::new();
    for cut in cuts.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let room = splitter.room();
        assert!(!room.is_empty(), "there is always room");
        let bytes = room.len().min(*cut).min(stream.len());
        room[..bytes].copy_from_slice(&stream[..bytes]);
        splitter.arrived(bytes);
        stream = &stream[bytes..];
        loop {
            match splitter.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn absorbed(mut stream: &[u8], cuts: &[usize], chunk_bytes: usize) -> Result {
    let mut splitter = FrameSplitter::new(chunk_bytes);
    let mut frames = Vec::new();
    for cut in cuts.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (part, rest) = stream.split_at((*cut).min(stream.len()));
        stream = rest;
        if let Err(error) = splitter.absorb(BytesMut::from(part), |frame| frames.push(frame)) {
            return (frames, Some(error));
        }
    }
    (frames, None)
}
