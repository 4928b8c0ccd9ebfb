//! Why nodes do not connect.

use std::io;

use annulus_rings::frame::VERSION;

use crate::hello::HANDSHAKE_VERSION;

macro_rules! refusals {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $message:expr;)*) => {
        /// Why a handshake was refused. The code travels to the other side, so that both operators see it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, thiserror::Error)]
        #[repr(u8)]
        pub enum Refusal {
            $($(#[doc = $doc])* #[error("{}", $message)] $name = $code,)*
        }

        impl Refusal {
            /// Every reason.
            pub const ALL: &[Refusal] = &[$(Refusal::$name),*];
        }
    };
}

refusals! {
    /// What came is no hello.
    Garbage = 1, "what arrived is no handshake of annulus: another program uses this port or that address";
    /// Another version of frames or handshake.
    Version = 2, format_args!(
        "another version: this build speaks frames {VERSION} and handshake {HANDSHAKE_VERSION}; upgrade the older node");
    /// Another cluster.
    WrongCluster = 3, "the nodes belong to different clusters: check the cluster id and the addresses of the peers";
    /// A node that is not in the list of peers.
    UnknownNode = 4, "the node is not in the list of peers: every node needs the same list";
    /// The hello carries the id of the node that received it.
    OwnId = 5, "two nodes have the same id, or a peer's address is the node's own: ids are unique in a cluster";
    /// The hello is meant for another node.
    WrongNode = 6, "another node than expected is at that address: check which address belongs to which node id";
    /// Another number of cores, or a core beyond it.
    WrongCores = 7, "the nodes have different numbers of cores: ring placement needs the same number on every node";
    /// The node with the higher id dialled.
    WrongDirection = 8, "the node with the lower id dials: the nodes disagree about the list of peers";
    /// Another process holds the connection of this node and core.
    StillConnected = 9, "another process with this node id is still connected: it is about to be noticed as gone, \
        or two processes share the id";
    /// The echoed nonce is not the one that was sent.
    Replayed = 10, "the echoed nonce is wrong: the handshake was recorded earlier and played again";
    /// The core takes no more connections.
    CoreBusy = 11, "the core takes no connection at the moment: it is stalled or not started yet";
    /// The handshake was not finished in time.
    TimedOut = 12, "the handshake was not finished in time";
    /// Newer connections pushed this one out.
    Crowded = 13, "too many unfinished handshakes at once: the oldest was given up";
}

impl Refusal {
    /// The reason of a code, if it names one.
    pub(crate) fn from_code(code: u64) -> Option<Refusal> {
        Refusal::ALL.iter().copied().find(|refusal| *refusal as u64 == code)
    }
}

/// Why there is no connection to a peer, as its operator needs to know.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    /// Its name means nothing to the resolver.
    #[error("cannot resolve the address: {0}")]
    Resolve(String),
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    /// The connection broke during the handshake.
    #[error("the handshake broke off: {0}")]
    Handshake(io::ErrorKind),
    /// This node refused the other.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The other refused this node.
    #[error("the peer refuses: {0}")]
    RefusedByPeer(Refusal),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem::Refused(refusal)
    }
}
