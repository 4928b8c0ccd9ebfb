//! The commands there are, and what `COMMAND` tells of them.

use crate::arguments::Arguments;
use crate::reply;
use crate::request::{Refusal, Request, parse};

/// One command.
pub(crate) struct Spec {
    /// Its name in small letters.
    pub(crate) name: &'static str,
    /// How many arguments it takes, its name included.
    pub(crate) arity: Arity,
    /// Understands the arguments behind the name.
    pub(crate) parse: for<'a> fn(Arguments<'a>) -> Result<Request<'a>, Refusal<'a>>,
    flags: &'static [&'static str],
    keys: KeyPlaces,
    group: &'static str,
    since: &'static str,
    summary: &'static str,
}

/// How many arguments a command takes, its name included.
#[derive(Clone, Copy)]
pub(crate) enum Arity {
    Exactly(u8),
    AtLeast(u8),
}

/// Where the keys are among the arguments, as `COMMAND` states it: first, last (from the end when
/// negative) and step. Zeros when there are none.
#[derive(Clone, Copy)]
struct KeyPlaces(i64, i64, i64);

use Arity::{AtLeast, Exactly};

const NO_KEY: KeyPlaces = KeyPlaces(0, 0, 0);
const ONE_KEY: KeyPlaces = KeyPlaces(1, 1, 1);
const ALL_KEYS: KeyPlaces = KeyPlaces(1, -1, 1);
const EACH_OTHER: KeyPlaces = KeyPlaces(1, -1, 2);

const READ: &[&str] = &["readonly", "fast"];
const READ_SLOWLY: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom"];
const WRITE_FAST: &[&str] = &["write", "denyoom", "fast"];
const REMOVE: &[&str] = &["write"];
const SESSION: &[&str] = &["loading", "stale", "fast"];
const ADMIN: &[&str] = &["loading", "stale"];

macro_rules! catalogue {
    ($($name:literal $arity:ident $count:literal $parse:ident $flags:ident $keys:ident $group:literal $since:literal $summary:literal)*) => {
        /// Those on data that clients call most come first: the list is searched in order.
        static CATALOGUE: &[Spec] = &[$(Spec {
            name: $name,
            arity: $arity($count),
            parse: parse::$parse,
            flags: $flags,
            keys: $keys,
            group: $group,
            since: $since,
            summary: $summary,
        }),*];
    };
}

catalogue! {
    "get"       Exactly 2 get        READ        ONE_KEY    "string"     "1.0.0" "Get the value of a key"
    "set"       AtLeast 3 set        WRITE       ONE_KEY    "string"     "1.0.0" "Set the string value of a key"
    "incr"      Exactly 2 increment  WRITE_FAST  ONE_KEY    "string"     "1.0.0" "Increment the integer value of a key by one"
    "decr"      Exactly 2 decrement  WRITE_FAST  ONE_KEY    "string"     "1.0.0" "Decrement the integer value of a key by one"
    "mget"      AtLeast 2 get_many   READ        ALL_KEYS   "string"     "1.0.0" "Get the values of all the given keys"
    "mset"      AtLeast 3 set_many   WRITE       EACH_OTHER "string"     "1.0.1" "Set multiple keys to multiple values"
    "append"    Exactly 3 append     WRITE_FAST  ONE_KEY    "string"     "2.0.0" "Append a value to a key"
    "strlen"    Exactly 2 length     READ        ONE_KEY    "string"     "2.2.0" "Get the length of the value stored in a key"
    "del"       AtLeast 2 delete     REMOVE      ALL_KEYS   "generic"    "1.0.0" "Delete a key"
    "exists"    AtLeast 2 exists     READ        ALL_KEYS   "generic"    "1.0.0" "Determine if a key exists"
    "keys"      Exactly 2 keys       READ_SLOWLY NO_KEY     "generic"    "1.0.0" "Find all keys matching the given pattern"
    "ping"      AtLeast 1 ping       SESSION     NO_KEY     "connection" "1.0.0" "Ping the server"
    "echo"      Exactly 2 echo       SESSION     NO_KEY     "connection" "1.0.0" "Echo the given string"
    "dbsize"    Exactly 1 size       READ        NO_KEY     "server"     "1.0.0" "Return the number of keys in the selected database"
    "flushall"  AtLeast 1 clear      REMOVE      NO_KEY     "server"     "1.0.0" "Remove all keys from all databases"
    "info"      AtLeast 1 info       ADMIN       NO_KEY     "server"     "1.0.0" "Get information and statistics about the server"
    "command"   AtLeast 1 commands   ADMIN       NO_KEY     "server"     "2.8.13" "Get array of command details"
    "config"    AtLeast 2 config     ADMIN       NO_KEY     "server"     "2.0.0" "Read configuration parameters"
    "client"    AtLeast 2 client     ADMIN       NO_KEY     "connection" "2.4.0" "Name a connection, ask for its name or id"
    "cluster"   AtLeast 2 cluster    ADMIN       NO_KEY     "cluster"    "3.0.0" "Ask which node serves which hash slot"
    "hello"     AtLeast 1 hello      SESSION     NO_KEY     "connection" "6.0.0" "Handshake with the server"
    "select"    Exactly 2 select     SESSION     NO_KEY     "connection" "1.0.0" "Change the selected database for the current connection"
    "readonly"  Exactly 1 read_only  SESSION     NO_KEY     "cluster"    "3.0.0" "Enables read queries for a connection to a replica"
    "readwrite" Exactly 1 read_write SESSION     NO_KEY     "cluster"    "3.0.0" "Disables read queries for a connection to a replica"
    "quit"      AtLeast 1 quit       SESSION     NO_KEY     "connection" "1.0.0" "Close the connection"
}

/// The command called `name`, in letters of any case.
pub(crate) fn find(name: &[u8]) -> Option<&'static Spec> {
    CATALOGUE.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Answers `COMMAND` and its subcommands; `arguments` are those behind the name.
pub(crate) fn answer<'a>(mut arguments: Arguments<'a>, out: &mut Vec<u8>) -> Result<(), Refusal<'a>> {
    let Some(subcommand) = arguments.take_first() else {
        write_info(arguments, out);
        return Ok(());
    };
    match &subcommand.to_ascii_lowercase()[..] {
        b"count" if !arguments.is_empty() => return Err(Refusal::Arity("command|count")),
        b"count" => reply::count(out, CATALOGUE.len()),
        b"list" if !arguments.is_empty() => return Err(Refusal::Syntax),
        b"list" => {
            reply::array(out, CATALOGUE.len());
            for spec in CATALOGUE {
                reply::bulk(out, spec.name.as_bytes());
            }
        }
        b"info" => write_info(arguments, out),
        b"docs" => write_docs(arguments, out),
        _ => return Err(Refusal::UnknownSubcommand { command: "COMMAND", subcommand }),
    }
    Ok(())
}

fn write_info(names: Arguments<'_>, out: &mut Vec<u8>) {
    if names.is_empty() {
        reply::array(out, CATALOGUE.len());
        for spec in CATALOGUE {
            spec.write_details(out);
        }
        return;
    }
    reply::array(out, names.len());
    for name in names.iter() {
        match find(name) {
            Some(spec) => spec.write_details(out),
            None => reply::null(out),
        }
    }
}

fn write_docs(names: Arguments<'_>, out: &mut Vec<u8>) {
    let asked = |spec: &&Spec| names.is_empty() || names.iter().any(|name| spec.is_called(name));
    let specs: Vec<&Spec> = CATALOGUE.iter().filter(asked).collect();
    reply::array(out, 2 * specs.len());
    for spec in specs {
        spec.write_docs(out);
    }
}

impl Arity {
    /// Whether a command may have `count` arguments, its name included.
    pub(crate) fn allows(self, count: usize) -> bool {
        match self {
            Exactly(arguments) => count == usize::from(arguments),
            AtLeast(arguments) => count >= usize::from(arguments),
        }
    }

    /// As `COMMAND` states it: negative when more arguments may follow.
    fn signed(self) -> i64 {
        match self {
            Exactly(arguments) => i64::from(arguments),
            AtLeast(arguments) => -i64::from(arguments),
        }
    }
}

impl Spec {
    fn is_called(&self, name: &[u8]) -> bool {
        self.name.as_bytes().eq_ignore_ascii_case(name)
    }

    /// The ten fields of `COMMAND INFO`; categories, tips, key specifications and subcommands are empty.
    fn write_details(&self, out: &mut Vec<u8>) {
        reply::array(out, 10);
        reply::bulk(out, self.name.as_bytes());
        reply::integer(out, self.arity.signed());
        reply::array(out, self.flags.len());
        for flag in self.flags {
            reply::status(out, flag);
        }
        let KeyPlaces(first, last, step) = self.keys;
        for place in [first, last, step] {
            reply::integer(out, place);
        }
        for _ in 0..4 {
            reply::array(out, 0);
        }
    }

    fn write_docs(&self, out: &mut Vec<u8>) {
        reply::bulk(out, self.name.as_bytes());
        reply::array(out, 6);
        for (field, text) in [("summary", self.summary), ("since", self.since), ("group", self.group)] {
            reply::bulk(out, field.as_bytes());
            reply::bulk(out, text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for spec in CATALOGUE {
            assert_eq!(spec.name, spec.name.to_ascii_lowercase());
            let found = find(spec.name.to_ascii_uppercase().as_bytes()).unwrap();
            assert!(std::ptr::eq(found, spec), "{} is listed twice", spec.name);
        }
    }
}
