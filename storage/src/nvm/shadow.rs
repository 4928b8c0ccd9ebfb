//! Non-volatile memory as a model: what was stored is pending, word by word, until it was flushed and fenced.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use super::medium::Medium;
use crate::disk::DiskKind;

const LINE_WORDS: usize = 8;
const PAGE_WORDS: usize = 512;

/// A handle of the memory: the region has one, the test another.
#[derive(Clone)]
pub(crate) struct Shadow(Rc<RefCell<State>>);

struct State {
    /// What is in the medium for sure.
    durable: Vec<u64>,
    /// What a load returns.
    loaded: Vec<u64>,
    pending: BTreeMap<usize, Pending>,
    /// Crashes are recorded at every fence from then on.
    is_recording: bool,
    crashes: Vec<Crash>,
    /// The test's: how much it was promised so far.
    mark: u64,
    /// Pages that cannot be read, until they are replaced, or for ever.
    bad: BTreeSet<usize>,
    is_replaceable: bool,
}

/// A word that may have any of its values.
#[derive(Clone)]
struct Pending {
    /// What was stored since it was durable, in order.
    values: Vec<u64>,
    /// How many of them a fence makes durable.
    flushed: usize,
}

/// The power is lost.
#[derive(Clone)]
pub(crate) struct Crash {
    durable: Vec<u64>,
    pending: BTreeMap<usize, Pending>,
    /// The mark at that time.
    pub(crate) mark: u64,
}

impl Shadow {
    /// Memory that holds `words`.
    pub(crate) fn of(words: Vec<u64>) -> Shadow {
        Shadow(Rc::new(RefCell::new(State {
            durable: words.clone(),
            loaded: words,
            pending: BTreeMap::new(),
            is_recording: false,
            crashes: Vec::new(),
            mark: 0,
            bad: BTreeSet::new(),
            is_replaceable: true,
        })))
    }

    /// Notes what the test was promised.
    pub(crate) fn mark(&self, mark: u64) {
        self.0.borrow_mut().mark = mark;
    }

    /// Records a crash before every fence from now on.
    pub(crate) fn record(&self) {
        self.0.borrow_mut().is_recording = true;
    }

    /// The crashes recorded, and one now.
    pub(crate) fn crashes(&self) -> Vec<Crash> {
        let mut state = self.0.borrow_mut();
        let now = state.crash();
        state.crashes.push(now);
        std::mem::take(&mut state.crashes)
    }

    /// What is in the medium.
    pub(crate) fn durable(&self) -> Vec<u64> {
        self.0.borrow().durable.clone()
    }

    /// Stores again what was pending at a crash: only the process was killed, and the caches are as they were.
    pub(crate) fn store_pending(&self, crash: &Crash) {
        for (word, pending) in &crash.pending {
            for value in &pending.values {
                self.clone().write(*word as u64 * 8, &value.to_le_bytes());
            }
        }
    }

    /// Makes a page unreadable.
    pub(crate) fn spoil(&self, at: u64, is_replaceable: bool) {
        let mut state = self.0.borrow_mut();
        state.bad.insert(at as usize / 8 / PAGE_WORDS);
        state.is_replaceable = is_replaceable;
    }
}

impl State {
    fn crash(&self) -> Crash {
        Crash { durable: self.durable.clone(), pending: self.pending.clone(), mark: self.mark }
    }
}

impl Crash {
    /// How many words are pending.
    pub(crate) fn words(&self) -> usize {
        self.pending.len()
    }

    /// The line that a pending word is in, by its index among them.
    pub(crate) fn lines(&self) -> Vec<usize> {
        self.pending.keys().map(|word| word / LINE_WORDS).collect()
    }

    /// Images if each word had all its values tried.
    pub(crate) fn images(&self) -> u64 {
        self.pending
            .values()
            .fold(1u64, |images, pending| images.saturating_mul(pending.values.len() as u64 + 1))
    }

    /// What is in the medium if `arrived` says of each pending word, by its index and how many values it had,
    /// how many of those arrived.
    pub(crate) fn image(&self, mut arrived: impl FnMut(usize, usize) -> usize) -> Vec<u64> {
        let mut words = self.durable.clone();
        for (index, (word, pending)) in self.pending.iter().enumerate() {
            if let Some(last) = arrived(index, pending.values.len()).checked_sub(1) {
                words[*word] = pending.values[last];
            }
        }
        words
    }
}

impl Medium for Shadow {
    fn kind(&self) -> DiskKind {
        DiskKind::Simulated
    }

    fn bytes(&self) -> u64 {
        self.0.borrow().loaded.len() as u64 * 8
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.0.borrow();
        let pages = at as usize / 8 / PAGE_WORDS..=(at as usize + buffer.len() - 1) / 8 / PAGE_WORDS;
        if state.bad.range(pages).next().is_some() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let words = &state.loaded[at as usize / 8..][..buffer.len().div_ceil(8)];
        for (bytes, word) in buffer.chunks_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let state = &mut *self.0.borrow_mut();
        let (words, rest) = bytes.as_chunks::<8>();
        assert!(at.is_multiple_of(8) && rest.is_empty(), "words are written whole");
        for (place, word) in (at as usize / 8..).zip(words) {
            let value = u64::from_le_bytes(*word);
            if state.loaded[place] != value {
                state.loaded[place] = value;
                let pending =
                    state.pending.entry(place).or_insert(Pending { values: Vec::new(), flushed: 0 });
                pending.values.push(value);
            }
        }
    }

    fn flush(&mut self, at: u64, bytes: u64) {
        let state = &mut *self.0.borrow_mut();
        let first = at as usize / 8 / LINE_WORDS * LINE_WORDS;
        let end = (at + bytes).div_ceil(64) as usize * LINE_WORDS;
        for (_, pending) in state.pending.range_mut(first..end) {
            pending.flushed = pending.values.len();
        }
    }

    fn fence(&mut self) {
        let state = &mut *self.0.borrow_mut();
        if state.is_recording {
            let crash = state.crash();
            state.crashes.push(crash);
        }
        let durable = &mut state.durable;
        state.pending.retain(|word, pending| {
            if let Some(last) = pending.flushed.checked_sub(1) {
                durable[*word] = pending.values[last];
                pending.values.drain(..pending.flushed);
                pending.flushed = 0;
            }
            !pending.values.is_empty()
        });
    }

    fn replace(&mut self, at: u64, bytes: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        if !state.is_replaceable {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let words = at as usize / 8..(at + bytes) as usize / 8;
        state.bad.remove(&(words.start / PAGE_WORDS));
        state.loaded[words.clone()].fill(0);
        state.durable[words].fill(0);
        Ok(())
    }
}
