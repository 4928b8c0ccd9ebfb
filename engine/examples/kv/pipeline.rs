//! Replies in the order of their requests.
//!
//! A connection may send a thousand requests before the first is answered. Those that go through the log
//! are answered later than those that do not, and when a leader steps down not in order: here each waits
//! for its turn.

use std::collections::VecDeque;

/// The requests of one connection that are not answered yet, and the replies that wait behind them.
#[derive(Default)]
pub(crate) struct Pipeline {
    waiting: VecDeque<Waiting>,
    /// The tag of the one at the front; those behind it have the following ones.
    front: u32,
    held_bytes: usize,
}

enum Waiting {
    /// Proposed; what it is about, should its client have to be sent elsewhere.
    Proposed { hash_slot: u16 },
    /// Answered, but something before it is not.
    Answered(Vec<u8>),
}

impl Pipeline {
    /// The tag for the next proposal.
    pub(crate) fn tag(&self) -> u32 {
        self.front.wrapping_add(self.waiting.len() as u32)
    }

    /// A command was proposed with the [`tag`](Self::tag) of this moment.
    pub(crate) fn proposed(&mut self, hash_slot: u16) {
        self.waiting.push_back(Waiting::Proposed { hash_slot });
    }

    /// Whether more replies are kept waiting than any client needs that reads its own.
    pub(crate) fn is_overfull(&self) -> bool {
        self.held_bytes > HELD_BYTES_MAX
    }

    /// Whether every request is answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Answers the request read last with what `write` appends: in `out` when nothing waits before it.
    pub(crate) fn answer(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.waiting.is_empty() {
            return write(out);
        }
        if let Some(Waiting::Proposed { .. }) = self.waiting.back() {
            self.waiting.push_back(Waiting::Answered(Vec::new()));
        }
        if let Some(Waiting::Answered(held)) = self.waiting.back_mut() {
            let before = held.len();
            write(held);
            self.held_bytes += held.len() - before;
        }
    }

    /// Answers the proposal with `tag`: `write` is given its hash slot. Whatever is then due goes to `out`.
    pub(crate) fn completed(&mut self, tag: u32, out: &mut Vec<u8>, write: impl FnOnce(u16, &mut Vec<u8>)) {
        let index = tag.wrapping_sub(self.front) as usize;
        let waiting = self.waiting.get_mut(index).expect("a proposal completes once, and after it was made");
        let Waiting::Proposed { hash_slot } = *waiting else { panic!("a proposal completes once") };
        if index > 0 {
            let mut held = Vec::new();
            write(hash_slot, &mut held);
            self.held_bytes += held.len();
            *waiting = Waiting::Answered(held);
            return;
        }
        write(hash_slot, out);
        self.advance();
        while let Some(Waiting::Answered(held)) = self.waiting.front() {
            out.extend_from_slice(held);
            self.held_bytes -= held.len();
            self.advance();
        }
    }

    fn advance(&mut self) {
        self.waiting.pop_front();
        self.front = self.front.wrapping_add(1);
    }
}

/// Bytes of replies that wait for others. The proposals that they wait for are bounded by the engine.
const HELD_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pipeline: &mut Pipeline, out: &mut Vec<u8>, text: &str) {
        pipeline.answer(out, |out| out.extend_from_slice(text.as_bytes()));
    }

    fn complete(pipeline: &mut Pipeline, out: &mut Vec<u8>, tag: u32, text: &str) {
        pipeline.completed(tag, out, |slot, out| out.extend_from_slice(format!("{text}{slot}").as_bytes()));
    }

    #[test]
    fn a_reply_waits_for_those_before_it_however_they_complete() {
        let (mut pipeline, mut out) = (Pipeline { front: u32::MAX, ..Pipeline::default() }, Vec::new());
        answer(&mut pipeline, &mut out, "a ");
        let first = pipeline.tag();
        pipeline.proposed(1);
        answer(&mut pipeline, &mut out, " b");
        answer(&mut pipeline, &mut out, " c ");
        let second = pipeline.tag();
        pipeline.proposed(2);
        let third = pipeline.tag();
        pipeline.proposed(3);
        complete(&mut pipeline, &mut out, second, "second");
        assert_eq!(out, b"a ");
        complete(&mut pipeline, &mut out, first, "first");
        assert_eq!(out, b"a first1 b c second2");
        complete(&mut pipeline, &mut out, third, " third");
        answer(&mut pipeline, &mut out, " d");
        assert_eq!(out, b"a first1 b c second2 third3 d");
        assert!(pipeline.is_empty() && pipeline.held_bytes == 0);
    }

    #[test]
    fn replies_that_wait_are_counted_until_they_leave() {
        let (mut pipeline, mut out) = (Pipeline::default(), Vec::new());
        pipeline.proposed(0);
        answer(&mut pipeline, &mut out, &"x".repeat(HELD_BYTES_MAX));
        assert!(!pipeline.is_overfull());
        answer(&mut pipeline, &mut out, "x");
        assert!(pipeline.is_overfull());
        complete(&mut pipeline, &mut out, 0, "");
        assert!(!pipeline.is_overfull() && pipeline.is_empty());
    }
}
