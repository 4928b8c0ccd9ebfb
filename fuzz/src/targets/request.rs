//! Requests of clients of the key-value example, from the stream of bytes to the command for the log.

use crate::Target;
use crate::arguments::Arguments;
use crate::command::Command;
use crate::edits::Script;
use crate::request::Request;
use crate::resp::{Parsed, Parser, ProtocolError};

/// How the stream is cut, and the stream.
pub const REQUEST: Target =
    Target { name: "request", run, beginnings: Vec::new, bytes_per_byte: 512, bytes_fixed: 4 << 10 };

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    /// The command for the log, or the reply that it is refused with.
    Answered(Vec<u8>),
    /// It has no arguments, or is for the session.
    Ignored,
    /// It was passed over, with so many bytes.
    TooLarge(u64),
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let cuts = script.take(4);
    let stream = script.rest();
    let whole = requests(stream, &[]);
    let cut = requests(stream, cuts);
    assert_eq!(whole, cut, "where the stream is cut makes no difference");
}

/// What a connection's requests come to, and how it ends, when it arrives in pieces of these sizes.
fn requests(mut stream: &[u8], cuts: &[u8]) -> (Vec<Outcome>, Option<ProtocolError>) {
    let (mut parser, mut arrived, mut outcomes) = (Parser::default(), Vec::new(), Vec::new());
    let mut cuts = cuts.iter().cycle();
    // Pieces grow with the stream, so that a long one is not looked at byte by byte.
    let piece_bytes_min = 1 + stream.len() / 64;
    while !stream.is_empty() {
        let piece_bytes = cuts.next().map_or(stream.len(), |cut| piece_bytes_min + usize::from(*cut) % 16);
        let (piece, rest) = stream.split_at(piece_bytes.min(stream.len()));
        stream = rest;
        arrived.extend_from_slice(piece);
        loop {
            let (consumed, parsed) = match parser.parse(&arrived) {
                Ok(parsed) => parsed,
                Err(error) => return (outcomes, Some(error)),
            };
            assert!(consumed <= arrived.len(), "no more is consumed than has arrived");
            match parsed {
                Parsed::Partial => {}
                Parsed::Request => outcomes.push(answer(parser.arguments(&arrived))),
                Parsed::TooLarge(bytes) => outcomes.push(Outcome::TooLarge(bytes)),
            }
            arrived.drain(..consumed);
            if parsed == Parsed::Partial {
                break;
            }
        }
    }
    (outcomes, None)
}

fn answer(arguments: Arguments<'_>) -> Outcome {
    if arguments.is_empty() {
        return Outcome::Ignored;
    }
    let mut out = Vec::new();
    match Request::parse(arguments) {
        Ok(Request::Data(command)) => {
            command.encode(&mut out);
            assert_eq!(Command::decode(&out).as_ref(), Ok(&command), "the log gives the command back");
        }
        Ok(Request::Session(_)) => return Outcome::Ignored,
        Err(refusal) => refusal.write(&mut out),
    }
    Outcome::Answered(out)
}
