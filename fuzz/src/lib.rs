//! Fuzzing of everything that reads foreign bytes, with what it allocates bounded by what it is given.
//!
//! Each [`Target`] is a function over arbitrary bytes that panics when a decoder does, or when what it
//! decoded contradicts itself. `cargo fuzz` looks for such bytes; `tests/replay.rs` runs every input that
//! it found before, so that nothing comes back. Where a checksum would stop nearly everything, an input is
//! not the bytes themselves but `Edits` of valid ones, whose checksums are repaired
//! afterwards if the input says so.
#![deny(unsafe_code)]
// The unit tests of the sources that are compiled into it run in their own crates.
#![cfg(not(test))]

#[allow(unsafe_code)]
pub mod allocation;
mod edits;
mod medium;
mod seal;
mod targets;
mod valid;

use std::path::Path;
use std::{env, fs};

use allocation::Tally;

pub use targets::{
    BATCH, COMMAND, FRAME, HANDSHAKE, JOURNAL, MESSAGE, REQUEST, SEGMENT_HEADER, SNAPSHOT, SPLITTER,
    SUPERBLOCK,
};

/// Every target.
pub const TARGETS: [&Target; 11] = [
    &FRAME,
    &BATCH,
    &MESSAGE,
    &HANDSHAKE,
    &SPLITTER,
    &JOURNAL,
    &SEGMENT_HEADER,
    &SNAPSHOT,
    &SUPERBLOCK,
    &REQUEST,
    &COMMAND,
];

/// Declares decoders that their crates keep to themselves, compiled here from the same files.
macro_rules! foreign {
    ($($path:literal $name:ident;)*) => {
        $(#[path = $path] #[allow(dead_code, reason = "a target uses its share")] mod $name;)*
    };
}

foreign! {
    "../../engine/examples/kv/arguments.rs" arguments;
    "../../engine/examples/kv/catalogue.rs" catalogue;
    "../../engine/examples/kv/command.rs" command;
    "../../engine/examples/kv/encoding.rs" encoding;
    "../../engine/examples/kv/inline.rs" inline;
    "../../engine/examples/kv/number.rs" number;
    "../../engine/examples/kv/reply.rs" reply;
    "../../engine/examples/kv/request.rs" request;
    "../../engine/examples/kv/resp.rs" resp;
    "../../storage/src/superblock.rs" superblock;
    "../../transport/src/handshake.rs" handshake;
    "../../transport/src/hello.rs" hello;
    "../../transport/src/refusal.rs" refusal;
    "../../transport/src/splitter.rs" splitter;
}

/// Something that reads foreign bytes, and what it may allocate for them.
pub struct Target {
    /// Its name: of its binary, and of the folder of its corpus.
    pub name: &'static str,
    run: fn(&[u8]),
    /// Beginnings of inputs that edit something valid, up to the count of edits.
    beginnings: fn() -> Vec<Vec<u8>>,
    /// Bytes that it may allocate for each byte of input.
    bytes_per_byte: u64,
    /// Bytes that it may allocate for any input.
    bytes_fixed: u64,
}

impl Target {
    /// Runs it on an input.
    ///
    /// # Panics
    /// The decoder did, or contradicted itself, or allocated more than the input justifies.
    pub fn check(&self, input: &[u8]) {
        let before = Tally::now();
        (self.run)(input);
        let Tally { bytes, .. } = before.elapsed();
        let allowed = self.bytes_per_byte * input.len() as u64 + self.bytes_fixed;
        assert!(
            bytes <= allowed,
            "{}: {bytes} bytes allocated for an input of {}, at most {allowed} are allowed",
            self.name,
            input.len()
        );
    }

    /// Inputs that put the numbers at which decoders go wrong into every field of what it reads, one each.
    pub fn sweep(&self) -> impl Iterator<Item = Vec<u8>> {
        let edits = edits::every_number();
        (self.beginnings)()
            .into_iter()
            .flat_map(move |beginning| edits.clone().map(move |edit| [&beginning[..], &[1], &edit].concat()))
    }
}

/// Runs a target on the files that the command line names.
///
/// # Panics
/// A file cannot be read, or shows a bug.
pub fn replay(target: &Target) {
    for path in env::args_os().skip(1) {
        let input = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", Path::new(&path).display()));
        target.check(&input);
        println!("{}: {}: nothing wrong", target.name, Path::new(&path).display());
    }
}

/// The binary of a target: under `cargo fuzz` it looks for inputs, otherwise it runs the files that are named.
#[macro_export]
macro_rules! fuzz {
    ($target:ident) => {
        #[global_allocator]
        static COUNTING: $crate::allocation::Counting = $crate::allocation::Counting;

        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::$target.check(input));

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::replay(&$crate::$target);
        }
    };
}
