//! What the kernel knows of a process: CPU time spent, CPUs allowed.

use std::time::Duration;
use std::{fs, io};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The unit of CPU times in `/proc`: `USER_HZ`, which is 100 on every Linux that Rust knows.
const TICK: Duration = Duration::from_millis(10);
/// Where `utime` and `stime` stand among the fields of `/proc/<pid>/stat` that follow the name.
const USER_FIELD: usize = 11;
const SYSTEM_FIELD: usize = 12;

/// CPU time of process `pid`, user and system, all threads: those that ended too.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    cpu_time_of(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the fields of /proc/<pid>/stat"))
}

fn cpu_time_of(stat: &str) -> Option<Duration> {
    // The name stands in parentheses and may hold anything, parentheses and spaces too.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(TICK * (ticks(USER_FIELD)? + ticks(SYSTEM_FIELD)?))
}

/// The CPUs that this process may use.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Pins the calling thread to `cpus`.
pub(crate) fn pin_this_thread(cpus: &[usize]) -> io::Result<()> {
    Ok(sched_setaffinity(None, &cpu_set(cpus))?)
}

/// Pins every thread of process `pid` that is pinned already from the CPUs `from` to the CPUs `to`.
pub(crate) fn move_threads(pid: u32, from: &[usize], to: &[usize]) -> io::Result<()> {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = entry?.file_name();
        let thread = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(thread) = thread else { continue };
        // A thread that ended meanwhile needs no CPU.
        let Ok(set) = sched_getaffinity(Some(thread)) else { continue };
        let place = from.iter().position(|&cpu| set.is_set(cpu) && set.count() == 1);
        if let Some(&cpu) = place.and_then(|place| to.get(place)) {
            sched_setaffinity(Some(thread), &cpu_set(&[cpu]))?;
        }
    }
    Ok(())
}

fn cpu_set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15";
        assert_eq!(cpu_time_of(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_has_used_the_cpu() {
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(!allowed_cpus().is_empty());
    }
}
