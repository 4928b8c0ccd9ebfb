//! A wire between `redis-cli --pipe` and a server that counts what is acknowledged: the tool itself tells
//! only when all goes well.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

/// Forwards one connection.
pub struct Tap {
    /// Where to connect.
    pub port: u16,
    acknowledged: Arc<AtomicUsize>,
}

/// Something to do midway.
pub struct Trigger {
    /// When so many commands are acknowledged.
    pub acknowledged: usize,
    /// No more than these bytes of commands reach the server before.
    pub bytes_before: u64,
    /// What to do.
    pub action: Box<dyn FnOnce() + Send>,
}

impl Tap {
    /// A wire to the server on `port`.
    pub fn to(port: u16, trigger: Option<Trigger>) -> io::Result<Tap> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let tap = Tap { port: listener.local_addr()?.port(), acknowledged: Arc::default() };
        let acknowledged = Arc::clone(&tap.acknowledged);
        thread::spawn(move || -> io::Result<()> {
            let (client, _) = listener.accept()?;
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
            let (over, is_over) = mpsc::channel::<()>();
            let bytes_before = trigger.as_ref().map_or(u64::MAX, |trigger| trigger.bytes_before);
            thread::spawn(move || {
                // Errors end this direction; the other one tells the client.
                let _ = io::copy(&mut (&from).take(bytes_before), &mut to);
                let _ = is_over.recv();
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            // However it ends, the client must notice.
            let end = forward(&server, &client, &acknowledged, trigger, over);
            let _ = client.shutdown(Shutdown::Both);
            end
        });
        Ok(tap)
    }

    /// Commands whose `+OK` has reached the client, up to the first that had another reply.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Acquire)
    }
}

/// Forwards replies and counts them as they leave.
fn forward(
    mut server: &TcpStream,
    mut client: &TcpStream,
    acknowledged: &AtomicUsize,
    trigger: Option<Trigger>,
    over: mpsc::Sender<()>,
) -> io::Result<()> {
    const OK: &[u8] = b"+OK\r\n";
    let (mut buffer, mut matched, mut is_counting) = ([0; 8 << 10], 0, true);
    // The sender goes with the trigger: when it is dropped, the rest of the commands may pass.
    let mut due = trigger.map(|trigger| (trigger, over));
    loop {
        let bytes = server.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        client.write_all(&buffer[..bytes])?;
        for &byte in &buffer[..bytes] {
            is_counting &= byte == OK[matched % OK.len()];
            matched += usize::from(is_counting);
        }
        let count = matched / OK.len();
        acknowledged.store(count, Ordering::Release);
        if let Some((trigger, _over)) = due.take_if(|(trigger, _)| count >= trigger.acknowledged) {
            (trigger.action)();
        }
    }
}
