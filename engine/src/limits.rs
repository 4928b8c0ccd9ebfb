//! What this process may use of the machine.
#![allow(unsafe_code)]

/// Bytes that the process may lock in memory.
pub(crate) fn memlock_bytes_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the `rlimit` that lives on this stack.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if status == 0 { limit.rlim_cur } else { u64::MAX }
}

/// The CPUs that this process may run on, ascending.
pub(crate) fn cpus_allowed() -> Vec<usize> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_cpu_and_some_memory_to_lock() {
        assert!(!cpus_allowed().is_empty() && memlock_bytes_max() > 0);
    }
}
