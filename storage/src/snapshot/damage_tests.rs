//! Any damage to the bytes of a snapshot is found, and arbitrary records come back in whatever pieces.

use proptest::prelude::*;

use super::samples::{bytes, header, identity, records};
use super::*;

/// Decodes pieces to the end.
fn decode<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    expected: Expected,
) -> Result<(Vec<Vec<u8>>, SnapshotExtent), SnapshotError> {
    let mut decoder = SnapshotDecoder::new(expected, Some(header(3, 100).name()));
    let mut all = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let SnapshotPart::Header | SnapshotPart::Block = advance(&mut decoder, &mut all)? {}
    }
    Ok((all, decoder.finish()?))
}

fn advance(decoder: &mut SnapshotDecoder, all: &mut Vec<Vec<u8>>) -> Result<SnapshotPart, SnapshotError> {
    let part = decoder.advance()?;
    if part == SnapshotPart::Block {
        all.extend(decoder.records().map(<[u8]>::to_vec));
    }
    Ok(part)
}

/// A snapshot of one small block.
fn small() -> Vec<u8> {
    bytes(header(3, 100), &[b"one".to_vec(), Vec::new(), vec![7; 200]])
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_found() {
    let sound = small();
    assert!(decode([&sound[..]], Expected::Own(identity())).is_ok());
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let damaged = decode([&bytes[..]], Expected::Own(identity()));
        assert!(damaged.is_err(), "bit {bit} of {}", sound.len() * 8);
    }
}

#[test]
fn a_snapshot_that_is_cut_off_at_any_byte_is_not_whole() {
    let sound = bytes(header(3, 100), &records(80));
    let mut decoder = SnapshotDecoder::new(Expected::Own(identity()), None);
    for byte in sound.chunks(1) {
        assert!(matches!(decoder.finish(), Err(SnapshotError::CutOff { .. })));
        decoder.push(byte);
        while let SnapshotPart::Header | SnapshotPart::Block = decoder.advance().unwrap() {}
    }
    assert_eq!(decoder.finish().unwrap().bytes, sound.len() as u64);
    decoder.push(&[0]);
    assert!(decoder.advance().is_err(), "and nothing may follow it");
}

#[test]
fn blocks_that_are_left_out_doubled_or_exchanged_are_found() {
    let sound = bytes(header(3, 100), &records(100));
    let mut ends = vec![SNAPSHOT_HEADER_BYTES];
    let mut decoder = SnapshotDecoder::new(Expected::Anyone, None);
    decoder.push(&sound);
    while decoder.advance().unwrap() != SnapshotPart::End {
        ends.push(decoder.verified().bytes as usize);
    }
    ends.dedup();
    assert!(ends.len() > 3, "{ends:?}");
    let (first, second) = (&sound[ends[0]..ends[1]], &sound[ends[1]..ends[2]]);
    let (head, tail) = (&sound[..ends[0]], &sound[ends[2]..]);
    let expected = Expected::Own(identity());
    assert!(decode([head, first, second, tail], expected).is_ok());
    for pieces in [[head, second, tail, &[]], [head, first, first, tail], [head, second, first, tail]] {
        assert!(matches!(decode(pieces, expected), Err(SnapshotError::Damaged { .. })));
    }
    let other = bytes(header(3, 100), &records(99));
    let spliced = [&sound[..ends[1]], &other[ends[1]..]];
    assert!(decode(spliced, expected).is_ok(), "the first blocks are the same in both");
    let spliced = [&sound[..ends[0]], &bytes(header(3, 101), &records(100))[ends[0]..]];
    assert!(decode(spliced, expected).is_err(), "blocks of another slot");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back_whatever_the_pieces(
        sizes in prop::collection::vec(0usize..30_000, 0..20),
        piece_bytes in 1usize..100_000,
    ) {
        let records: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(index, size)| vec![index as u8; *size]).collect();
        let bytes = bytes(header(3, 100), &records);
        let (read, extent) = decode(bytes.chunks(piece_bytes), Expected::Own(identity())).unwrap();
        prop_assert_eq!(read, records);
        prop_assert_eq!((extent.records, extent.bytes), (sizes.len() as u64, bytes.len() as u64));
    }

    #[test]
    fn damage_anywhere_is_found(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        zeros in prop::option::of((any::<prop::sample::Index>(), 1usize..5000)),
    ) {
        let sound = bytes(header(3, 100), &records(90));
        let mut bytes = sound.clone();
        for (at, bits) in flips {
            bytes[at.index(sound.len())] ^= bits;
        }
        if let Some((at, count)) = zeros {
            let begin = at.index(sound.len());
            let end = (begin + count).min(sound.len());
            bytes[begin..end].fill(0);
        }
        prop_assume!(bytes != sound);
        prop_assert!(decode([&bytes[..]], Expected::Own(identity())).is_err());
    }
}
