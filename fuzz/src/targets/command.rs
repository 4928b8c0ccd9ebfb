//! Commands of the key-value example as the log holds them.

use crate::Target;
use crate::command::Command;

/// The bytes of one command.
pub const COMMAND: Target =
    Target { name: "command", run, beginnings: Vec::new, bytes_per_byte: 8, bytes_fixed: 1 << 10 };

fn run(input: &[u8]) {
    let Ok(command) = Command::decode(input) else { return };
    let mut encoded = Vec::new();
    command.encode(&mut encoded);
    assert_eq!(encoded, input, "every command has one encoding");
    let _ = (command.first_key(), command.is_read());
}
