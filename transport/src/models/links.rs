//! A connection that is handed over reaches its core, and one that is lost its dialer.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};

use super::{explore, park_until};
use crate::connection::Established;
use crate::links::{Links, TcpPort};
use crate::sync::thread;
use crate::wake::Wake;

const PEER: NodeId = NodeId(2);
const CORE: CoreId = CoreId(0);

fn links() -> (Arc<Links>, TcpPort) {
    let (links, mut ports) = Links::new(ClusterId(7), NodeId(1), vec![PEER], 1);
    (links, ports.remove(0))
}

/// A connection; what is at its other end does not matter here.
fn established(serial: u64) -> Established {
    let (near, _far) = UnixStream::pair().unwrap();
    Established {
        peer: PEER,
        incarnation: Incarnation(1),
        serial,
        stream: TcpStream::from(OwnedFd::from(near)),
    }
}

/// What `TcpNetwork` does about its port when its core parks, until there is a connection.
fn take(port: &TcpPort, wake: &Wake) -> Established {
    let mut taken = None;
    while taken.is_none() {
        park_until(wake, || {
            port.bell.disarm();
            taken = port.established.try_recv().ok();
            port.bell.arm();
            taken.is_some() || !port.established.is_empty()
        });
    }
    taken.expect("the loop ends with one")
}

#[test]
fn a_connection_wakes_the_core_that_it_is_for() {
    explore("links: a connection for a core that parks", 3, || {
        let (links, port) = links();
        let wake = Wake::new().unwrap();
        port.bell.connect(wake.fd()).unwrap();
        let control = thread::spawn(move || assert!(links.hand_over(CORE, 5, established)));
        assert_eq!(take(&port, &wake).serial, 1);
        control.join().unwrap();
    });
}

/// The core may lose a connection before the thread that handed it over has noted its number.
#[test]
fn a_dialer_learns_of_every_loss_without_a_timeout() {
    explore("links: a connection is lost at once", 3, || {
        let (links, port) = links();
        let dialer = {
            let links = Arc::clone(&links);
            thread::spawn(move || {
                links.dial_here(PEER);
                assert!(links.hand_over(CORE, 5, established));
                while links.is_up(PEER, CORE) {
                    thread::park();
                }
            })
        };
        let wake = Wake::new().unwrap();
        port.bell.connect(wake.fd()).unwrap();
        let taken = take(&port, &wake);
        links.lost(PEER, CORE, taken.serial);
        dialer.join().unwrap();
    });
}

#[test]
fn the_loss_of_an_old_connection_does_not_take_down_the_new_one() {
    explore("links: a connection replaces another", 3, || {
        let (links, port) = links();
        let acceptor = {
            let links = Arc::clone(&links);
            thread::spawn(move || {
                assert!(links.hand_over(CORE, 5, established));
                assert!(links.hand_over(CORE, 5, established));
            })
        };
        let wake = Wake::new().unwrap();
        port.bell.connect(wake.fd()).unwrap();
        let old = take(&port, &wake);
        let new = take(&port, &wake);
        links.lost(PEER, CORE, old.serial);
        acceptor.join().unwrap();
        assert!(links.is_up(PEER, CORE));
        links.lost(PEER, CORE, new.serial);
        assert!(!links.is_up(PEER, CORE));
    });
}
