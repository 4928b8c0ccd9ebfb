//! The command that the benchmark replicates: its bytes follow from its session and sequence number.
//!
//! ```text
//!  0  session   u32   who sent it
//!  4  check     u32   fingerprint of the rest, so that a damaged command is noticed where it is applied
//!  8  sequence  u64   1, 2, 3 … within the session
//! 16  filler          words that follow from the two above
//! ```
//! All numbers are little-endian. Nobody has to remember what was sent: verification makes every
//! acknowledged command again and compares fingerprints.

/// The smallest payload: what names the command.
pub(crate) const COMMAND_BYTES_MIN: usize = 16;
/// The largest payload that the benchmark offers; two of them fit the largest frame.
pub(crate) const COMMAND_BYTES_MAX: usize = 256 * 1024;

/// Odd constants with well-spread bits (the golden ratio's, and those of xxHash).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const FOLD_LEFT: u64 = 0xc2b2_ae3d_27d4_eb4f;
const FOLD_RIGHT: u64 = 0x1656_67b1_9e37_79f9;

/// What a command says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CommandName {
    /// Who sent it.
    pub(crate) session: u32,
    /// Its number within the session, from 1.
    pub(crate) sequence: u64,
    /// Fingerprint of all its bytes.
    pub(crate) fingerprint: u64,
}

/// Appends command `sequence` of `session`, `bytes` long, to `output`.
pub(crate) fn write(output: &mut Vec<u8>, session: u32, sequence: u64, bytes: usize) {
    debug_assert!(bytes >= COMMAND_BYTES_MIN, "the configuration was checked");
    let start = output.len();
    output.resize(start + bytes, 0);
    let command = &mut output[start..];
    command[0..4].copy_from_slice(&session.to_le_bytes());
    command[8..16].copy_from_slice(&sequence.to_le_bytes());
    let mut word = filler_seed(session, sequence);
    let mut chunks = command[COMMAND_BYTES_MIN..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        word = word.wrapping_add(SPREAD);
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    let tail = chunks.into_remainder();
    tail.copy_from_slice(&word.to_be_bytes()[..tail.len()]);
    let check = fingerprint(command) as u32;
    command[4..8].copy_from_slice(&check.to_le_bytes());
}

/// Reads a command's name; `None` when it is too short or its bytes do not match its check.
#[inline]
pub(crate) fn read(command: &[u8]) -> Option<CommandName> {
    let (session, rest) = command.split_first_chunk()?;
    let (check, rest) = rest.split_first_chunk()?;
    let (sequence, _) = rest.split_first_chunk()?;
    let fingerprint = fingerprint(command);
    let intact = fingerprint as u32 == u32::from_le_bytes(*check);
    intact.then_some(CommandName {
        session: u32::from_le_bytes(*session),
        sequence: u64::from_le_bytes(*sequence),
        fingerprint,
    })
}

fn filler_seed(session: u32, sequence: u64) -> u64 {
    mix(u64::from(session) ^ SPREAD, sequence ^ FOLD_LEFT)
}

/// A fingerprint of every byte but the check, about a nanosecond per 16 bytes.
#[inline]
fn fingerprint(command: &[u8]) -> u64 {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let mut folded = command.len() as u64;
    let mut place = SPREAD;
    let mut pairs = command.chunks_exact(16);
    let mut without_check = 0xffff_ffff;
    for pair in &mut pairs {
        // The place goes into the fold, so that two pairs cannot trade places unnoticed.
        folded ^= mix((word(&pair[..8]) & without_check) ^ FOLD_LEFT, word(&pair[8..]) ^ place);
        without_check = u64::MAX;
        place = place.wrapping_add(SPREAD);
    }
    let mut tail = [0u8; 16];
    let rest = pairs.remainder();
    if !rest.is_empty() {
        tail[..rest.len()].copy_from_slice(rest);
        folded ^= mix(word(&tail[..8]) ^ FOLD_RIGHT, word(&tail[8..]) ^ place);
    }
    mix(folded ^ FOLD_RIGHT, SPREAD)
}

/// Folds the 128-bit product of two words.
#[inline]
fn mix(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(session: u32, sequence: u64, bytes: usize) -> Vec<u8> {
        let mut output = Vec::new();
        write(&mut output, session, sequence, bytes);
        output
    }

    #[test]
    fn a_command_names_itself_at_every_size() {
        for bytes in [16, 17, 23, 24, 31, 32, 33, 64, 100, 1024, 4099] {
            let command = command(7, 99, bytes);
            assert_eq!(command.len(), bytes);
            let name = read(&command).expect("an intact command");
            assert_eq!((name.session, name.sequence), (7, 99));
        }
    }

    #[test]
    fn a_command_is_the_same_whenever_it_is_made() {
        assert_eq!(command(3, 5, 64), command(3, 5, 64));
        assert_ne!(
            read(&command(3, 5, 64)).unwrap().fingerprint,
            read(&command(3, 6, 64)).unwrap().fingerprint
        );
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let whole = command(1, 2, 75);
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 0x10;
            assert_eq!(read(&damaged), None, "byte {index}");
        }
    }

    #[test]
    fn a_truncated_command_is_noticed() {
        let whole = command(1, 2, 64);
        for bytes in 0..whole.len() {
            assert_eq!(read(&whole[..bytes]), None, "{bytes} bytes");
        }
    }
}
