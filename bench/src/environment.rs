//! The machine that the figures come from, and what makes them doubtful.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::configuration::{ClusterConfiguration, Journal, Transport};
use crate::process;

/// What figures depend on besides the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// The CPU's name.
    pub(crate) cpu: String,
    /// CPUs that this process may use.
    pub(crate) cores: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The file system of the journals.
    pub(crate) filesystem: String,
    /// The device under it.
    pub(crate) disk: String,
    /// `write back` or `write through`, as the device tells the kernel.
    pub(crate) disk_write_cache: String,
    /// Version and commit of this build.
    pub(crate) version: String,
    /// The commit, when it was built in a repository.
    pub(crate) commit: Option<String>,
    /// Whether contracts and overflow checks are on.
    pub(crate) debug_assertions: bool,
    /// Processes that wanted to run when the benchmark began, on average over a minute.
    pub(crate) load_average: f64,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    device: String,
    number: String,
}

impl Environment {
    /// Looks at this machine, with journals in `directory`.
    pub(crate) fn look(directory: &Path) -> Environment {
        let mount = mount_of(directory);
        let (filesystem, disk) = mount.as_ref().map_or_else(
            || (UNKNOWN.to_owned(), UNKNOWN.to_owned()),
            |mount| (mount.kind.clone(), mount.device.clone()),
        );
        Environment {
            cpu: cpu_name(),
            cores: process::allowed_cpus().len(),
            kernel: read_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| UNKNOWN.to_owned()),
            disk_write_cache: mount
                .and_then(|mount| write_cache(&mount))
                .unwrap_or_else(|| UNKNOWN.to_owned()),
            filesystem,
            disk,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("ANNULUS_COMMIT").map(str::to_owned),
            debug_assertions: cfg!(debug_assertions),
            load_average: load_average(),
        }
    }

    /// What a reader of the figures must know before believing them.
    pub(crate) fn warnings(&self, cluster: &ClusterConfiguration) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.debug_assertions {
            warnings.push(
                "debug assertions are on: figures of speed mean nothing; build with --release".to_owned(),
            );
        }
        match cluster.journal {
            Journal::File | Journal::Nvm => {}
            Journal::Memory => warnings.push(
                "the journal is VOLATILE memory: nothing survives, and no figure is a durable one".to_owned(),
            ),
            Journal::NvmEmulated => warnings.push(
                "the journal is nvm-emulated, VOLATILE: ordinary memory stands in for non-volatile, nothing \
                 survives, and no figure is a durable one"
                    .to_owned(),
            ),
            Journal::NvmBattery => warnings.push(
                "the journal is nvm-battery: whoever chose it says that a battery saves this memory; nothing \
                 verifies it"
                    .to_owned(),
            ),
        }
        if cluster.transport == Transport::Loopback {
            warnings.push(
                "all replicas are in one process and pass frames in memory: no network is measured"
                    .to_owned(),
            );
        }
        if self.load_average > BUSY_LOAD * self.cores as f64 {
            warnings.push(format!(
                "the machine is busy (load average {:.1} on {} CPUs): figures are lower and noisier than they \
                 could be",
                self.load_average, self.cores
            ));
        }
        warnings
    }
}

const UNKNOWN: &str = "unknown";
/// Per CPU: above this, others are at work.
const BUSY_LOAD: f64 = 0.5;

/// Whether what is written to `directory` stays in memory.
pub(crate) fn is_in_memory(directory: &Path) -> bool {
    mount_of(directory).is_some_and(|mount| matches!(mount.kind.as_str(), "tmpfs" | "ramfs" | "hugetlbfs"))
}

fn mount_of(directory: &Path) -> Option<Mount> {
    let directory = directory.canonicalize().ok()?;
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounts = text.lines().filter_map(Mount::parse).filter(|mount| directory.starts_with(&mount.point));
    // Of two mounts on one point, the later hides the earlier.
    mounts.max_by_key(|mount| mount.point.as_os_str().len())
}

impl Mount {
    /// `36 35 98:0 /root /point options … - ext4 /dev/vda options`
    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let mut after = after.split(' ');
        Some(Mount {
            point: PathBuf::from(before.get(4)?.replace("\\040", " ")),
            kind: after.next()?.to_owned(),
            device: after.next()?.to_owned(),
            number: (*before.get(2)?).to_owned(),
        })
    }
}

/// A partition has no queue of its own: its disk has.
fn write_cache(mount: &Mount) -> Option<String> {
    let device = format!("/sys/dev/block/{}", mount.number);
    let of = |parent: &str| read_line(&format!("{device}/{parent}queue/write_cache"));
    of("").or_else(|| of("../"))
}

fn cpu_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn load_average() -> f64 {
    let first = |text: String| text.split(' ').next()?.parse().ok();
    read_line("/proc/loadavg").and_then(first).unwrap_or(0.0)
}

fn read_line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_understood() {
        let line = "36 35 98:0 / /mnt/my\\040disk rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt/my disk"));
        assert_eq!(
            (mount.kind.as_str(), mount.device.as_str(), mount.number.as_str()),
            ("ext4", "/dev/sda1", "98:0")
        );
    }

    #[test]
    fn shared_memory_is_known_to_be_memory() {
        assert!(is_in_memory(Path::new("/dev/shm")));
        assert!(!is_in_memory(Path::new("/proc")));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let environment = Environment::look(Path::new("."));
        assert!(
            environment.cores > 0 && !environment.kernel.is_empty() && !environment.filesystem.is_empty()
        );
    }
}
