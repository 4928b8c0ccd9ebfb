//! What a person sees while figures come to be: a bar on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Lines that are not on a terminal come this far apart.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// The bar moves this often even when nothing is told.
const TICK: Duration = Duration::from_millis(100);

/// Shows one step after the other.
pub(crate) struct Progress {
    bar: ProgressBar,
    on_terminal: bool,
    step: String,
    told: Instant,
}

impl Progress {
    /// Nothing to show yet.
    pub(crate) fn new() -> Progress {
        let bar = ProgressBar::new(0);
        bar.enable_steady_tick(TICK);
        let on_terminal = std::io::stderr().is_terminal();
        Progress { bar, on_terminal, step: String::new(), told: Instant::now() }
    }

    /// A step begins whose length is not known.
    pub(crate) fn step(&mut self, text: &str) {
        self.begin(text, "{spinner} {msg}  {elapsed}");
    }

    /// A step begins that takes `whole`.
    pub(crate) fn timed_step(&mut self, text: &str, whole: Duration) {
        self.begin(text, "{spinner} [{bar:30}] {msg}");
        self.bar.set_length(whole.as_millis() as u64);
        self.bar.set_position(0);
    }

    /// How far the step is, and what is known.
    pub(crate) fn at(&mut self, elapsed: Duration, detail: &str) {
        self.bar.set_position(elapsed.as_millis() as u64);
        self.detail(detail);
    }

    /// What is known.
    pub(crate) fn detail(&mut self, detail: &str) {
        let text = format!("{}  {detail}", self.step);
        if !self.on_terminal && self.told.elapsed() >= LINE_INTERVAL {
            self.told = Instant::now();
            eprintln!("{text}");
        }
        self.bar.set_message(text);
    }

    /// A line that stays.
    pub(crate) fn print(&mut self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    /// Nothing more to show.
    pub(crate) fn finish(&mut self) {
        self.bar.finish_and_clear();
    }

    fn begin(&mut self, text: &str, template: &str) {
        text.clone_into(&mut self.step);
        self.told = Instant::now();
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        self.bar.reset_elapsed();
        self.bar.set_style(style.progress_chars("━╸─"));
        self.bar.set_message(text.to_owned());
        if !self.on_terminal {
            eprintln!("{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
