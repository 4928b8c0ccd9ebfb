//! Keeps the connections to one peer alive: dials, greets, hands over, and sleeps.
//!
//! A thread per dialled peer, so that one peer's dead address or slow resolver delays no other.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use annulus_rings::{CoreId, NodeId};

use crate::address::PeerAddress;
use crate::backoff::Backoff;
use crate::connection::Established;
use crate::fabric::Control;
use crate::handshake;
use crate::refusal::{Problem, Refusal};

/// Sleeping longer than this without a signal would only hide a lost one.
const SLEEP_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Dialer {
    control: Arc<Control>,
    peer: NodeId,
    address: PeerAddress,
    /// By core.
    lines: Vec<Line>,
}

/// The attempts of one core.
struct Line {
    backoff: Backoff,
    /// When the next attempt is due; `None` while the connection stands.
    due: Option<Instant>,
}

impl Dialer {
    pub(crate) fn new(control: Arc<Control>, peer: NodeId, address: PeerAddress) -> Dialer {
        let options = &control.options;
        let now = Instant::now();
        let lines = (0..options.cores)
            .map(|core| {
                let seed = control.identity.instance ^ u64::from(peer.0) << 16 ^ u64::from(core) << 32;
                let backoff = Backoff::new(options.dial_delay_min, options.dial_delay_max, seed);
                Line { backoff, due: Some(now) }
            })
            .collect();
        Dialer { control, peer, address, lines }
    }

    /// Runs until the fabric stops.
    pub(crate) fn run(mut self) {
        self.control.links.dial_here(self.peer);
        while !self.control.is_stopped() {
            let mut wake_at = Instant::now() + SLEEP_MAX;
            for index in 0..self.lines.len() {
                self.tend(index);
                wake_at = self.lines[index].due.map_or(wake_at, |due| due.min(wake_at));
            }
            thread::park_timeout(wake_at.saturating_duration_since(Instant::now()));
        }
    }

    fn tend(&mut self, index: usize) {
        let core = CoreId(index as u16);
        let now = Instant::now();
        let line = &mut self.lines[index];
        if self.control.links.is_up(self.peer, core) {
            line.due = None;
            return;
        }
        // A connection that was just lost is dialled again after the shortest delay.
        let due = *line.due.get_or_insert_with(|| now + line.backoff.delay(now));
        if now < due || self.control.is_stopped() {
            return;
        }
        self.control.report.dialled();
        let result = self.dial(core);
        let line = &mut self.lines[index];
        let now = Instant::now();
        match result {
            Ok(()) => {
                line.backoff.succeeded(now);
                line.due = None;
                self.control.report.established(self.peer);
            }
            Err(problem) => {
                line.due = Some(now + line.backoff.delay(now));
                self.control.report.dial_failed(self.peer, &self.address, problem);
            }
        }
    }

    fn dial(&self, core: CoreId) -> Result<(), Problem> {
        let addresses = self.address.resolve().map_err(|error| Problem::Resolve(error.to_string()))?;
        let mut stream = self.connect(&addresses).map_err(|error| Problem::Connect(error.kind()))?;
        let options = &self.control.options;
        let deadline = Instant::now() + options.handshake_timeout;
        let broken = |error: io::Error| Problem::Handshake(error.kind());
        stream.set_nodelay(true).map_err(broken)?;
        stream.set_write_timeout(Some(options.handshake_timeout)).map_err(broken)?;
        let identity = &self.control.identity;
        let greeted = handshake::greet(identity, &mut stream, self.peer, core, deadline)?;
        stream.set_nonblocking(true).map_err(broken)?;
        let taken = self.control.links.hand_over(core, greeted.instance, |serial| Established {
            peer: greeted.peer,
            incarnation: greeted.incarnation,
            serial,
            stream,
        });
        if taken { Ok(()) } else { Err(Refusal::CoreBusy.into()) }
    }

    /// The first of the addresses that answers.
    fn connect(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let timeout = self.control.options.dial_timeout;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect_timeout(address, timeout) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
