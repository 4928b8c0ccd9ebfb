//! Replies in RESP2, written behind what a buffer already holds.
//!
//! ```text
//! +OK\r\n   -ERR why\r\n   :42\r\n   $5\r\nhello\r\n   $-1\r\n (nothing)   *2\r\n…
//! ```

use crate::number;

/// A line that says how it went, such as `OK`.
pub(crate) fn status(out: &mut Vec<u8>, line: &str) {
    out.push(b'+');
    out.extend_from_slice(line.as_bytes());
    end_line(out);
}

/// An error: a code in capitals, a space, and words. Line breaks in it become spaces, as in Redis.
pub(crate) fn error(out: &mut Vec<u8>, message: &[u8]) {
    out.push(b'-');
    out.extend(message.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    end_line(out);
}

/// A whole number.
pub(crate) fn integer(out: &mut Vec<u8>, number: i64) {
    out.push(b':');
    number::write(out, number);
    end_line(out);
}

/// How many.
pub(crate) fn count(out: &mut Vec<u8>, count: usize) {
    integer(out, i64::try_from(count).expect("memory holds fewer"));
}

/// A string of any bytes.
pub(crate) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    end_line(out);
}

/// No value.
pub(crate) fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"$-1\r\n");
}

/// A value, or none.
pub(crate) fn bulk_or_null(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => bulk(out, bytes),
        None => null(out),
    }
}

/// The start of an array; its elements follow.
pub(crate) fn array(out: &mut Vec<u8>, elements: usize) {
    length(out, b'*', elements);
}

fn length(out: &mut Vec<u8>, mark: u8, length: usize) {
    out.push(mark);
    number::write(out, i64::try_from(length).expect("memory holds fewer"));
    end_line(out);
}

fn end_line(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_on_one_line() {
        let mut out = Vec::new();
        error(&mut out, b"ERR unknown command 'a\r\nb'");
        assert_eq!(out, b"-ERR unknown command 'a  b'\r\n");
    }

    #[test]
    fn a_bulk_is_binary_safe() {
        let mut out = Vec::new();
        bulk(&mut out, b"\r\n\0");
        assert_eq!(out, b"$3\r\n\r\n\0\r\n");
    }
}
