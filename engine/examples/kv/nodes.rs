//! The cluster as its clients see it: which node has which address, and who serves them now.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use annulus::NodeId;

use crate::hash_slot::HASH_SLOTS;
use crate::reply;

/// Where every node serves clients.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    /// This node.
    pub(crate) this: NodeId,
    addresses: BTreeMap<NodeId, Address>,
}

/// A host, by name or number, and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Nodes {
    /// The cluster as node `this` knows it.
    pub(crate) fn new(this: NodeId, addresses: impl IntoIterator<Item = (NodeId, Address)>) -> Nodes {
        Nodes { this, addresses: addresses.into_iter().collect() }
    }

    /// Where `node` serves clients.
    pub(crate) fn address(&self, node: NodeId) -> Option<&Address> {
        self.addresses.get(&node)
    }

    /// Sends a client to the leader. `key` is what its command is about, if anything.
    pub(crate) fn redirect(&self, hash_slot: u16, leader: Option<NodeId>, out: &mut Vec<u8>) {
        match leader.filter(|&leader| leader != self.this).and_then(|leader| self.address(leader)) {
            Some(address) => reply::error(out, format!("MOVED {hash_slot} {address}").as_bytes()),
            None => reply::error(out, b"CLUSTERDOWN The cluster is down: no leader is known, try again"),
        }
    }

    /// `CLUSTER SLOTS`: one range of all slots, its leader first; nothing while no leader is known.
    pub(crate) fn write_slots(&self, leader: Option<NodeId>, out: &mut Vec<u8>) {
        let Some((leader, first)) = leader.and_then(|leader| Some((leader, self.address(leader)?))) else {
            return reply::array(out, 0);
        };
        let others = self
            .addresses
            .iter()
            .filter(|&(&node, _)| node != leader)
            .map(|(&node, address)| (node, address));
        reply::array(out, 1);
        reply::array(out, 2 + self.addresses.len());
        reply::integer(out, 0);
        reply::integer(out, i64::from(HASH_SLOTS) - 1);
        for (node, address) in std::iter::once((leader, first)).chain(others) {
            reply::array(out, 3);
            reply::bulk(out, address.host.as_bytes());
            reply::integer(out, i64::from(address.port));
            reply::bulk(out, cluster_name(node).as_bytes());
        }
    }
}

/// The name of a node in the form that clients of Redis Cluster expect: 40 hexadecimal digits.
pub(crate) fn cluster_name(node: NodeId) -> String {
    let mut name = String::new();
    write!(name, "{:040x}", node.0).expect("a string takes everything");
    name
}

/// An address that is not `host:port`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoAddress;

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Address, NoAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(NoAddress)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|&port| port > 0).ok_or(NoAddress)?;
        if host.is_empty() { Err(NoAddress) } else { Ok(Address { host: host.to_owned(), port }) }
    }
}

impl Address {
    /// As a resolver wants it: an IPv6 address in brackets.
    pub(crate) fn to_dial(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { self.to_string() }
    }
}

/// As `-MOVED` states it: an IPv6 address has no brackets there.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes {
        let address = |port| Address { host: "127.0.0.1".to_owned(), port };
        Nodes::new(NodeId(1), [(NodeId(1), address(6401)), (NodeId(2), address(6402))])
    }

    fn redirection(leader: Option<NodeId>) -> String {
        let mut out = Vec::new();
        nodes().redirect(12182, leader, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_client_is_sent_to_the_leader_that_is_known() {
        assert_eq!(redirection(Some(NodeId(2))), "-MOVED 12182 127.0.0.1:6402\r\n");
        for unknown in [None, Some(NodeId(9)), Some(NodeId(1))] {
            assert!(redirection(unknown).starts_with("-CLUSTERDOWN The cluster is down"));
        }
    }

    #[test]
    fn all_slots_belong_to_the_leader() {
        let mut out = Vec::new();
        nodes().write_slots(Some(NodeId(2)), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("*1\r\n*4\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:6402\r\n$40\r\n"),
            "{text}"
        );
    }

    #[test]
    fn addresses_are_a_host_and_a_port() {
        let parsed: Address = "[::1]:6401".parse().unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port), ("::1", 6401));
        assert_eq!((parsed.to_string().as_str(), parsed.to_dial().as_str()), ("::1:6401", "[::1]:6401"));
        for bad in ["", "6401", ":6401", "host:", "host:0", "host:65536"] {
            assert_eq!(bad.parse::<Address>(), Err(NoAddress), "{bad}");
        }
    }
}
