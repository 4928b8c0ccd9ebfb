//! The bare runner: a thread, its turns, and an eventfd to sleep on.

use std::thread;

use super::Turner;
use crate::idle::Next;
use crate::vitals::End;

/// Takes turns until the core ends.
pub(super) fn run(mut turner: Turner<'_>) -> End {
    loop {
        let next = match turner.turn() {
            Ok(next) => next,
            Err(end) => return end,
        };
        match next {
            Next::Turn => {}
            Next::Yield => thread::yield_now(),
            Next::Park => {
                if let Err(end) = park(&mut turner) {
                    return end;
                }
            }
        }
    }
}

/// Sleeps until the eventfd is signalled or the core's deadline.
fn park(turner: &mut Turner<'_>) -> Result<(), End> {
    if let Some(timeout) = turner.prepare_park()? {
        turner.wake.wait(Some(timeout));
        turner.resumed();
    }
    Ok(())
}
