//! The handshake of a connection, from both ends.
//!
//! Nothing is believed before it is complete, and nothing is sized by what a stranger says: each side
//! reads exactly the bytes of the hello that it waits for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};

use crate::hello::{HANDSHAKE_VERSION, HELLO_BYTES, Hello, Step};
use crate::refusal::{Problem, Refusal};

/// Who this node is, and whom it talks to.
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) cores: u16,
    /// Drawn when the process started: tells it from an earlier one with the same id.
    pub(crate) instance: u64,
    /// Every other node, ascending.
    pub(crate) peers: Vec<NodeId>,
}

/// A peer that went through the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Greeted {
    pub(crate) peer: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) instance: u64,
    pub(crate) core: CoreId,
}

/// A number that nobody can foresee.
pub(crate) fn draw_nonce() -> io::Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

impl Identity {
    fn hello(&self, step: Step, target: NodeId, core: CoreId) -> Hello {
        Hello {
            step,
            cluster: self.cluster,
            node: self.node,
            incarnation: self.incarnation,
            target,
            version: HANDSHAKE_VERSION,
            features: 0,
            instance: self.instance,
            core,
            cores: self.cores,
            nonce: 0,
            echo: 0,
            refusal: None,
        }
    }

    /// Whether the speaker of `hello` is one of us. The widest disagreement is named first.
    fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.cluster != self.cluster {
            return Err(Refusal::WrongCluster);
        }
        if hello.node == self.node {
            return Err(Refusal::OwnId);
        }
        if self.peers.binary_search(&hello.node).is_err() {
            return Err(Refusal::UnknownNode);
        }
        if hello.target != self.node {
            return Err(Refusal::WrongNode);
        }
        if hello.cores != self.cores || hello.core.0 >= self.cores {
            return Err(Refusal::WrongCores);
        }
        Ok(())
    }
}

/// Greets the node that was dialled, for one core. Blocks until `deadline` at the most.
pub(crate) fn greet(
    identity: &Identity,
    stream: &mut TcpStream,
    target: NodeId,
    core: CoreId,
    deadline: Instant,
) -> Result<Greeted, Problem> {
    let broken = |error: io::Error| Problem::Handshake(error.kind());
    let open = Hello { nonce: draw_nonce().map_err(broken)?, ..identity.hello(Step::Open, target, core) };
    stream.write_all(open.encode().as_bytes()).map_err(broken)?;

    let mut bytes = [0; HELLO_BYTES];
    read_until(stream, &mut bytes, deadline)?;
    let answer = Hello::decode(&bytes)?;
    if answer.echo != open.nonce {
        return Err(Refusal::Replayed.into());
    }
    if let (Step::Refuse, Some(refusal)) = (answer.step, answer.refusal) {
        return Err(Problem::RefusedByPeer(refusal));
    }
    identity.judge(&answer)?;
    if answer.node != target || answer.core != core {
        return Err(Refusal::WrongNode.into());
    }
    if answer.step != Step::Answer {
        return Err(Refusal::Garbage.into());
    }

    let confirm = Hello { step: Step::Confirm, echo: answer.nonce, ..open };
    stream.write_all(confirm.encode().as_bytes()).map_err(broken)?;
    Ok(Greeted { peer: target, incarnation: answer.incarnation, instance: answer.instance, core })
}

/// Fills `bytes` from a blocking socket, however slowly the other side sends, until `deadline`.
fn read_until(stream: &mut TcpStream, bytes: &mut [u8], deadline: Instant) -> Result<(), Problem> {
    let broken = |error: io::Error| Problem::Handshake(error.kind());
    let mut filled = 0;
    while filled < bytes.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal::TimedOut.into());
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).map_err(broken)?;
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Err(Problem::Handshake(io::ErrorKind::UnexpectedEof)),
            Ok(count) => filled += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(broken(error)),
        }
    }
    Ok(())
}

/// A handshake that the other side opened. It never blocks: it is advanced when its socket is readable.
pub(crate) struct Visitor {
    pub(crate) stream: TcpStream,
    pub(crate) deadline: Instant,
    bytes: [u8; HELLO_BYTES],
    filled: usize,
    /// The opening hello and the nonce of our answer, once we have answered.
    answered: Option<(Hello, u64)>,
}

/// Where a visitor's handshake stands.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It waits for bytes.
    Waiting,
    /// It is complete.
    Complete(Greeted),
    /// It ends here. Known is the visitor's own claim of who it is.
    Refused(Refusal, Option<Hello>),
    /// The other side went away.
    Gone,
}

impl Visitor {
    /// A visitor on a non-blocking socket.
    pub(crate) fn new(stream: TcpStream, deadline: Instant) -> Visitor {
        Visitor { stream, deadline, bytes: [0; HELLO_BYTES], filled: 0, answered: None }
    }

    /// Takes what has arrived. `admits` has the last word about a hello that is in order.
    pub(crate) fn advance(
        &mut self,
        identity: &Identity,
        admits: impl Fn(&Hello) -> Result<(), Refusal>,
    ) -> Progress {
        loop {
            match self.stream.read(&mut self.bytes[self.filled..]) {
                Ok(0) => return Progress::Gone,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Progress::Gone,
            }
            if self.filled == HELLO_BYTES {
                self.filled = 0;
                match self.heard(identity, &admits) {
                    Progress::Waiting => {}
                    end => return end,
                }
            }
        }
    }

    fn heard(&mut self, identity: &Identity, admits: impl Fn(&Hello) -> Result<(), Refusal>) -> Progress {
        let hello = match Hello::decode(&self.bytes) {
            Ok(hello) => hello,
            Err(refusal) => {
                // Any hello of ours tells a node of another version what is wrong; others get no answer.
                if refusal == Refusal::Version {
                    let hello = identity.hello(Step::Refuse, NodeId(0), CoreId(0));
                    self.refuse(Hello { refusal: Some(refusal), ..hello });
                }
                return Progress::Refused(refusal, None);
            }
        };
        match self.answered {
            None => match judge_open(identity, &hello).and_then(|()| admits(&hello)) {
                Ok(()) => self.answer(identity, hello),
                Err(refusal) => {
                    let refuse = identity.hello(Step::Refuse, hello.node, hello.core);
                    self.refuse(Hello { echo: hello.nonce, refusal: Some(refusal), ..refuse });
                    Progress::Refused(refusal, Some(hello))
                }
            },
            Some((open, nonce)) => match judge_confirm(&hello, &open, nonce) {
                Ok(greeted) => Progress::Complete(greeted),
                Err(refusal) => Progress::Refused(refusal, Some(hello)),
            },
        }
    }

    fn answer(&mut self, identity: &Identity, open: Hello) -> Progress {
        let Ok(nonce) = draw_nonce() else { return Progress::Gone };
        let answer = Hello { nonce, echo: open.nonce, ..identity.hello(Step::Answer, open.node, open.core) };
        // The buffer of a fresh socket takes a hello whole.
        if self.stream.write_all(answer.encode().as_bytes()).is_err() {
            return Progress::Gone;
        }
        self.answered = Some((open, nonce));
        Progress::Waiting
    }

    /// Tells the other side why, as well as it goes.
    fn refuse(&mut self, refuse: Hello) {
        let _ = self.stream.write_all(refuse.encode().as_bytes());
    }
}

fn judge_open(identity: &Identity, open: &Hello) -> Result<(), Refusal> {
    if open.step != Step::Open {
        return Err(Refusal::Garbage);
    }
    identity.judge(open)?;
    // One side dials, so that two nodes never hold two connections for one core.
    if open.node > identity.node { Err(Refusal::WrongDirection) } else { Ok(()) }
}

/// The dialer repeats its opening and echoes our nonce, which a recording cannot.
fn judge_confirm(confirm: &Hello, open: &Hello, nonce: u64) -> Result<Greeted, Refusal> {
    if confirm.step != Step::Confirm || confirm.echo != nonce {
        return Err(Refusal::Replayed);
    }
    if *confirm != (Hello { step: Step::Confirm, echo: nonce, ..*open }) {
        return Err(Refusal::Garbage);
    }
    let Hello { node, incarnation, instance, core, .. } = *open;
    Ok(Greeted { peer: node, incarnation, instance, core })
}
