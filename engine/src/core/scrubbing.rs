//! Looking for damage before somebody needs what is lost: the journal is read again, a little every second.
//!
//! What is damaged is still in memory where it matters, so the core goes on; but a restart would find it and
//! refuse. So whoever needs that part of the journal is helped to need it no longer: rings are saved, and what is
//! left is written down again, until the journal can be truncated past the place.

use std::time::Duration;

use annulus_rings::{Lsn, Time, reach};
use annulus_storage::Disk;
use annulus_transport::Network;

use super::Core;
use crate::clock::Clock;

/// How often reading is granted, at the most: an idle core is not woken for it.
const GRANT_INTERVAL: Duration = Duration::from_secs(1);

/// When reading is granted next.
#[derive(Default)]
pub(crate) struct Scrubbing {
    next: Time,
}

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Grants the journal another second's worth of reading, and makes up for what it has found.
    pub(super) fn scrub(&mut self, now: Time) {
        let bytes = self.options.scrub_bytes_per_second;
        if bytes == 0 || now < self.scrubbing.next {
            return;
        }
        self.scrubbing.next = now + GRANT_INTERVAL;
        self.journal.scrub(bytes);
        let damaged = self.journal.damage().iter().map(|place| place.after.next()).max();
        if let Some(lsn) = damaged {
            reach!(DAMAGE_OUTLIVED);
            self.let_go(Lsn(lsn.0), now);
        }
    }
}
