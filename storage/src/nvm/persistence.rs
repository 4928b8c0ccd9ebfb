//! Whether the processor's caches are part of what survives the loss of power (eADR).

use std::path::Path;

const NVDIMM_BUS: &str = "/sys/bus/nd/devices";

/// Whether every non-volatile memory of this machine says that caches are written back when power is lost: lines
/// need no flush then. In doubt, they do.
pub(crate) fn caches_persist() -> bool {
    all_persist(Path::new(NVDIMM_BUS))
}

fn all_persist(bus: &Path) -> bool {
    let Ok(devices) = std::fs::read_dir(bus) else { return false };
    let mut regions = 0;
    for device in devices.flatten() {
        if !device.file_name().to_string_lossy().starts_with("region") {
            continue;
        }
        let domain = std::fs::read_to_string(device.path().join("persistence_domain"));
        if domain.is_ok_and(|domain| domain.trim() == "cpu_cache") {
            regions += 1;
        } else {
            return false;
        }
    }
    regions > 0
}

// Not under Miri: it has no directories to list.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn caches_persist_only_where_every_region_says_so() {
        let bus = tempfile::tempdir().unwrap();
        let says = |region: &str, domain: &str| {
            let directory = bus.path().join(region);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("persistence_domain"), domain).unwrap();
        };
        assert!(!all_persist(bus.path()), "no region");
        says("region0", "cpu_cache\n");
        assert!(all_persist(bus.path()));
        says("namespace0.0", "anything");
        says("region1", "memory_controller\n");
        assert!(!all_persist(bus.path()), "one of two");
        assert!(!all_persist(&bus.path().join("none")));
    }
}
