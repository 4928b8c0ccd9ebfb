//! The key-value example without engine and network: requests as bytes go in, replies as bytes come out.
//!
//! Every data command takes the way that it takes in a cluster: request, encoding, decoding, store.

#![allow(dead_code, reason = "the server, which is not part of this, uses the rest of the modules")]

#[path = "../../engine/examples/kv/arguments.rs"]
mod arguments;
#[path = "../../engine/examples/kv/catalogue.rs"]
mod catalogue;
#[path = "../../engine/examples/kv/command.rs"]
mod command;
#[path = "../../engine/examples/kv/encoding.rs"]
mod encoding;
#[path = "../../engine/examples/kv/glob.rs"]
mod glob;
#[path = "../../engine/examples/kv/hash_slot.rs"]
mod hash_slot;
#[path = "../../engine/examples/kv/inline.rs"]
mod inline;
#[path = "../../engine/examples/kv/nodes.rs"]
mod nodes;
#[path = "../../engine/examples/kv/number.rs"]
mod number;
#[path = "../../engine/examples/kv/pipeline.rs"]
mod pipeline;
#[path = "../../engine/examples/kv/reply.rs"]
mod reply;
#[path = "../../engine/examples/kv/request.rs"]
mod request;
#[path = "../../engine/examples/kv/resp.rs"]
mod resp;
#[path = "../../engine/examples/kv/session.rs"]
mod session;
#[path = "../../engine/examples/kv/store/mod.rs"]
mod store;
#[path = "kv/transcript.rs"]
mod transcript;

use std::collections::BTreeMap;

use annulus::NodeId;
use command::{Command, Condition, Expiry, Items, Set};
use nodes::Nodes;
use proptest::prelude::*;
use request::{Refusal, Request};
use resp::{Parsed, Parser};
use session::{Client, Scene};
use store::Store;
use transcript::Partner;

/// One client and one store, without a log between them.
struct Desk {
    nodes: Nodes,
    parser: Parser,
    client: Client,
    store: Store,
    /// Input that is not consumed yet.
    input: Vec<u8>,
}

impl Desk {
    fn new() -> Desk {
        let mut store = Store::default();
        store.begin_slot(START_NS);
        let (nodes, client) = (Nodes::new(NodeId(1), []), Client::default());
        Desk { nodes, parser: Parser::default(), client, store, input: Vec::new() }
    }

    /// What the client reads after it sent `bytes`, and whether its connection is closed then.
    fn send(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.input.extend_from_slice(bytes);
        let mut out = Vec::new();
        loop {
            let (consumed, parsed) = match self.parser.parse(&self.input) {
                Ok(progress) => progress,
                Err(error) => {
                    reply::error(&mut out, format!("ERR {error}").as_bytes());
                    (self.parser, self.client) = (Parser::default(), Client::default());
                    self.input.clear();
                    return (out, true);
                }
            };
            if parsed == Parsed::Request {
                self.answer(&mut out);
            }
            self.input.drain(..consumed);
            if parsed == Parsed::Partial {
                return (out, false);
            }
        }
    }

    fn answer(&mut self, out: &mut Vec<u8>) {
        let arguments = self.parser.arguments(&self.input);
        if arguments.is_empty() {
            return;
        }
        let scene = Scene { nodes: &self.nodes, leader: Some(NodeId(1)), is_durable: true, connection: 1 };
        let answered = match Request::parse(arguments) {
            Err(refusal) => Err(refusal),
            Ok(Request::Session(session)) => self.client.carry_out(&session, &scene, out),
            Ok(Request::Data(command)) => {
                let mut encoded = Vec::new();
                command.encode(&mut encoded);
                self.store.execute(&Command::decode(&encoded).unwrap(), out);
                Ok(())
            }
        };
        if let Err(refusal) = answered {
            Refusal::write(&refusal, out);
        }
    }
}

impl Partner for Desk {
    fn send(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        Desk::send(self, bytes)
    }

    fn wait_until(&mut self, ms: u64) {
        self.store.begin_slot(START_NS + ms * 1_000_000);
    }
}

#[test]
fn replies_are_word_for_word_what_redis_replies() {
    transcript::assert_all(Desk::new);
}

/// Long after 1970, so that lifetimes that end in 1970 have passed.
const START_NS: u64 = 1_700_000_000_000_000_000;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300)
}

/// A command as data that owns itself.
fn encoded_command() -> impl Strategy<Value = Vec<u8>> {
    let condition =
        prop_oneof![Just(Condition::Always), Just(Condition::IfAbsent), Just(Condition::IfPresent)];
    let expiry = prop_oneof![
        Just(Expiry::Never),
        Just(Expiry::Kept),
        (1i64..50).prop_map(Expiry::After),
        any::<i64>().prop_map(Expiry::At)
    ];
    let set = (key(), bytes(), condition, expiry, any::<bool>()).prop_map(
        |(key, value, condition, expiry, returns_old)| {
            encode(&Command::Set(Set { key: &key, value: &value, condition, expiry, returns_old }))
        },
    );
    let one_key = (0u8..4, key()).prop_map(|(kind, key)| {
        encode(&match kind {
            0 => Command::Get { key: &key },
            1 => Command::Increment { key: &key },
            2 => Command::Decrement { key: &key },
            _ => Command::Length { key: &key },
        })
    });
    let several = (0u8..3, proptest::collection::vec(key(), 1..5)).prop_map(|(kind, keys)| {
        let items = items(&keys);
        let keys = Items::Encoded(&items);
        encode(&match kind {
            0 => Command::Delete { keys },
            1 => Command::Exists { keys },
            _ => Command::GetMany { keys },
        })
    });
    let pairs = proptest::collection::vec((key(), bytes()), 1..5).prop_map(|pairs| {
        let flat: Vec<Vec<u8>> = pairs.into_iter().flat_map(|(key, value)| [key, value]).collect();
        encode(&Command::SetMany { pairs: Items::Encoded(&items(&flat)) })
    });
    let append =
        (key(), bytes()).prop_map(|(key, bytes)| encode(&Command::Append { key: &key, bytes: &bytes }));
    let whole = prop_oneof![
        Just(encode(&Command::Size)),
        Just(encode(&Command::Keyspace)),
        Just(encode(&Command::Keys { pattern: b"*" }))
    ];
    prop_oneof![4 => set, 4 => one_key, 2 => several, 2 => pairs, 2 => append, 1 => whole]
}

/// Few keys, so that commands meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    (0u8..6).prop_map(|number| vec![b'k', number])
}

fn encode(command: &Command<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    command.encode(&mut out);
    out
}

/// The items of an encoded command, taken from one that consists of them.
fn items(items: &[Vec<u8>]) -> Vec<u8> {
    let mut request = format!("*{}\r\n$6\r\nEXISTS\r\n", items.len() + 1).into_bytes();
    for item in items {
        reply::bulk(&mut request, item);
    }
    let mut parser = Parser::default();
    parser.parse(&request).unwrap();
    let mut arguments = parser.arguments(&request);
    arguments.take_first();
    let keys = Items::Requested(arguments);
    encode(&Command::Exists { keys })[2..].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_decoded_command_encodes_to_the_same_bytes(command in encoded_command()) {
        let decoded = Command::decode(&command).expect("it was encoded");
        prop_assert_eq!(encode(&decoded), command);
    }

    #[test]
    fn whatever_decodes_has_one_encoding(bytes in bytes(), opcode in 0u8..20) {
        let bytes = [&[1, opcode], &bytes[..]].concat();
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(encode(&command), bytes);
        }
    }

    #[test]
    fn no_input_makes_the_server_panic_or_keep_more_than_a_request(chunks in proptest::collection::vec(noise(), 1..40)) {
        let mut desk = Desk::new();
        for chunk in chunks {
            desk.send(&chunk);
            prop_assert!(desk.input.len() <= resp::REQUEST_BYTES_MAX);
        }
    }

    #[test]
    fn replies_do_not_depend_on_how_the_input_is_cut(chunks in proptest::collection::vec(noise(), 1..20), cut_bytes in 1usize..9) {
        let input = chunks.concat();
        let (mut whole, mut cut) = (Desk::new(), Desk::new());
        let (expected, is_closed) = whole.send(&input);
        let mut actual = Vec::new();
        for piece in input.chunks(cut_bytes) {
            let (reply, is_closed) = cut.send(piece);
            actual.extend_from_slice(&reply);
            if is_closed {
                break;
            }
        }
        prop_assert_eq!(actual.escape_ascii().to_string(), expected.escape_ascii().to_string());
        prop_assert!(!is_closed || expected.starts_with(b"-") || expected.windows(3).any(|bytes| bytes == b"\n-E"));
    }

    #[test]
    fn the_store_agrees_with_a_map_that_knows_no_sweeping(
        slots in proptest::collection::vec((0u64..30, proptest::collection::vec(encoded_command(), 0..6)), 1..40)
    ) {
        let (mut store, mut model, mut now_ms) = (Store::default(), Model::default(), 0);
        for (passed_ms, commands) in slots {
            now_ms += passed_ms;
            store.begin_slot(now_ms * 1_000_000);
            model.now_ms = i64::try_from(now_ms).unwrap();
            for command in commands {
                let command = Command::decode(&command).unwrap();
                let mut reply = Vec::new();
                store.execute(&command, &mut reply);
                prop_assert_eq!(reply.escape_ascii().to_string(), model.execute(&command), "{:?}", command);
            }
        }
    }
}

/// Pieces of requests, sensible and not.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let fragments = prop_oneof![
        Just("*1\r\n"),
        Just("*2\r\n"),
        Just("*3\r\n"),
        Just("$3\r\n"),
        Just("$1\r\n"),
        Just("GET\r\n"),
        Just("k\r\n"),
        Just("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
        Just("PING\r\n"),
        Just("SET k \"v\"\r\n"),
        Just("\r\n"),
        Just("*-1\r\n"),
        Just("MSET a 1 b 2\r\n"),
        Just("COMMAND\r\n"),
        Just("CLIENT ID\r\n"),
        Just("CONFIG GET *\r\n"),
        Just("INCR n\r\n")
    ];
    prop_oneof![8 => fragments.prop_map(|text| text.as_bytes().to_vec()), 1 => proptest::collection::vec(any::<u8>(), 0..20)]
}

/// What the store should be, as simply as it can be said: values and deadlines, looked at afresh each time.
#[derive(Default)]
struct Model {
    values: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>,
    now_ms: i64,
}

impl Model {
    fn execute(&mut self, command: &Command<'_>) -> String {
        let now_ms = self.now_ms;
        self.values.retain(|_, (_, deadline_ms)| deadline_ms.is_none_or(|deadline_ms| now_ms <= deadline_ms));
        let mut out = Vec::new();
        match command {
            Command::Get { key } => reply::bulk_or_null(&mut out, self.value(key)),
            Command::Length { key } => reply::count(&mut out, self.value(key).unwrap_or_default().len()),
            Command::Exists { keys } => {
                let found = keys.clone().filter(|key| self.value(key).is_some()).count();
                reply::count(&mut out, found);
            }
            Command::GetMany { keys } => {
                reply::array(&mut out, keys.clone().count());
                for key in keys.clone() {
                    reply::bulk_or_null(&mut out, self.value(key));
                }
            }
            Command::Keys { .. } => {
                reply::array(&mut out, self.values.len());
                for key in self.values.keys() {
                    reply::bulk(&mut out, key);
                }
            }
            Command::Size => reply::count(&mut out, self.values.len()),
            Command::Keyspace => self.keyspace(&mut out),
            Command::Set(set) => self.set(set, &mut out),
            Command::Delete { keys } => {
                let deleted = keys.clone().filter(|&key| self.values.remove(key).is_some()).count();
                reply::count(&mut out, deleted);
            }
            Command::Increment { key } => self.add(key, 1, &mut out),
            Command::Decrement { key } => self.add(key, -1, &mut out),
            Command::Append { key, bytes } => {
                let (value, _) = self.values.entry(key.to_vec()).or_default();
                value.extend_from_slice(bytes);
                reply::count(&mut out, value.len());
            }
            Command::SetMany { pairs } => {
                let items: Vec<&[u8]> = pairs.clone().collect();
                for pair in items.chunks(2) {
                    self.values.insert(pair[0].to_vec(), (pair[1].to_vec(), None));
                }
                reply::status(&mut out, "OK");
            }
            Command::Clear => {
                self.values.clear();
                reply::status(&mut out, "OK");
            }
        }
        out.escape_ascii().to_string()
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key).map(|(value, _)| value.as_slice())
    }

    fn keyspace(&self, out: &mut Vec<u8>) {
        let expires = self.values.values().filter(|(_, deadline_ms)| deadline_ms.is_some()).count();
        if !self.values.is_empty() {
            let line = format!("db0:keys={},expires={expires}\r\n", self.values.len());
            out.extend_from_slice(line.as_bytes());
        }
    }

    fn set(&mut self, set: &Set<'_>, out: &mut Vec<u8>) {
        let old = self.values.get(set.key).cloned();
        let is_met = match set.condition {
            Condition::Always => true,
            Condition::IfAbsent => old.is_none(),
            Condition::IfPresent => old.is_some(),
        };
        let deadline_ms = match set.expiry {
            Expiry::Never => None,
            Expiry::Kept => old.as_ref().and_then(|(_, deadline_ms)| *deadline_ms),
            Expiry::After(ms) => Some(self.now_ms + ms),
            Expiry::At(ms) => Some(ms),
        };
        if is_met {
            self.values.insert(set.key.to_vec(), (set.value.to_vec(), deadline_ms));
        }
        match (set.returns_old, old) {
            (true, old) => reply::bulk_or_null(out, old.as_ref().map(|(value, _)| value.as_slice())),
            (false, _) if is_met => reply::status(out, "OK"),
            (false, _) => reply::null(out),
        }
    }

    fn add(&mut self, key: &[u8], difference: i64, out: &mut Vec<u8>) {
        let text = self.value(key).map_or(Some("0"), |value| std::str::from_utf8(value).ok());
        let number =
            text.and_then(|text| text.parse::<i64>().ok().filter(|number| number.to_string() == text));
        match number.map(|number| number.checked_add(difference)) {
            None => reply::error(out, b"ERR value is not an integer or out of range"),
            Some(None) => reply::error(out, b"ERR increment or decrement would overflow"),
            Some(Some(sum)) => {
                self.values.entry(key.to_vec()).or_default().0 = sum.to_string().into_bytes();
                reply::integer(out, sum);
            }
        }
    }
}
