//! Reads the file of a snapshot as a node would, and never changes it.

use std::fs::File;
use std::io::{self, Read as _};

use annulus_storage::{
    Expected, SnapshotDecoder, SnapshotError, SnapshotExtent, SnapshotHeader, SnapshotName, SnapshotPart,
};

use crate::progress::Progress;

const READ_BYTES: usize = 1 << 20;

/// How far a file is right, and what is wrong behind that.
pub struct Scan {
    /// The header, if it is right.
    pub header: Option<SnapshotHeader>,
    /// How far it was verified.
    pub verified: SnapshotExtent,
    /// What is wrong with it, if something is.
    pub error: Option<SnapshotError>,
}

impl Scan {
    /// Verifies the header alone.
    pub fn header_of(file: &File, expected: Expected, name: Option<SnapshotName>) -> Scan {
        let mut decoder = SnapshotDecoder::new(expected, name);
        let error = read_header(file, &mut decoder).err();
        Scan::ended(&decoder, error)
    }

    /// Verifies all of it, and hands what it reads to `each`.
    pub fn whole(
        file: &mut File,
        expected: Expected,
        name: Option<SnapshotName>,
        progress: &mut Progress,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Scan {
        let mut decoder = SnapshotDecoder::new(expected, name);
        let mut buffer = vec![0; READ_BYTES];
        let error = loop {
            let bytes = match file.read(&mut buffer) {
                Ok(0) => break decoder.finish().err(),
                Ok(bytes) => bytes,
                Err(source) => break Some(SnapshotError::Io { action: "reading", source }),
            };
            decoder.push(&buffer[..bytes]);
            if let Err(error) = advance(&mut decoder) {
                break Some(error);
            }
            if let Err(source) = each(&buffer[..bytes]) {
                break Some(SnapshotError::Io { action: "writing the copy", source });
            }
            progress.by(bytes as u64);
        };
        Scan::ended(&decoder, error)
    }

    fn ended(decoder: &SnapshotDecoder, error: Option<SnapshotError>) -> Scan {
        Scan { header: decoder.header().cloned(), verified: *decoder.verified(), error }
    }
}

fn advance(decoder: &mut SnapshotDecoder) -> Result<(), SnapshotError> {
    while let SnapshotPart::Header | SnapshotPart::Block = decoder.advance()? {}
    Ok(())
}

fn read_header(file: &File, decoder: &mut SnapshotDecoder) -> Result<(), SnapshotError> {
    let mut head = Vec::new();
    let read = file.take(annulus_storage::SNAPSHOT_HEADER_BYTES as u64).read_to_end(&mut head);
    read.map_err(|source| SnapshotError::Io { action: "reading", source })?;
    decoder.push(&head);
    match decoder.advance()? {
        SnapshotPart::Header => Ok(()),
        _ => Err(SnapshotError::CutOff { offset: 0 }),
    }
}
