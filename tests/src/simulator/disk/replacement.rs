//! A disk that is replaced: by an empty one, or by a copy of what it was at an earlier moment.

use std::collections::BTreeMap;

use annulus_rings::Lsn;
use annulus_storage::SegmentId;

use super::block::Held;
use super::{Device, SimulatedDisk};
use crate::simulator::medium::Medium;

/// What a disk held at one moment.
pub(super) struct Backup {
    media: BTreeMap<SegmentId, Medium>,
    history: Vec<Held>,
    /// No record behind this position is in it.
    end: Lsn,
}

impl SimulatedDisk {
    /// An empty disk takes its place.
    pub(in super::super) fn wipe(&self) {
        let device = &mut *self.0.borrow_mut();
        device.replace(BTreeMap::new(), Vec::new());
        device.backup = None;
    }

    /// Copies a disk that is sound.
    pub(in super::super) fn back_up(&self) {
        let device = &mut *self.0.borrow_mut();
        if device.is_damaged {
            return;
        }
        let written = device.blocks.back().map(|block| block.held().last);
        let durable = device.history.last().map(|held| held.last);
        device.backup = Some(Backup {
            media: device.media.clone(),
            history: device.history.clone(),
            end: written.max(durable).unwrap_or_default(),
        });
    }

    /// The position behind which the copy holds nothing, where there is a copy.
    pub(in super::super) fn backed_up(&self) -> Option<Lsn> {
        self.0.borrow().backup.as_ref().map(|backup| backup.end)
    }

    /// The copy takes the place of the disk.
    pub(in super::super) fn restore(&self) {
        let device = &mut *self.0.borrow_mut();
        if let Some(Backup { media, history, .. }) = device.backup.take() {
            device.replace(media, history);
        }
    }
}

impl Device {
    /// The process is down, and nothing is in flight.
    fn replace(&mut self, media: BTreeMap<SegmentId, Medium>, history: Vec<Held>) {
        (self.media, self.history) = (media, history);
        self.blocks.clear();
        self.unlinked.clear();
        self.first_missing = None;
        self.is_damaged = true;
    }
}
