//! Batches: what is read is what a builder would have written.

use annulus_rings::FramePool;
use annulus_rings::batch::{BatchBuilder, COMMAND_HEADER_BYTES, Commands};

use crate::edits::{Edits, Script};
use crate::{Target, valid};

/// A payload and the count of commands that its frame states.
pub const BATCH: Target = Target { name: "batch", run, beginnings, bytes_per_byte: 8, bytes_fixed: 8 << 10 };

fn beginnings() -> Vec<Vec<u8>> {
    [0, 3, 255].map(|count| vec![count, 0]).to_vec()
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let count = script.byte();
    // The highest counts stand for those that no payload has room for.
    let count = if count > 250 { u32::MAX - u32::from(count) } else { u32::from(count) };
    let payload = if script.byte().is_multiple_of(2) {
        let mut payload = valid::batch(&[b"first", b"", b"third"]);
        Edits::next(&mut script, 16).apply(&mut payload, &[0, 8, 17, 21]);
        payload
    } else {
        script.rest().to_vec()
    };
    let Ok(commands) = Commands::parse(&payload, count) else { return };
    assert_eq!(commands.len(), count as usize);
    let bytes: usize = commands.clone().map(|command| COMMAND_HEADER_BYTES + command.len()).sum();
    assert_eq!(8 + bytes, payload.len(), "commands fill the payload");

    let mut pool = FramePool::new(256);
    let mut builder = BatchBuilder::new(payload.len().max(12), count);
    let time_ns = commands.time_ns();
    for command in commands {
        builder.push(&mut pool, command);
    }
    assert_eq!(builder.bytes(), payload.len());
    assert_eq!(builder.seal(&mut pool, time_ns).commands(), count);
}
