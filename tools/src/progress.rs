//! How far a long look has come, on stderr: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines that are not on a terminal come this far apart, so that short work prints none.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes that were looked at, of all that are to be.
pub struct Progress {
    bar: ProgressBar,
    what: String,
    on_terminal: bool,
    told: Instant,
}

impl Progress {
    /// `what` begins, which goes through so many bytes.
    pub fn of_bytes(what: impl Into<String>, bytes: u64) -> Progress {
        let what = what.into();
        let on_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let template = "{msg} {wide_bar} {bytes} of {total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_message(what.clone());
        Progress { bar, what, on_terminal, told: Instant::now() }
    }

    /// So many bytes are done.
    pub fn at(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
        if !self.on_terminal && self.told.elapsed() >= LINE_INTERVAL {
            self.told = Instant::now();
            let percent = 100 * bytes / self.bar.length().unwrap_or(0).max(1);
            eprintln!("{}: {percent} %", self.what);
        }
    }

    /// So many bytes more are done.
    pub fn by(&mut self, bytes: u64) {
        self.at(self.bar.position() + bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
