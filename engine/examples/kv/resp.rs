//! Requests of RESP2, read from a connection's input as it arrives.
//!
//! ```text
//! *2\r\n $3\r\nGET\r\n $3\r\nkey\r\n      an array of bulk strings, as clients send it (no spaces)
//! GET "key"\r\n                           an inline command, as a person types it
//! ```
//! [`Parser`] remembers how far it understood a request, so that no byte is looked at twice, and gives
//! the arguments as places in the input, so that nothing is copied. Every length is bounded. A request
//! beyond the bounds is passed over while it arrives, and named as [`Parsed::TooLarge`]: its client
//! learns why, and keeps its connection. What breaks the protocol ends the connection, in Redis' words.

use std::fmt;

use crate::arguments::{Arguments, Span};
use crate::{inline, number};

/// The largest request, as it is on the wire.
pub(crate) const REQUEST_BYTES_MAX: usize = 2 << 20;
/// The most that must be kept of a request that is not whole: a request and the line that makes it too large.
pub(crate) const INPUT_BYTES_MAX: usize = REQUEST_BYTES_MAX + LINE_BYTES_MAX + LINE_END_BYTES;
/// The largest argument. Redis' own bound, `proto-max-bulk-len`, cannot be set lower than this.
pub(crate) const BULK_BYTES_MAX: usize = 1 << 20;
/// The longest line: an inline command, or a length.
const LINE_BYTES_MAX: usize = 64 << 10;
/// The most arguments that a request may announce.
const ARGUMENTS_MAX: i64 = 1 << 20;
/// An announced argument beyond this breaks the protocol; below it, it is passed over.
const PASSED_OVER_BYTES_MAX: usize = 512 << 20;

/// What the front of the input turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parsed {
    /// The beginning of a request: call again when there is more.
    Partial,
    /// A whole request; [`Parser::arguments`] gives its arguments. It may have none: ignore it then.
    Request,
    /// A whole request that was passed over, because its arguments had so many bytes.
    TooLarge(u64),
}

/// The client does not speak the protocol, and its connection must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProtocolError {
    /// An inline command without an end.
    BigInline,
    /// An inline command whose quotes do not close.
    UnbalancedQuotes,
    /// The line that counts a request's arguments has no end.
    BigCount,
    /// It is not a number, or too large a number.
    InvalidCount,
    /// The line that measures an argument has no end.
    BigLength,
    /// It is not a number, negative, or too large a number.
    InvalidLength,
    /// It does not start with `$`.
    ExpectedDollar(u8),
}

/// Reads one connection's requests.
#[derive(Default)]
pub(crate) struct Parser {
    /// How many bytes at the front of the input are understood.
    at: usize,
    /// Arguments that the request still owes.
    owed: u32,
    /// Bytes that the argument being read still owes, once its length is known.
    bulk_owed: Option<usize>,
    /// Bytes of arguments passed over, while the request is being passed over.
    passed_over: Option<u64>,
    spans: Vec<Span>,
    /// The words of an inline command, whose quotes are gone.
    words: Vec<u8>,
    is_inline: bool,
}

impl Parser {
    /// Looks at the front of `input`: at the bytes that earlier calls did not consume, and new ones
    /// behind them. Returns how many bytes are consumed with what they are; until a request is whole
    /// that is none, unless it is being passed over.
    ///
    /// # Errors
    /// The input is not RESP2; the parser is of no more use.
    pub(crate) fn parse(&mut self, input: &[u8]) -> Result<(usize, Parsed), ProtocolError> {
        let is_begun = self.owed > 0;
        if !is_begun {
            self.forget();
            match input.first() {
                None => return Ok((0, Parsed::Partial)),
                Some(b'*') => {}
                Some(_) => return self.inline(input),
            }
            let Some(count) = self.number(input, ProtocolError::BigCount, ProtocolError::InvalidCount)?
            else {
                return Ok((0, Parsed::Partial));
            };
            if count > ARGUMENTS_MAX {
                return Err(ProtocolError::InvalidCount);
            }
            // Less than nothing is nothing, and is not answered.
            self.owed = u32::try_from(count).unwrap_or(0);
        }
        self.arrays(input)
    }

    /// Forgets the request being read: its bytes were not consumed and will be seen again.
    pub(crate) fn rewind(&mut self) {
        debug_assert!(self.passed_over.is_none(), "what was consumed cannot be seen again");
        self.forget();
    }

    /// The arguments of the request that `input` starts with, after [`Parsed::Request`].
    pub(crate) fn arguments<'a>(&'a self, input: &'a [u8]) -> Arguments<'a> {
        Arguments::new(if self.is_inline { &self.words } else { input }, &self.spans)
    }

    fn forget(&mut self) {
        self.at = 0;
        self.owed = 0;
        self.bulk_owed = None;
        self.passed_over = None;
        self.spans.clear();
        self.words.clear();
        self.is_inline = false;
        if self.spans.capacity() > SPANS_KEPT_MAX {
            self.spans = Vec::new();
        }
    }

    fn inline(&mut self, input: &[u8]) -> Result<(usize, Parsed), ProtocolError> {
        let window = &input[..input.len().min(LINE_BYTES_MAX + 1)];
        let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
            let is_over = window.len() > LINE_BYTES_MAX;
            return if is_over { Err(ProtocolError::BigInline) } else { Ok((0, Parsed::Partial)) };
        };
        self.is_inline = true;
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        inline::split(line, &mut self.words, &mut self.spans).map_err(|_| ProtocolError::UnbalancedQuotes)?;
        Ok((end + 1, Parsed::Request))
    }

    /// Goes on reading the arguments of an array.
    fn arrays(&mut self, input: &[u8]) -> Result<(usize, Parsed), ProtocolError> {
        while self.owed > 0 {
            if !self.argument(input)? {
                return Ok((self.consume_passed_over(), Parsed::Partial));
            }
            self.owed -= 1;
        }
        let parsed = self.passed_over.map_or(Parsed::Request, Parsed::TooLarge);
        Ok((self.at, parsed))
    }

    /// Reads one argument; false when it has not arrived whole.
    fn argument(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let Some(owed) = self.length(input)? else { return Ok(false) };
        let available = input.len() - self.at;
        if self.passed_over.is_some() {
            let passed = owed.min(available);
            self.at += passed;
            self.bulk_owed = (passed < owed).then_some(owed - passed);
            return Ok(passed == owed);
        }
        if available < owed {
            return Ok(false);
        }
        let end = self.at + owed - LINE_END_BYTES;
        self.spans.push(Span { start: self.at as u32, end: end as u32 });
        self.at += owed;
        self.bulk_owed = None;
        Ok(true)
    }

    /// The bytes that the current argument still owes, its line end included; none when its length has
    /// not arrived. Decides to pass over a request that grows beyond the bounds.
    fn length(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        if self.bulk_owed.is_some() {
            return Ok(self.bulk_owed);
        }
        match input.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => {
                // As Redis does, look at the mark only when the line is whole.
                let line =
                    self.number(input, ProtocolError::BigLength, ProtocolError::ExpectedDollar(other))?;
                return line.map_or(Ok(None), |_| Err(ProtocolError::ExpectedDollar(other)));
            }
        }
        let Some(bytes) = self.number(input, ProtocolError::BigLength, ProtocolError::InvalidLength)? else {
            return Ok(None);
        };
        let bytes = usize::try_from(bytes).ok().filter(|&bytes| bytes <= PASSED_OVER_BYTES_MAX);
        self.measure(bytes.ok_or(ProtocolError::InvalidLength)?);
        Ok(self.bulk_owed)
    }

    fn measure(&mut self, bytes: usize) {
        self.bulk_owed = Some(bytes + LINE_END_BYTES);
        if let Some(passed_over) = &mut self.passed_over {
            *passed_over += bytes as u64;
        } else if bytes > BULK_BYTES_MAX || self.at + bytes + LINE_END_BYTES > REQUEST_BYTES_MAX {
            let before: u64 = self.spans.iter().map(|span| u64::from(span.end - span.start)).sum();
            self.passed_over = Some(before + bytes as u64);
        }
    }

    /// Lets go of what was understood of a request that is being passed over.
    fn consume_passed_over(&mut self) -> usize {
        if self.passed_over.is_some() { std::mem::take(&mut self.at) } else { 0 }
    }

    /// Reads the number on the line at `at`, behind its mark, and steps over the line; none when the
    /// line has not arrived whole.
    fn number(
        &mut self,
        input: &[u8],
        endless: ProtocolError,
        invalid: ProtocolError,
    ) -> Result<Option<i64>, ProtocolError> {
        let line = &input[self.at..];
        let window = &line[..line.len().min(LINE_BYTES_MAX + 1)];
        let Some(end) = window.iter().position(|&byte| byte == b'\r') else {
            return if window.len() > LINE_BYTES_MAX { Err(endless) } else { Ok(None) };
        };
        if line.len() < end + LINE_END_BYTES {
            return Ok(None);
        }
        let number = line.get(1..end).and_then(number::read).ok_or(invalid)?;
        self.at += end + LINE_END_BYTES;
        Ok(Some(number))
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            ProtocolError::BigInline => f.write_str("too big inline request"),
            ProtocolError::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            ProtocolError::BigCount => f.write_str("too big mbulk count string"),
            ProtocolError::InvalidCount => f.write_str("invalid multibulk length"),
            ProtocolError::BigLength => f.write_str("too big bulk count string"),
            ProtocolError::InvalidLength => f.write_str("invalid bulk length"),
            ProtocolError::ExpectedDollar(other) => write!(f, "expected '$', got '{}'", char::from(*other)),
        }
    }
}

/// `\r\n`.
const LINE_END_BYTES: usize = 2;
/// Places kept between requests; more than that is memory that one large request left behind.
const SPANS_KEPT_MAX: usize = 1024;

const _: () =
    assert!(REQUEST_BYTES_MAX > BULK_BYTES_MAX + LINE_BYTES_MAX, "a largest argument fits a request");
const _: () = assert!(REQUEST_BYTES_MAX <= u32::MAX as usize, "places in a request are 32 bits");

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(mut input: &[u8], chunk_bytes: usize) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut parser, mut arrived, mut requests) = (Parser::default(), Vec::new(), Vec::new());
        while !input.is_empty() {
            let (chunk, rest) = input.split_at(chunk_bytes.min(input.len()));
            input = rest;
            arrived.extend_from_slice(chunk);
            loop {
                let (consumed, parsed) = parser.parse(&arrived)?;
                match parsed {
                    Parsed::Partial => {}
                    Parsed::Request => {
                        requests.push(parser.arguments(&arrived).iter().map(<[u8]>::to_vec).collect());
                    }
                    Parsed::TooLarge(bytes) => requests.push(vec![format!("too large {bytes}").into_bytes()]),
                }
                arrived.drain(..consumed);
                if parsed == Parsed::Partial {
                    break;
                }
            }
        }
        Ok(requests)
    }

    fn words(request: &[Vec<u8>]) -> String {
        request.iter().map(|argument| argument.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pipeline_of_arrays_and_lines_parses_however_it_is_cut() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n*0\r\n\r\n*-1\r\nSET k \"v w\"\n*1\r\n$0\r\n\r\n*1\r\n$4\r\n\r\n\0x\r\n";
        let expected = ["GET a", "PING", "", "", "", "SET k v w", "", "\\r\\n\\x00x"];
        for chunk_bytes in 1..input.len() {
            let requests = parse_all(input, chunk_bytes).unwrap();
            assert_eq!(requests.iter().map(|request| words(request)).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_named_as_redis_names_it() {
        let endless = vec![b'1'; LINE_BYTES_MAX + 2];
        let behind = |prefix: &[u8]| [prefix, &endless[..]].concat();
        let cases: [(Vec<u8>, &str); 11] = [
            (b"*x\r\n".to_vec(), "invalid multibulk length"),
            (b"*\r\n".to_vec(), "invalid multibulk length"),
            (b"*1048577\r\n".to_vec(), "invalid multibulk length"),
            (b"*99999999999999999999\r\n".to_vec(), "invalid multibulk length"),
            (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$536870913\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\nGET\r\n".to_vec(), "expected '$', got 'G'"),
            (b"SET \"a\r\n".to_vec(), "unbalanced quotes in request"),
            (behind(b"*"), "too big mbulk count string"),
            (behind(b"*1\r\n$"), "too big bulk count string"),
            (behind(b""), "too big inline request"),
        ];
        for (input, expected) in cases {
            let error = parse_all(&input, 1000).unwrap_err();
            assert_eq!(error.to_string(), format!("Protocol error: {expected}"));
        }
    }

    #[test]
    fn a_request_beyond_the_bounds_is_passed_over_without_keeping_it() {
        let large = vec![b'v'; BULK_BYTES_MAX + 1];
        let mut input = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", large.len()).into_bytes();
        input.extend_from_slice(&large);
        input.extend_from_slice(b"\r\n*1\r\n$4\r\nPING\r\n");
        let mut parser = Parser::default();
        let (consumed, parsed) = parser.parse(&input[..1000]).unwrap();
        assert_eq!((consumed, parsed), (1000, Parsed::Partial), "nothing of it is kept");
        for chunk_bytes in [997, 100_000, input.len()] {
            let requests = parse_all(&input, chunk_bytes).unwrap();
            let words: Vec<_> = requests.iter().map(|request| words(request)).collect();
            assert_eq!(words, ["too large 1048581", "PING"]);
        }
    }

    #[test]
    fn a_request_that_was_not_consumed_is_seen_again() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
        let mut parser = Parser::default();
        for _ in 0..2 {
            assert_eq!(parser.parse(input).unwrap(), (input.len(), Parsed::Request));
            assert_eq!(parser.arguments(input).len(), 2);
            parser.rewind();
        }
    }
}
