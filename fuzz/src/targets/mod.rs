//! The targets, each in a file of its own.

mod batch;
mod command;
mod frame;
mod handshake;
mod journal;
mod message;
mod request;
mod segment_header;
mod snapshot;
mod splitter;
mod superblock;

pub use batch::BATCH;
pub use command::COMMAND;
pub use frame::FRAME;
pub use handshake::HANDSHAKE;
pub use journal::JOURNAL;
pub use message::MESSAGE;
pub use request::REQUEST;
pub use segment_header::SEGMENT_HEADER;
pub use snapshot::SNAPSHOT;
pub use splitter::SPLITTER;
pub use superblock::SUPERBLOCK;
