//! Listening on an address that a process which just died may still hold.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

/// How long an address may stay in use before that is an error. The kernel closes the sockets of a killed
/// process some milliseconds after the process is gone when `io_uring` still holds them, so a node that is
/// restarted at once meets its own shadow.
const IN_USE_MAX: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Listens on `address`, waiting up to a second for it to become free.
///
/// # Errors
/// The operating system's; [`ErrorKind::AddrInUse`] when another process keeps the address.
pub fn listen(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let give_up = Instant::now() + IN_USE_MAX;
    loop {
        match TcpListener::bind(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < give_up => {
                thread::sleep(RETRY_INTERVAL);
            }
            outcome => return outcome,
        }
    }
}

// Not under Miri: it has no sockets.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_becomes_free_is_waited_for() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let free = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(holder);
        });
        assert_eq!(listen(address).unwrap().local_addr().unwrap(), address);
        free.join().unwrap();
    }

    #[test]
    fn an_address_that_stays_in_use_is_an_error() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = listen(holder.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}
