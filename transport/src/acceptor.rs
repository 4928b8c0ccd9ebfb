//! Listens, and leads visitors through the handshake: one thread, no blocking, bounded in everything.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::Established;
use crate::fabric::Control;
use crate::handshake::{Greeted, Progress, Visitor};
use crate::hello::Hello;
use crate::readiness::{Interest, Readiness, Token};
use crate::refusal::Refusal;
use crate::wake::Wake;

/// Visitors whose handshake is not complete. Beyond them the oldest is given up, so that silent
/// strangers cannot keep a peer out.
const VISITORS_MAX: usize = 64;
/// Connections taken from the listener before the visitors are looked at again.
const VISITS_PER_TURN_MAX: usize = 32;
/// After the process ran out of descriptors, it listens again so much later.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
const READINESS_ENTRIES: u32 = 128;

pub(crate) struct Acceptor {
    control: Arc<Control>,
    wake: Wake,
    listener: TcpListener,
    listening: Token,
    readiness: Readiness,
    /// In the order they came.
    visitors: Vec<(Token, Visitor)>,
    paused_until: Option<Instant>,
}

impl Acceptor {
    /// An acceptor of the calling thread.
    pub(crate) fn new(control: Arc<Control>, wake: Wake, listener: TcpListener) -> io::Result<Acceptor> {
        listener.set_nonblocking(true)?;
        let mut readiness = Readiness::new(READINESS_ENTRIES)?;
        readiness.register_wake(wake.fd())?;
        let listening = readiness.add(listener.as_raw_fd());
        Ok(Acceptor {
            control,
            wake,
            listener,
            listening,
            readiness,
            visitors: Vec::new(),
            paused_until: None,
        })
    }

    /// Runs until the fabric stops.
    ///
    /// # Errors
    /// Its `io_uring` failed: no peer can connect any more.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut result = Ok(());
        while result.is_ok() && !self.control.is_stopped() {
            ready.clear();
            result = self.turn(&mut ready);
        }
        // Else the kernel would keep the port for as long as it takes the ring apart.
        let _ = self.readiness.remove(self.listening);
        result
    }

    fn turn(&mut self, ready: &mut Vec<Token>) -> io::Result<()> {
        self.readiness.poll(ready)?;
        if ready.contains(&self.listening) {
            self.welcome()?;
        }
        for token in ready.iter() {
            self.advance(*token)?;
        }
        self.expire()?;
        self.sleep()
    }

    /// Takes new connections from the listener.
    fn welcome(&mut self) -> io::Result<()> {
        for _ in 0..VISITS_PER_TURN_MAX {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    self.control.report.visited();
                    if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                        continue;
                    }
                    if self.visitors.len() >= VISITORS_MAX {
                        self.refuse(0, Refusal::Crowded, None)?;
                    }
                    let token = self.readiness.add(stream.as_raw_fd());
                    let deadline = Instant::now() + self.control.options.handshake_timeout;
                    self.visitors.push((token, Visitor::new(stream, deadline)));
                    self.advance(token)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    tracing::error!(%error, "cannot accept connections: raise `ulimit -n`");
                    self.paused_until = Some(Instant::now() + EXHAUSTED_PAUSE);
                    break;
                }
                // The visitor was gone before it was taken.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn advance(&mut self, token: Token) -> io::Result<()> {
        let Some(index) = self.visitors.iter().position(|(other, _)| *other == token) else { return Ok(()) };
        let control = &self.control;
        let admits = |hello: &Hello| {
            let held = control.links.is_held_by_another(hello.node, hello.core, hello.instance);
            if held { Err(Refusal::StillConnected) } else { Ok(()) }
        };
        match self.visitors[index].1.advance(&control.identity, admits) {
            Progress::Waiting => Ok(()),
            Progress::Complete(greeted) => self.hand_over(index, greeted),
            Progress::Refused(refusal, hello) => self.refuse(index, refusal, hello),
            Progress::Gone => self.dismiss(index).map(drop),
        }
    }

    fn hand_over(&mut self, index: usize, greeted: Greeted) -> io::Result<()> {
        let Greeted { peer, incarnation, instance, core } = greeted;
        let Visitor { stream, .. } = self.dismiss(index)?;
        let taken = self.control.links.hand_over(core, instance, |serial| Established {
            peer,
            incarnation,
            serial,
            stream,
        });
        if taken {
            self.control.report.established(peer);
        } else {
            self.control.report.refused(Some(peer), &peer, Refusal::CoreBusy);
        }
        Ok(())
    }

    fn refuse(&mut self, index: usize, refusal: Refusal, hello: Option<Hello>) -> io::Result<()> {
        let visitor = self.dismiss(index)?;
        let identity = &self.control.identity;
        // Only a hello of our cluster says anything about a peer of ours.
        let peer = hello
            .filter(|hello| hello.cluster == identity.cluster)
            .map(|hello| hello.node)
            .filter(|node| identity.peers.contains(node));
        match visitor.stream.peer_addr() {
            Ok(address) => self.control.report.refused(peer, &address.ip(), refusal),
            Err(_) => self.control.report.refused(peer, &"an unknown address", refusal),
        }
        Ok(())
    }

    fn dismiss(&mut self, index: usize) -> io::Result<Visitor> {
        let (token, visitor) = self.visitors.remove(index);
        self.readiness.remove(token)?;
        Ok(visitor)
    }

    /// Gives up visitors that took too long.
    fn expire(&mut self) -> io::Result<()> {
        let now = Instant::now();
        // All have the same patience, so the first is the next to expire.
        while self.visitors.first().is_some_and(|(_, visitor)| visitor.deadline <= now) {
            self.refuse(0, Refusal::TimedOut, None)?;
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        Ok(())
    }

    fn sleep(&mut self) -> io::Result<()> {
        self.wake.prepare();
        if self.paused_until.is_none() {
            self.readiness.arm(self.listening, Interest::Readable)?;
        }
        for (token, _) in &self.visitors {
            self.readiness.arm(*token, Interest::Readable)?;
        }
        self.readiness.submit()?;
        if self.readiness.is_pending() || self.control.is_stopped() {
            self.wake.resume();
            return Ok(());
        }
        let expiry = self.visitors.first().map(|(_, visitor)| visitor.deadline);
        let deadline = expiry.into_iter().chain(self.paused_until).min();
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.wake.wait(timeout);
        Ok(())
    }
}
