//! Frames: what is parsed is what is sealed, and what it carries is whole.

use annulus_rings::batch::Commands;
use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::message::carried;
use annulus_rings::{Frame, Kind, Message};
use bytes::Bytes;

use crate::edits::{Edits, Script};
use crate::{Target, seal, valid};

/// One frame: bytes as they are, or edits of a valid frame, sealed again or not.
pub const FRAME: Target = Target { name: "frame", run, beginnings, bytes_per_byte: 16, bytes_fixed: 8 << 10 };

/// Every kind, sealed again, and one that is not.
fn beginnings() -> Vec<Vec<u8>> {
    (0..15).map(|kind| vec![kind | 0x40]).chain([vec![0]]).collect()
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mode = script.byte();
    let mut bytes = if mode & 0x80 != 0 {
        script.rest().to_vec()
    } else {
        let kind = Kind::ALL[usize::from(mode & 0x3f) % Kind::ALL.len()];
        let mut bytes = valid::of_kind(kind, 1, 3).as_bytes().to_vec();
        Edits::next(&mut script, 16).apply(&mut bytes, &[0, 64, HEADER_BYTES, 2 * HEADER_BYTES]);
        bytes
    };
    if mode & 0x40 != 0 {
        seal::frame(&mut bytes);
    }
    check(&Bytes::from(bytes));
}

fn check(bytes: &Bytes) {
    let Ok(frame) = Frame::parse(bytes.clone()) else { return };
    assert_eq!(Frame::peek_bytes(bytes), Ok(bytes.len()));
    let header = frame.header();
    assert_eq!(valid::seal(&header, frame.payload()), frame, "a frame is its header and its payload");
    if let Ok(message) = Message::decode(&header) {
        assert_eq!(message.kind(), header.kind);
    }
    let mut carried_bytes = 0;
    if matches!(header.kind, Kind::Promise | Kind::Learn)
        && carried(&frame, |inner| carried_bytes += inner.len()).is_ok()
    {
        assert_eq!(carried_bytes, frame.payload().len(), "what is carried fills the payload");
    }
    if let Ok(commands) = Commands::parse(frame.payload(), header.commands) {
        assert_eq!(commands.count(), header.commands as usize);
    }
}
