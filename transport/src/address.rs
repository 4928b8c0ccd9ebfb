//! Where a node listens.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// An address, or a name that is resolved again for every dial, so that a peer may move.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PeerAddress {
    /// A fixed address.
    Socket(SocketAddr),
    /// `host:port`.
    Name(String),
}

impl PeerAddress {
    /// The addresses that it stands for at the moment, at least one. May block on the resolver.
    ///
    /// # Errors
    /// The name is not `host:port`, or means nothing to the resolver.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            PeerAddress::Socket(address) => Ok(vec![*address]),
            PeerAddress::Name(name) => {
                let addresses: Vec<SocketAddr> = name.to_socket_addrs()?.collect();
                if addresses.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
                }
                Ok(addresses)
            }
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> PeerAddress {
        PeerAddress::Socket(address)
    }
}

impl From<&str> for PeerAddress {
    fn from(name: &str) -> PeerAddress {
        name.parse().map_or_else(|_| PeerAddress::Name(name.to_owned()), PeerAddress::Socket)
    }
}

impl From<String> for PeerAddress {
    fn from(name: String) -> PeerAddress {
        PeerAddress::from(name.as_str())
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Socket(address) => address.fmt(f),
            PeerAddress::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "it has no resolver")]
    fn a_numeric_address_is_not_resolved_and_a_name_is() {
        assert!(matches!(PeerAddress::from("127.0.0.1:80"), PeerAddress::Socket(_)));
        let name = PeerAddress::from("localhost:80");
        assert!(name.resolve().unwrap().iter().all(|address| address.ip().is_loopback()));
        assert!(PeerAddress::from("no port").resolve().is_err());
    }
}
