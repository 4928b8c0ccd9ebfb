//! A service for protocols over TCP: sockets, buffers and backpressure, so that a protocol only parses.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use annulus_transport::{Interest, Readiness, Token};
use rustix::net::sockopt;

use super::connection::{Connection, ConnectionId, Flow, Found};
use super::protocol::{Protocol, TcpServiceOptions};
use crate::{Completion, Local, Service, Time};

/// Serves a [`Protocol`] on a core. See [`Service`].
///
/// A connection that was active lately is read every turn by plain `recv`; one that was not waits in a
/// readiness set and costs nothing. Each is written once per turn.
pub struct TcpService<P: Protocol> {
    protocol: P,
    options: TcpServiceOptions,
    listener: TcpListener,
    listener_token: Token,
    accept_due: bool,
    /// Nobody is accepted before: the process was out of descriptors or memory.
    accept_rests_until: Option<Time>,
    readiness: Readiness,
    ready: Vec<Token>,
    connections: Vec<Entry<P::Connection>>,
    free: Vec<u16>,
    by_token: Vec<u16>,
    hot: Vec<u16>,
    dirty: Vec<u16>,
    connected: usize,
}

struct Entry<S> {
    generation: u16,
    connection: Option<Box<Connection<S>>>,
}

/// Changes of the readiness set between two submissions.
const READINESS_ENTRIES: u32 = 256;
/// Connections accepted in one turn.
const TURN_ACCEPTS_MAX: usize = 32;
/// Turns without input after which a connection is no longer looked at every turn: many while few are
/// looked at, few while many are.
const IDLE_TURNS: [(usize, u32); 3] = [(8, 256), (64, 16), (usize::MAX, 2)];

/// How long nobody is accepted after the process ran out of descriptors or memory: the listener stays
/// readable all that time, so waiting for it would be spinning.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// After this long without a word the kernel asks whether the client is still there, so often, in such
/// intervals: a client whose machine is gone gives its place back within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Makes a client's socket ready to be served.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    Ok(sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?)
}

/// Whether accepting failed because of one client, so that the next one may be accepted at once.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

impl<P: Protocol> TcpService<P> {
    /// Listens on an address. Call it on the core's thread: in the closure given to
    /// [`Builder::service`](crate::Builder::service).
    ///
    /// # Errors
    /// The address cannot be listened on, or there is no `io_uring`.
    pub fn bind(address: impl ToSocketAddrs, protocol: P) -> io::Result<TcpService<P>> {
        TcpService::bind_with(address, protocol, TcpServiceOptions::default())
    }

    /// Listens with bounds of one's own.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with(
        address: impl ToSocketAddrs,
        protocol: P,
        options: TcpServiceOptions,
    ) -> io::Result<TcpService<P>> {
        let listener = annulus_transport::listen(address)?;
        listener.set_nonblocking(true)?;
        let mut readiness = Readiness::new(READINESS_ENTRIES)?;
        let listener_token = readiness.add(listener.as_raw_fd());
        Ok(TcpService {
            protocol,
            options: TcpServiceOptions { connections_max: options.connections_max.min(1 << 16), ..options },
            listener,
            listener_token,
            accept_due: true,
            accept_rests_until: None,
            readiness,
            ready: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            by_token: Vec::new(),
            hot: Vec::new(),
            dirty: Vec::new(),
            connected: 0,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connected
    }

    /// Takes what the readiness set has found.
    fn take_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.readiness.poll(&mut ready) {
            tracing::error!(%error, "the readiness of client sockets cannot be polled");
        }
        for token in ready.drain(..) {
            if token == self.listener_token {
                self.accept_due = true;
            } else if let Some(&index) = self.by_token.get(token.index()) {
                self.wake_connection(index, token);
            }
        }
        self.ready = ready;
    }

    fn wake_connection(&mut self, index: u16, token: Token) {
        let Some(connection) = self.connections[index as usize].connection.as_mut() else { return };
        if connection.token != token {
            return;
        }
        connection.idle_turns = 0;
        if !connection.hot {
            connection.hot = true;
            self.hot.push(index);
        }
        // It may have been room to write that was waited for.
        if connection.output_bytes() > 0 {
            self.mark_dirty(index);
        }
    }

    fn accept(&mut self, now: Time) -> usize {
        if !self.accept_due || self.accept_rests_until.is_some_and(|until| now < until) {
            return 0;
        }
        self.accept_rests_until = None;
        for accepted in 0..TURN_ACCEPTS_MAX {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if self.connected >= self.options.connections_max {
                        drop(stream);
                    } else if prepare(&stream).is_ok() {
                        self.open(stream);
                    }
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_due = false;
                    self.arm(self.listener_token, Interest::Readable);
                    return accepted;
                }
                Err(error) => {
                    tracing::warn!(%error, connections = self.connected, "no client can be accepted for now");
                    self.accept_rests_until = Some(now + ACCEPT_REST);
                    return accepted;
                }
            }
        }
        TURN_ACCEPTS_MAX
    }

    fn open(&mut self, stream: TcpStream) {
        let token = self.readiness.add(stream.as_raw_fd());
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(Entry { generation: 0, connection: None });
            (self.connections.len() - 1) as u16
        });
        if self.by_token.len() <= token.index() {
            self.by_token.resize(token.index() + 1, 0);
        }
        self.by_token[token.index()] = index;
        let entry = &mut self.connections[index as usize];
        let id = ConnectionId { index, generation: entry.generation };
        let mut connection = Box::new(Connection::new(stream, id, token));
        connection.hot = true;
        entry.connection = Some(connection);
        self.hot.push(index);
        self.connected += 1;
    }

    /// Closes a connection; what completes for it later finds a newer generation, or nobody.
    fn close(&mut self, index: u16) {
        let entry = &mut self.connections[index as usize];
        let Some(connection) = entry.connection.take() else { return };
        entry.generation = entry.generation.wrapping_add(1);
        if let Err(error) = self.readiness.remove(connection.token) {
            tracing::error!(%error, "a client socket cannot be given up");
        }
        // The place is given again: none of the lists may still mean this connection.
        if connection.hot {
            self.hot.retain(|other| *other != index);
        }
        if connection.dirty {
            self.dirty.retain(|other| *other != index);
        }
        self.free.push(index);
        self.connected -= 1;
    }

    fn arm(&mut self, token: Token, interest: Interest) {
        if let Err(error) = self.readiness.arm(token, interest) {
            tracing::error!(%error, "a client socket cannot be waited for");
        }
    }

    fn mark_dirty(&mut self, index: u16) {
        let connection = self.connections[index as usize].connection.as_mut();
        if let Some(connection) = connection
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Reads every connection that is looked at, and lets go of those that were quiet for long.
    fn read_hot(&mut self, local: &mut Local<'_>) -> usize {
        let (_, idle_turns_max) = *IDLE_TURNS
            .iter()
            .find(|(hot_max, _)| self.hot.len() <= *hot_max)
            .expect("the last row holds for any number");
        let mut hot = std::mem::take(&mut self.hot);
        let mut work = 0;
        hot.retain(|&index| {
            let (found, keep) = self.read_one(index, idle_turns_max, local);
            work += found;
            keep
        });
        // None was added meanwhile: connections are opened and woken before.
        self.hot = hot;
        work
    }

    /// Reads one connection; tells what there was to do, and whether to look again next turn.
    fn read_one(&mut self, index: u16, idle_turns_max: u32, local: &mut Local<'_>) -> (usize, bool) {
        let Some(connection) = self.connections[index as usize].connection.as_mut() else {
            return (0, false);
        };
        if !connection.hot {
            return (0, false);
        }
        if connection.flow == Flow::Closing {
            // It closes with its last write.
            connection.hot = false;
            return (0, false);
        }
        if connection.output_bytes() > self.options.output_bytes_max {
            // The client does not read: neither do we. Room to write brings it back.
            connection.hot = false;
            let token = connection.token;
            self.arm(token, Interest::Writable);
            return (0, false);
        }
        let is_refused = connection.flow == Flow::Refused;
        let found = if is_refused { Found::Nothing } else { connection.read(self.options.input_bytes_max) };
        match found {
            Found::End => {
                connection.flow = Flow::Closing;
                connection.hot = false;
                self.mark_dirty(index);
                return (1, false);
            }
            Found::Bytes(_) => connection.idle_turns = 0,
            Found::Nothing | Found::NoRoom => connection.idle_turns += 1,
        }
        if matches!(found, Found::Bytes(_) | Found::NoRoom) || is_refused {
            let progress = self.parse(index, found == Found::NoRoom, local);
            return (progress, self.connections[index as usize].connection.is_some());
        }
        let keep = connection.idle_turns < idle_turns_max;
        if !keep {
            connection.hot = false;
            let token = connection.token;
            self.arm(token, Interest::Readable);
        }
        (0, keep)
    }

    /// Lets the protocol consume what has come.
    fn parse(&mut self, index: u16, input_is_full: bool, local: &mut Local<'_>) -> usize {
        let Some(connection) = self.connections[index as usize].connection.as_mut() else { return 0 };
        let id = connection.id;
        let (state, input, output) = connection.parts();
        local.refused_full = false;
        let received = self.protocol.receive(state, id, input, output, local);
        let has_output = connection.output_bytes() > 0;
        let Ok(consumed) = received else {
            connection.flow = Flow::Closing;
            self.mark_dirty(index);
            return 1;
        };
        connection.consume(consumed);
        connection.flow =
            if local.was_refused_full() && connection.has_input() { Flow::Refused } else { Flow::Open };
        // A request that can never be held whole would be waited for for ever.
        if consumed == 0 && input_is_full && connection.flow == Flow::Open {
            self.close(index);
            return 1;
        }
        if has_output {
            self.mark_dirty(index);
        }
        consumed
    }

    fn write_one(&mut self, index: u16) {
        let Some(connection) = self.connections[index as usize].connection.as_mut() else { return };
        if !connection.dirty {
            return;
        }
        connection.dirty = false;
        let token = connection.token;
        match connection.write() {
            Ok(true) if connection.flow == Flow::Closing && self.protocol.is_idle(&connection.state) => {
                self.close(index);
            }
            Ok(true) => {}
            Ok(false) => self.arm(token, Interest::Writable),
            Err(_) => self.close(index),
        }
    }
}

impl<P: Protocol> Service for TcpService<P> {
    fn turn(&mut self, local: &mut Local<'_>) -> usize {
        self.take_ready();
        self.accept(local.now()) + self.read_hot(local)
    }

    fn completed(&mut self, tag: u64, completion: Completion<'_>) {
        let (id, tag) = ConnectionId::of_tag(tag);
        let Some(entry) = self.connections.get_mut(id.index as usize) else { return };
        if entry.generation != id.generation {
            return;
        }
        let Some(connection) = entry.connection.as_mut() else { return };
        let (state, _, output) = connection.parts();
        self.protocol.completed(state, tag, completion, output);
        if !output.is_empty() || connection.flow == Flow::Closing {
            self.mark_dirty(id.index);
        }
    }

    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.write_one(index);
        }
        self.dirty = dirty;
    }

    fn prepare_park(&mut self) -> bool {
        let accepts = self.accept_due && self.accept_rests_until.is_none();
        if accepts || !self.dirty.is_empty() {
            return true;
        }
        for position in 0..self.hot.len() {
            let index = self.hot[position] as usize;
            let Some(connection) = self.connections[index].connection.as_ref() else { continue };
            // What was refused for want of room goes on when something completes.
            if connection.flow != Flow::Refused {
                self.arm(connection.token, Interest::Readable);
            }
        }
        if let Err(error) = self.readiness.submit() {
            tracing::error!(%error, "client sockets cannot be waited for");
            return true;
        }
        self.readiness.is_pending()
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.readiness.register_wake(eventfd)
    }

    fn deadline(&self) -> Time {
        self.accept_rests_until.unwrap_or(Time::NEVER)
    }
}
