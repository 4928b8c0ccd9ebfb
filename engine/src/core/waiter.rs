//! Who waits for the outcome of a proposal.

use crate::ticket::Promise;
use crate::{Completion, Service};

/// Where the outcome of one command goes.
pub(crate) enum Waiter {
    /// The core's service, under the tag that it chose.
    Service(u64),
    /// A client on another thread.
    Ticket(Promise),
}

impl Waiter {
    /// Delivers the outcome.
    pub(crate) fn end(self, service: &mut Option<Box<dyn Service>>, completion: Completion<'_>) {
        match self {
            Waiter::Ticket(promise) => promise.complete(completion),
            Waiter::Service(tag) => {
                let service = service.as_mut().expect("only the service of this core proposes under a tag");
                service.completed(tag, completion);
            }
        }
    }
}
