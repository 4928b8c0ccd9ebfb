//! How a thread of the benchmark waits: as the engine does. Spin briefly, giving way to others, then park.

use std::time::Duration;

/// Decides between spinning and parking.
pub(crate) struct Patience {
    spin_ns: u64,
    idle_since_ns: Option<u64>,
}

impl Patience {
    /// Spins for `spin` before parking.
    pub(crate) fn new(spin: Duration) -> Patience {
        Patience { spin_ns: spin.as_nanos() as u64, idle_since_ns: None }
    }

    /// There was work.
    pub(crate) fn worked(&mut self) {
        self.idle_since_ns = None;
    }

    /// There was nothing to do at `now_ns`. True when it is time to park; otherwise it has given way once.
    pub(crate) fn is_over(&mut self, now_ns: u64) -> bool {
        let since_ns = *self.idle_since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) >= self.spin_ns {
            return true;
        }
        std::thread::yield_now();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_after_its_time_and_starts_again_with_work() {
        let mut patience = Patience::new(Duration::from_micros(30));
        assert!(!patience.is_over(1_000));
        assert!(!patience.is_over(30_999));
        assert!(patience.is_over(31_000));
        patience.worked();
        assert!(!patience.is_over(99_000));
    }

    #[test]
    fn without_spinning_it_parks_at_once() {
        assert!(Patience::new(Duration::ZERO).is_over(0));
    }
}
