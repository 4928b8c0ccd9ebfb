//! Golden protocol scripts: `tests/scenarios/*.txt`.
//!
//! A script is a story: comments say what it is about, commands at the left margin say what network,
//! disks, clock and clients do, and the indented lines below a command are everything that the rings
//! did in answer. `ANNULUS_SCENARIOS=bless cargo test -p annulus-tests --test scenarios` writes the
//! answers anew; the reader of the change judges whether the new story is right.

mod command;
mod stage;

pub use command::{Command, Selector};
pub use stage::Stage;

/// What precedes a line of an answer.
const INDENT: &str = "    ";

/// Plays a script and returns it with the answers that the rings gave.
///
/// # Errors
/// A command that means nothing or cannot be carried out, with its line number.
pub fn play(script: &str) -> Result<String, String> {
    let mut stage = Stage::default();
    let mut played = String::new();
    for (index, line) in script.lines().enumerate() {
        if line.starts_with(' ') {
            continue;
        }
        played += line;
        played += "\n";
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let lines = stage.play(line).map_err(|why| format!("line {}: {line}: {why}", index + 1))?;
        for line in lines {
            played += INDENT;
            played += &line;
            played += "\n";
        }
    }
    Ok(played)
}
