//! Transcripts of conversations with a server, to be held again with another.
//!
//! Those in `transcripts/` were recorded from a Redis server 7.0, and what the example answers must be the
//! same, word for word:
//! ```text
//! # a comment
//! > SET key value                       a line as a person would type it
//! >> *1\r\n$4\r\nPING\r\n               bytes
//! < +OK                                 one line of the reply; bytes that do not print are escaped
//! < (closed)                            the server ends the connection; the next request is on a new one
//! @ 1000                                this many milliseconds after the start
//! ```

use std::fmt::Write as _;
use std::path::Path;

/// Who answers.
pub trait Partner {
    /// The reply to whole requests, and whether the server closed the connection behind it.
    fn send(&mut self, bytes: &[u8]) -> (Vec<u8>, bool);

    /// Lets time pass, to `ms` milliseconds after the start.
    fn wait_until(&mut self, ms: u64);
}

/// Holds every conversation again, each with a new partner, and compares.
pub fn assert_all<P: Partner>(mut partner: impl FnMut() -> P) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kv/transcripts");
    let mut transcripts = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = hold(&expected, &mut partner());
        for (number, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
            assert_eq!(actual, expected, "{}:{}", path.display(), number + 1);
        }
        assert_eq!(actual.lines().count(), expected.lines().count(), "{}", path.display());
        transcripts += 1;
    }
    assert!(transcripts >= 7, "{transcripts} transcripts");
}

/// Sends a transcript's requests and returns it with the replies that they get.
fn hold(transcript: &str, partner: &mut impl Partner) -> String {
    let mut held = String::new();
    for line in transcript.lines().filter(|line| !line.starts_with('<')) {
        writeln!(held, "{line}").unwrap();
        if let Some(ms) = line.strip_prefix("@ ") {
            partner.wait_until(ms.parse().unwrap());
        } else if let Some(bytes) = request(line) {
            let (reply, is_closed) = partner.send(&bytes);
            render(&reply, &mut held);
            if is_closed {
                held.push_str("< (closed)\n");
            }
        }
    }
    held
}

/// The bytes that a line of a transcript stands for.
fn request(line: &str) -> Option<Vec<u8>> {
    if let Some(escaped) = line.strip_prefix(">> ") {
        return Some(unescape(escaped.as_bytes()));
    }
    line.strip_prefix("> ").map(|typed| [typed.as_bytes(), b"\r\n"].concat())
}

fn unescape(mut rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = String::from_utf8(vec![*high, *low]).unwrap();
                (u8::from_str_radix(&digits, 16).unwrap(), after)
            }
            (b'\\', [other, after @ ..]) => (*other, after),
            _ => (byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// Writes each line of a reply as a line of a transcript.
fn render(mut reply: &[u8], transcript: &mut String) {
    while let Some(end) = reply.windows(2).position(|pair| pair == b"\r\n") {
        let line = reply[..end].escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"");
        let line = line.strip_suffix(' ').map_or(line.clone(), |start| format!("{start}\\x20"));
        writeln!(transcript, "{}", format!("< {line}").trim_end()).unwrap();
        reply = &reply[end + 2..];
    }
    assert!(reply.is_empty(), "a reply ends with its line: {}", reply.escape_ascii());
}
