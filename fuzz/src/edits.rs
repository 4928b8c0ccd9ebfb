//! Changes to valid bytes, as an input of the fuzzer describes them.

/// An input that is read front to back. Behind its end there are zeros.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// The whole input.
    pub(crate) fn new(input: &'a [u8]) -> Script<'a> {
        Script(input)
    }

    /// Whether everything was read.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// The next two bytes as a number.
    pub(crate) fn number(&mut self) -> usize {
        usize::from(self.byte()) | usize::from(self.byte()) << 8
    }

    /// As many of the next `bytes` as there are.
    pub(crate) fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Everything that was not read yet.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// The next edits of a script: how many, and then each as it is read.
///
/// ```text
/// 0  operation        u8   the highest bit: the offset is wide
/// 1  structure        u8   counted: positions are relative to its start
/// 2  offset           u8   below 128, or u16 where it is wide
///    operand               by operation
/// ```
pub(crate) struct Edits<'s, 'a> {
    script: &'s mut Script<'a>,
    left: usize,
}

/// Numbers at which decoders go wrong.
const NUMBERS: [u64; 10] = [
    0,
    1,
    u64::MAX,
    u64::MAX - 1,
    u32::MAX as u64,
    i64::MAX as u64,
    1 << 63,
    0x8000_0000,
    (2 << 20) - 128,
    (2 << 20) - 127,
];

/// Widths in which they are written.
const WIDTHS: [usize; 3] = [8, 4, 2];
/// How many structures a sweep goes through: those of an input with fewer come again.
const SWEPT_STRUCTURES: u8 = 4;
/// The largest header.
const SWEPT_BYTES: u8 = 128;

/// Every number in every field of every width in the first structures: one edit each.
pub(crate) fn every_number() -> impl Iterator<Item = [u8; 4]> + Clone {
    let fields = (0..SWEPT_STRUCTURES).flat_map(|structure| {
        (0..WIDTHS.len()).flat_map(move |width| {
            let operation = 4 + 8 * width as u8;
            (0..SWEPT_BYTES).step_by(WIDTHS[width]).map(move |offset| [operation, structure, offset])
        })
    });
    fields.flat_map(|[operation, structure, offset]| {
        (0..NUMBERS.len() as u8).map(move |number| [operation, structure, offset, number])
    })
}

impl<'s, 'a> Edits<'s, 'a> {
    /// The edits that come next, `count_max` at the most.
    pub(crate) fn next(script: &'s mut Script<'a>, count_max: usize) -> Edits<'s, 'a> {
        let left = usize::from(script.byte()).min(count_max);
        Edits { script, left }
    }

    /// Applies them to `bytes`, in which something starts at each of `structures`.
    pub(crate) fn apply(mut self, bytes: &mut Vec<u8>, structures: &[usize]) {
        while self.left > 0 && !self.script.is_over() {
            self.left -= 1;
            self.apply_one(bytes, structures);
        }
    }

    fn apply_one(&mut self, bytes: &mut Vec<u8>, structures: &[usize]) {
        let operation = self.script.byte();
        let at = self.place(structures, operation);
        match operation % 8 {
            0 => write(bytes, at, &[self.script.byte()]),
            1 => {
                let bit = self.script.byte() % 8;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            2 => write(bytes, at, &(self.script.number() as u16).to_le_bytes()),
            3 => write(bytes, at, &(self.script.number() as u64).to_le_bytes()),
            4 => {
                let number = NUMBERS[usize::from(self.script.byte()) % NUMBERS.len()].to_le_bytes();
                let width = WIDTHS[usize::from(operation >> 3 & 0xf) % WIDTHS.len()];
                write(bytes, at, &number[..width]);
            }
            5 => {
                let end = (at + self.script.number()).min(bytes.len());
                bytes.get_mut(at..end).unwrap_or_default().fill(0);
            }
            6 => {
                let from = self.place(structures, operation);
                let end = (from + self.script.number()).min(bytes.len());
                let copy = bytes.get(from..end).unwrap_or_default().to_vec();
                write(bytes, at, &copy);
            }
            _ => self.resize(bytes, at),
        }
    }

    /// Cuts the bytes off, or adds some.
    fn resize(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let more = usize::from(self.script.byte());
        let more = self.script.take(more);
        bytes.truncate(at.max(1));
        bytes.extend_from_slice(more);
    }

    fn place(&mut self, structures: &[usize], operation: u8) -> usize {
        let structure = structures[usize::from(self.script.byte()) % structures.len()];
        let is_wide = operation & 0x80 != 0;
        structure + if is_wide { self.script.number() } else { usize::from(self.script.byte()) % 128 }
    }
}

/// Writes as much of `new` over `bytes` as fits.
fn write(bytes: &mut [u8], at: usize, new: &[u8]) {
    let room = bytes.get_mut(at..).unwrap_or_default();
    let count = room.len().min(new.len());
    room[..count].copy_from_slice(&new[..count]);
}
