//! A process that the benchmark started: its own binary, with another role.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::control::{self, Answer, Event, Line};

/// Replaying a long journal takes a while; answering a question does not.
const READY_TIMEOUT: Duration = Duration::from_mins(5);
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// How often who waits for a child hears that it still does.
const WAITING_INTERVAL: Duration = Duration::from_millis(500);
/// Lines of a child's standard error that are kept, to be shown when it fails.
const COMPLAINTS_MAX: usize = 40;

/// A child process. It is killed when it is dropped.
pub(crate) struct Child {
    name: String,
    process: std::process::Child,
    input: ChildStdin,
    lines: Receiver<Line>,
    events: VecDeque<Event>,
    answers: VecDeque<Answer>,
    complaints: Arc<Mutex<VecDeque<String>>>,
}

/// A child did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("cannot start the process of {name}: {source}")]
    Start { name: String, source: io::Error },
    #[error("{name} ended unexpectedly{complaints}")]
    Ended { name: String, complaints: String },
    #[error("{name} says nothing for {seconds} s{complaints}")]
    Silent { name: String, seconds: u64, complaints: String },
    #[error("{name}: {message}")]
    Failed { name: String, message: String },
}

impl Child {
    /// Starts this binary in the hidden role `role`.
    pub(crate) fn start(role: &str, name: &str) -> Result<Child, ChildError> {
        let failed = |source| ChildError::Start { name: name.to_owned(), source };
        let binary = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(binary);
        // A group of its own: Ctrl-C ends the benchmark, and its children end in good order when it is gone.
        command
            .arg(role)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let input = process.stdin.take().expect("it is piped");
        let lines = listen(process.stdout.take().expect("it is piped"));
        let complaints = collect(process.stderr.take().expect("it is piped"));
        Ok(Child {
            name: name.to_owned(),
            process,
            input,
            lines,
            events: VecDeque::new(),
            answers: VecDeque::new(),
            complaints,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its name and process id.
    pub(crate) fn process(&self) -> (String, u32) {
        (self.name.clone(), self.pid())
    }

    /// Sends it a line.
    pub(crate) fn send(&mut self, line: &impl Serialize) -> Result<(), ChildError> {
        control::say(&mut self.input, line).map_err(|_| self.ended())
    }

    /// Waits until it can be talked to, and calls `waiting` now and then meanwhile.
    pub(crate) fn wait_ready(&mut self, mut waiting: impl FnMut()) -> Result<(), ChildError> {
        let began = Instant::now();
        while began.elapsed() < READY_TIMEOUT {
            match self.event(WAITING_INTERVAL)? {
                Some(Event::Ready) => return Ok(()),
                Some(Event::Failed(message)) => return Err(self.failed(message)),
                Some(_) => return Err(self.failed("spoke before it was ready".to_owned())),
                None => waiting(),
            }
        }
        Err(self.silent(READY_TIMEOUT))
    }

    /// The next event, or `None` after `timeout`. A failure that is answered is an error here too.
    pub(crate) fn event(&mut self, timeout: Duration) -> Result<Option<Event>, ChildError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if let Some(Answer::Failed(message)) = self.answers.front() {
                let message = message.clone();
                return Err(self.failed(message));
            }
            if !self.take_line(deadline)? {
                return Ok(None);
            }
        }
    }

    /// The answer to the oldest request.
    pub(crate) fn answer(&mut self) -> Result<Answer, ChildError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.answers.pop_front() {
                Some(Answer::Failed(message)) => return Err(self.failed(message)),
                Some(answer) => return Ok(answer),
                None if !self.take_line(deadline)? => return Err(self.silent(ANSWER_TIMEOUT)),
                None => (),
            }
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Takes the next line; false when there is none before `deadline`.
    fn take_line(&mut self, deadline: Instant) -> Result<bool, ChildError> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Line::Answer(answer)) => self.answers.push_back(answer),
            Ok(Line::Event(event)) => self.events.push_back(event),
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
        }
        Ok(true)
    }

    fn ended(&self) -> ChildError {
        // What it said last may still be on its way here.
        std::thread::sleep(Duration::from_millis(50));
        ChildError::Ended { name: self.name.clone(), complaints: self.complaints() }
    }

    fn silent(&self, timeout: Duration) -> ChildError {
        ChildError::Silent {
            name: self.name.clone(),
            seconds: timeout.as_secs(),
            complaints: self.complaints(),
        }
    }

    fn failed(&self, message: String) -> ChildError {
        ChildError::Failed { name: self.name.clone(), message }
    }

    fn complaints(&self) -> String {
        let complaints = self.complaints.lock().expect("nobody panics with the complaints");
        complaints.iter().fold(String::new(), |text, line| text + "\n    " + line)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads a child's lines as they come.
fn listen(output: impl Read + Send + 'static) -> Receiver<Line> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        while let Ok(Some(line)) = control::hear(&mut output) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Keeps the last lines of a child's standard error.
fn collect(output: impl Read + Send + 'static) -> Arc<Mutex<VecDeque<String>>> {
    let complaints = Arc::new(Mutex::new(VecDeque::new()));
    let kept = Arc::clone(&complaints);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut kept = kept.lock().expect("nobody panics with the complaints");
            if kept.len() == COMPLAINTS_MAX {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
    complaints
}
