//! The handshake, from the side that listens: whatever a stranger says, and in whatever pieces.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};

use crate::edits::{Edits, Script};
use crate::handshake::{Identity, Progress, Visitor};
use crate::hello::{HANDSHAKE_VERSION, HELLO_BYTES, Hello, Step};
use crate::refusal::Refusal;
use crate::{Target, seal};

/// What arrives, one hello after the other: edits of one that is in order, sealed again or not, with the
/// nonce that the other side drew where the input wants to know it.
pub const HANDSHAKE: Target =
    Target { name: "handshake", run, beginnings, bytes_per_byte: 64, bytes_fixed: 4 << 10 };

const HELLOS_MAX: usize = 5;
/// Where a hello has the nonce of the other side.
const ECHO: Range<usize> = 96..104;

fn beginnings() -> Vec<Vec<u8>> {
    vec![vec![0, 8], vec![1, 8], vec![0, 0, 0, 0, 0, 8]]
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let Ok((mut stranger, ours)) = UnixStream::pair() else { return };
    let is_ready = stranger.set_nonblocking(true).and_then(|()| ours.set_nonblocking(true));
    is_ready.expect("sockets can be made non-blocking");
    // A stream socket of another family, without a port of its own.
    let mut visitor = Visitor::new(TcpStream::from(OwnedFd::from(ours)), Instant::now());
    let identity = Identity {
        cluster: ClusterId(7),
        node: NodeId(2),
        incarnation: Incarnation(1),
        cores: 4,
        instance: 5,
        peers: vec![NodeId(1), NodeId(3)],
    };
    let is_crowded = script.byte() & 1 != 0;
    let admits = |_: &Hello| if is_crowded { Err(Refusal::Crowded) } else { Ok(()) };
    let mut nonce = None;
    for _ in 0..HELLOS_MAX {
        let bytes = hello(&mut script, nonce);
        let cut = script.number() % (bytes.len() + 1);
        for part in [&bytes[..cut], &bytes[cut..]] {
            stranger.write_all(part).expect("the buffer of a socket takes a hello");
            match visitor.advance(&identity, admits) {
                Progress::Waiting => {}
                Progress::Complete(greeted) => {
                    let nonce = nonce.expect("nobody is greeted who was not answered");
                    assert_eq!(bytes[ECHO], nonce.to_le_bytes(), "nobody is greeted who does not echo");
                    assert_eq!(greeted.peer, NodeId(1), "only a lower id dials");
                    assert!(greeted.core < CoreId(4) && !is_crowded);
                    return;
                }
                Progress::Refused(..) | Progress::Gone => return,
            }
        }
        nonce = nonce.or(answered(&mut stranger));
    }
}

/// The next hello of the stranger, as bytes.
fn hello(script: &mut Script<'_>, nonce: Option<u64>) -> Vec<u8> {
    let what = script.byte();
    let step = match what & 3 {
        0 if nonce.is_none() => Step::Open,
        0 => Step::Confirm,
        1 => Step::Open,
        2 => Step::Answer,
        _ => Step::Refuse,
    };
    let hello = Hello {
        step,
        cluster: ClusterId(7),
        node: NodeId(1),
        incarnation: Incarnation(9),
        target: NodeId(2),
        version: HANDSHAKE_VERSION,
        features: 0,
        instance: 77,
        core: CoreId(3),
        cores: 4,
        nonce: 11,
        echo: nonce.filter(|_| what & 4 == 0).unwrap_or(0),
        refusal: None,
    };
    let mut bytes = hello.encode().as_bytes().to_vec();
    Edits::next(script, 8).apply(&mut bytes, &[0, 24, 80]);
    if what & 8 != 0 {
        seal::header(&mut bytes);
    }
    bytes
}

/// What the stranger was answered: a nonce, unless it was refused.
fn answered(stranger: &mut UnixStream) -> Option<u64> {
    let mut bytes = [0; 2 * HELLO_BYTES];
    let count = stranger.read(&mut bytes).ok()?;
    assert_eq!(count, HELLO_BYTES, "a hello is answered with a hello");
    let answer = Hello::decode(bytes.first_chunk().expect("room for two")).expect("an answer is in order");
    (answer.step == Step::Answer).then_some(answer.nonce)
}
