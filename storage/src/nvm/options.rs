//! What a journal on non-volatile memory is told.

use std::path::PathBuf;

use crate::disk::DiskKind;

/// What keeps the memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum NvmBacking {
    /// Non-volatile memory under a file system with DAX. Anything else is refused.
    #[default]
    Dax,
    /// Memory that a battery saves when power is lost. Nothing can verify it: whoever says so answers for it.
    Battery,
    /// Ordinary memory: **volatile**.
    Emulated,
}

impl NvmBacking {
    /// What the device is called in every output.
    pub fn kind(self) -> DiskKind {
        match self {
            NvmBacking::Dax => DiskKind::Nvm,
            NvmBacking::Battery => DiskKind::NvmBattery,
            NvmBacking::Emulated => DiskKind::NvmEmulated,
        }
    }
}

/// Where the region of a core is, and how large.
#[derive(Clone, Debug)]
pub struct NvmOptions {
    /// What keeps it.
    pub backing: NvmBacking,
    /// The directory of the regions of all cores, `core-<i>.nvm`. None: each is in its core's directory.
    pub directory: Option<PathBuf>,
    /// The size of a new region. It is reserved at once; one that exists keeps the size it was made with.
    pub region_bytes: u64,
}

impl Default for NvmOptions {
    fn default() -> NvmOptions {
        NvmOptions { backing: NvmBacking::default(), directory: None, region_bytes: 1 << 30 }
    }
}
