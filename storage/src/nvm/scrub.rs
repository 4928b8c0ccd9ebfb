//! Finding what a region cannot give back, before it is needed: by reading, where the answer is an error and not
//! the end of the process.

use std::io;
use std::ops::Range;

use super::medium::Medium;

/// Read at once.
const READ_BYTES: u64 = 1 << 20;
/// What fails and is replaced as a whole.
const PAGE_BYTES: u64 = 4096;

/// Reads all of `ranges`, which hold nothing that is needed. Pages that cannot be read are replaced; the answer
/// is those that cannot be.
///
/// # Errors
/// The memory answers with something else than a media error.
pub(crate) fn scrub<M: Medium>(medium: &mut M, ranges: &[Range<u64>]) -> io::Result<Vec<Range<u64>>> {
    let mut bad = Vec::new();
    let mut buffer = vec![0; READ_BYTES as usize];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let end = (at + READ_BYTES).min(range.end);
            match medium.read(at, &mut buffer[..(end - at) as usize]) {
                Ok(()) => {}
                Err(error) if is_media_error(&error) => bad.extend(replace(medium, at..end)?),
                Err(error) => return Err(error),
            }
            at = end;
        }
    }
    Ok(bad)
}

/// Looks for bad pages in `range` and has them replaced.
fn replace<M: Medium>(medium: &mut M, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut bad = Vec::new();
    let mut page = [0; PAGE_BYTES as usize];
    for at in range.step_by(PAGE_BYTES as usize) {
        match medium.read(at, &mut page) {
            Ok(()) => continue,
            Err(error) if is_media_error(&error) => {}
            Err(error) => return Err(error),
        }
        let replaced = medium.replace(at, PAGE_BYTES).and_then(|()| medium.read(at, &mut page));
        match replaced {
            Ok(()) => tracing::warn!(at, "a bad page of the region held nothing and was replaced"),
            Err(error) => {
                tracing::error!(at, %error, "a bad page of the region cannot be replaced: it stays unused");
                bad.push(at..at + PAGE_BYTES);
            }
        }
    }
    Ok(bad)
}

fn is_media_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}
