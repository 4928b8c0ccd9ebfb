//! A closed loop: a fixed number of commands in flight, a new one for each that is acknowledged.

use std::collections::VecDeque;

use crate::meter::Meter;
use crate::{command, wire};

/// One sequence of commands, sent in order and acknowledged in order.
pub(crate) struct Session {
    number: u32,
    payload_bytes: usize,
    outstanding_max: u64,
    sent: u64,
    acknowledged: u64,
    /// When what may be sent became due, oldest first; the last reaches to the end of the loop's room.
    dues: VecDeque<Due>,
    /// When what is in flight became due, oldest first.
    flights: VecDeque<Due>,
}

/// Commands that became due at the same time: in a closed loop, when room for them appeared. Latency is
/// counted from there, so that waiting for the socket or for a full queue is not hidden.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// The last of them.
    upto: u64,
    /// When.
    at_ns: u64,
}

/// An acknowledgement that cannot be true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "session {session}: command {upto} is acknowledged, but {acknowledged} already were and {sent} were sent"
)]
pub(crate) struct FalseAcknowledgement {
    /// The session.
    pub(crate) session: u32,
    /// What was acknowledged now.
    pub(crate) upto: u64,
    /// What had been before.
    pub(crate) acknowledged: u64,
    /// What had been sent.
    pub(crate) sent: u64,
}

impl Session {
    /// Session `number`, which keeps `outstanding_max` commands of `payload_bytes` each in flight.
    pub(crate) fn new(number: u32, payload_bytes: usize, outstanding_max: u64) -> Session {
        Session {
            number,
            payload_bytes,
            outstanding_max,
            sent: 0,
            acknowledged: 0,
            dues: VecDeque::with_capacity(1024),
            flights: VecDeque::with_capacity(1024),
        }
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The last command sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The last command acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many commands may be sent now.
    pub(crate) fn room(&self) -> u64 {
        self.outstanding_max - (self.sent - self.acknowledged)
    }

    /// Whether everything sent is acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.sent == self.acknowledged
    }

    /// Appends requests to `output` until the loop is full or `output` holds `output_bytes_max`.
    pub(crate) fn fill(&mut self, now_ns: u64, output: &mut Vec<u8>, output_bytes_max: usize) {
        let request_bytes = wire::REQUEST_HEADER_BYTES + self.payload_bytes;
        let fitting = output_bytes_max.saturating_sub(output.len()).div_ceil(request_bytes) as u64;
        let count = self.room().min(fitting);
        for sequence in self.sent + 1..=self.sent + count {
            output.extend_from_slice(&(self.payload_bytes as u32).to_le_bytes());
            command::write(output, self.number, sequence, self.payload_bytes);
        }
        self.took_off(count, now_ns);
    }

    /// Writes the next command into `scratch`. It counts as sent only after [`took_off`](Self::took_off).
    pub(crate) fn next_command(&self, offset: u64, scratch: &mut Vec<u8>) {
        scratch.clear();
        command::write(scratch, self.number, self.sent + offset + 1, self.payload_bytes);
    }

    /// The next `count` commands were sent at `now_ns`; the first ones are due then.
    pub(crate) fn took_off(&mut self, count: u64, now_ns: u64) {
        if self.sent == 0 && self.dues.is_empty() {
            self.dues.push_back(Due { upto: self.outstanding_max, at_ns: now_ns });
        }
        let end = self.sent + count;
        while self.sent < end {
            let due = self.dues.front().copied().expect("what is sent was due");
            self.sent = due.upto.min(end);
            self.flights.push_back(Due { upto: self.sent, ..due });
            if self.sent == due.upto {
                self.dues.pop_front();
            }
        }
    }

    /// Everything up to `upto` is committed.
    ///
    /// # Errors
    /// [`FalseAcknowledgement`] when that cannot be.
    pub(crate) fn acknowledge(
        &mut self,
        upto: u64,
        now_ns: u64,
        meter: &mut Meter,
    ) -> Result<(), FalseAcknowledgement> {
        if upto <= self.acknowledged || upto > self.sent {
            let Session { number: session, acknowledged, sent, .. } = *self;
            return Err(FalseAcknowledgement { session, upto, acknowledged, sent });
        }
        while self.acknowledged < upto {
            let flight = self.flights.front().copied().expect("what is in flight has an entry");
            let landed = flight.upto.min(upto);
            meter.record(flight.at_ns, now_ns, landed - self.acknowledged);
            self.acknowledged = landed;
            if landed == flight.upto {
                self.flights.pop_front();
            }
        }
        self.dues.push_back(Due { upto: self.acknowledged + self.outstanding_max, at_ns: now_ns });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Window;

    fn meter() -> Meter {
        Meter::new(Window { starts_ns: 0, ends_ns: u64::MAX })
    }

    #[test]
    fn the_loop_is_refilled_by_as_much_as_was_acknowledged() {
        let mut session = Session::new(1, 64, 10);
        let mut output = Vec::new();
        let mut meter = meter();
        session.fill(1_000, &mut output, usize::MAX);
        assert_eq!((session.sent(), session.room(), output.len()), (10, 0, 10 * 68));

        session.acknowledge(4, 3_000, &mut meter).unwrap();
        assert_eq!(session.room(), 4);
        session.fill(3_000, &mut output, usize::MAX);
        session.acknowledge(14, 4_000, &mut meter).unwrap();
        assert_eq!((meter.committed(), session.acknowledged()), (14, 14));
        assert!(session.is_idle());
        assert!((meter.latency().max - 3.0).abs() < 0.01, "six waited 3 µs, eight less");
    }

    #[test]
    fn a_full_output_leaves_room_for_later() {
        let mut session = Session::new(1, 64, 100);
        let mut output = Vec::new();
        session.fill(0, &mut output, 200);
        assert_eq!(session.sent(), 3);
        session.fill(0, &mut output, 200);
        assert_eq!(session.sent(), 3);
    }

    #[test]
    fn a_command_that_had_to_wait_for_the_output_is_timed_from_when_it_was_due() {
        let mut session = Session::new(1, 64, 4);
        let mut meter = meter();
        session.took_off(2, 1_000);
        session.took_off(2, 5_000);
        session.acknowledge(4, 6_000, &mut meter).unwrap();
        session.took_off(1, 9_000);
        session.acknowledge(5, 9_500, &mut meter).unwrap();
        assert!((meter.latency().p50 - 5.0).abs() < 0.01, "all four were due at 1 µs");
        assert!((meter.latency().max - 5.0).abs() < 0.01, "the fifth was due at 6 µs, when room appeared");
    }

    #[test]
    fn false_acknowledgements_are_refused() {
        let mut session = Session::new(1, 64, 10);
        let mut meter = meter();
        session.took_off(3, 0);
        assert!(session.acknowledge(4, 1, &mut meter).is_err());
        session.acknowledge(2, 1, &mut meter).unwrap();
        assert!(session.acknowledge(2, 1, &mut meter).is_err());
        assert_eq!(session.acknowledged(), 2);
    }
}
