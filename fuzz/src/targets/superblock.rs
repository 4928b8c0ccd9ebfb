//! The superblock of a data directory.

use crate::edits::{Edits, Script};
use crate::superblock::Superblock;
use crate::{Target, seal};

/// A file: bytes as they are, or edits of a valid superblock, sealed again or not.
pub const SUPERBLOCK: Target =
    Target { name: "superblock", run, beginnings, bytes_per_byte: 8, bytes_fixed: 2 << 10 };

/// One of cluster 7, node 2.
fn valid() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[8..16].copy_from_slice(b"ANNULSUP");
    bytes[16] = 99;
    bytes[32] = 7;
    bytes[40] = 1;
    bytes[44] = 2;
    bytes[46] = 4;
    bytes[48] = 1;
    seal::header(&mut bytes);
    bytes
}

fn beginnings() -> Vec<Vec<u8>> {
    vec![vec![0], vec![0x40]]
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mode = script.byte();
    let mut bytes = valid();
    assert!(Superblock::decode(&bytes).is_ok(), "edits start from a valid one");
    if mode & 0x80 != 0 {
        bytes = script.rest().to_vec();
    } else {
        Edits::next(&mut script, 16).apply(&mut bytes, &[0, 32, 48]);
    }
    if mode & 0x40 != 0 {
        seal::header(&mut bytes);
    }
    if let Ok(decoded) = Superblock::decode(&bytes) {
        assert_eq!(bytes.len(), valid().len());
        assert_eq!(bytes[32..40], decoded.cluster.0.to_le_bytes());
        assert_eq!(bytes[16..32], decoded.disk_uuid.to_le_bytes());
        assert!(bytes[50..].iter().all(|byte| *byte == 0), "reserved bytes are checked");
    }
}
