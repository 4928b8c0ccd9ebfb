//! How long to wait before trying again.

use std::time::{Duration, Instant};

/// Doubles from try to try, with jitter, so that the peers of a restarted node do not dial in step.
pub(crate) struct Backoff {
    delay_min: Duration,
    delay_max: Duration,
    tries: u32,
    succeeded: Option<Instant>,
    seed: u64,
}

impl Backoff {
    /// Delays between `delay_min` and `delay_max`; `seed` is not zero and differs between dialers.
    pub(crate) fn new(delay_min: Duration, delay_max: Duration, seed: u64) -> Backoff {
        Backoff { delay_min, delay_max, tries: 0, succeeded: None, seed: seed | 1 }
    }

    /// A try succeeded. Only when the success lasts does the next failure start from the shortest delay:
    /// a connection that is dropped as soon as it stands must not be dialled in a tight loop.
    pub(crate) fn succeeded(&mut self, now: Instant) {
        self.succeeded = Some(now);
    }

    /// How long to wait before the next try.
    pub(crate) fn delay(&mut self, now: Instant) -> Duration {
        if self.succeeded.take().is_some_and(|since| now.duration_since(since) > self.delay_max) {
            self.tries = 0;
        }
        let full = self.delay_min.saturating_mul(1 << self.tries.min(20)).min(self.delay_max);
        self.tries += 1;
        full.mul_f64(0.5 + 0.5 * self.fraction())
    }

    /// The next number of [0, 1) (xorshift64).
    fn fraction(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_within_their_bounds() {
        let now = Instant::now();
        let mut backoff = Backoff::new(MIN, MAX, 42);
        for attempt in 0..40 {
            let full = MIN.saturating_mul(1 << attempt.min(20)).min(MAX);
            let delay = backoff.delay(now);
            assert!(delay >= full / 2 && delay <= full, "try {attempt}: {delay:?} of {full:?}");
        }
    }

    #[test]
    fn only_a_lasting_success_starts_over() {
        let now = Instant::now();
        let mut backoff = Backoff::new(MIN, MAX, 42);
        for _ in 0..10 {
            backoff.delay(now);
        }
        backoff.succeeded(now);
        assert!(backoff.delay(now + MAX / 2) >= MAX / 2, "a short success changes nothing");
        backoff.succeeded(now);
        assert!(backoff.delay(now + 2 * MAX) <= MIN);
    }
}
