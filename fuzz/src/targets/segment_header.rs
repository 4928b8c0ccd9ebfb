//! The header of a segment file.

use annulus_storage::{SegmentHeader, SegmentId};

use crate::edits::{Edits, Script};
use crate::medium::IDENTITY;
use crate::{Target, seal};

/// The front of a file: bytes as they are, or edits of a valid header, sealed again or not.
pub const SEGMENT_HEADER: Target =
    Target { name: "segment_header", run, beginnings, bytes_per_byte: 8, bytes_fixed: 2 << 10 };

fn beginnings() -> Vec<Vec<u8>> {
    vec![vec![0], vec![0x40]]
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mode = script.byte();
    let header = SegmentHeader { identity: IDENTITY, segment: SegmentId(3), bytes: 64 << 20 };
    let mut bytes = header.encode().to_vec();
    if mode & 0x80 != 0 {
        bytes = script.rest().to_vec();
    } else {
        Edits::next(&mut script, 16).apply(&mut bytes, &[0, 32, 64]);
    }
    if mode & 0x40 != 0
        && let Some(front) = bytes.get_mut(..header.encode().len())
    {
        seal::header(front);
    }
    if let Ok(decoded) = SegmentHeader::decode(&bytes) {
        assert!(bytes.starts_with(&decoded.encode()), "what is read is what is written");
    }
}
