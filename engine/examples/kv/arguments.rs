//! The arguments of one request, borrowed from where they were received.

/// Where an argument lies in the bytes of its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// Its first byte.
    pub(crate) start: u32,
    /// One past its last byte.
    pub(crate) end: u32,
}

/// A request's arguments, its name first. Copying one copies two references.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Arguments<'a> {
    /// The arguments that lie at `spans` of `bytes`.
    pub(crate) fn new(bytes: &'a [u8], spans: &'a [Span]) -> Arguments<'a> {
        Arguments { bytes, spans }
    }

    /// How many there are.
    pub(crate) fn len(self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`.
    pub(crate) fn get(self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| &self.bytes[span.start as usize..span.end as usize])
    }

    /// Takes the first argument away.
    pub(crate) fn take_first(&mut self) -> Option<&'a [u8]> {
        let first = self.get(0)?;
        self.spans = &self.spans[1..];
        Some(first)
    }

    /// The arguments, one after the other.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().map(move |span| &self.bytes[span.start as usize..span.end as usize])
    }
}
