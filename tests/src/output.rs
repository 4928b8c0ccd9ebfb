//! What the programs of this crate print.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::faults;

/// Prints a line, unless whoever reads along has read enough.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line beside the results, unless nobody reads it.
pub fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The command line cannot be followed.
pub fn misused() -> ExitCode {
    ExitCode::from(2)
}

/// Says which mutant lives, if one does.
///
/// # Errors
/// The environment asks for one that cannot; why was told.
pub fn say_who_is_alive() -> Result<(), ExitCode> {
    match faults::alive() {
        Ok(None) => Ok(()),
        Ok(Some(mutant)) => {
            say(format_args!("mutant {} is alive (breaks {})", mutant.name, mutant.breaks));
            Ok(())
        }
        Err(why) => {
            complain(format_args!("{why}"));
            Err(misused())
        }
    }
}
