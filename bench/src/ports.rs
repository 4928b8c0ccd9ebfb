//! Free ports on 127.0.0.1 that stay free while replicas are down.
//!
//! A port that the kernel picks lies in the range from which it also takes the source ports of outgoing
//! connections: while a killed replica is down, a peer that dials it could be given the very port. So
//! ports are taken from below that range.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::{fs, io};

/// Below this, ports belong to well-known services.
const FIRST_PORT: u16 = 10_000;
/// The kernel's default, where it does not tell.
const EPHEMERAL_PORT_MIN: u16 = 32_768;

/// `count` addresses that nobody listens on. All are held until the last is known, so no two are equal.
pub(crate) fn reserve(count: usize) -> io::Result<Vec<SocketAddr>> {
    let end = ephemeral_port_min().max(FIRST_PORT + 1000);
    let range = u32::from(end - FIRST_PORT);
    // Two benchmarks at the same time begin in different places.
    let start = std::process::id().wrapping_mul(7919) % range;
    let ports = (0..range).map(|offset| FIRST_PORT + ((start + offset) % range) as u16);
    let bound = ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let listeners: Vec<TcpListener> = bound.take(count).collect();
    if listeners.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{count} ports are needed")));
    }
    listeners.iter().map(TcpListener::local_addr).collect()
}

fn ephemeral_port_min() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(EPHEMERAL_PORT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_differ_and_no_outgoing_connection_is_given_one() {
        let mut ports: Vec<u16> = reserve(20).unwrap().iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|&port| port < ephemeral_port_min().max(FIRST_PORT + 1000)));
    }
}
