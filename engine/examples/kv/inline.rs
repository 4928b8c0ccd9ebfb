//! Inline commands: a line of words, some of them quoted, as a person types it into `nc`.
//!
//! The rules are those of Redis' `sdssplitargs`. Words end at blanks. `"…"` may hold `\n \r \t \b \a`,
//! `\xhh`, and `\` before any other byte for that byte; `'…'` may hold `\'`. A closing quote must end
//! its word.

use crate::arguments::Span;

/// A quote was never closed, or something follows it closely.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unbalanced;

/// Splits `line` into words: their bytes, unquoted, go to `words` and their places to `spans`.
pub(crate) fn split(line: &[u8], words: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), Unbalanced> {
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let start = words.len() as u32;
        rest = skip_blanks(word(rest, words)?);
        spans.push(Span { start, end: words.len() as u32 });
    }
    Ok(())
}

/// Reads the word that `rest` starts with and returns what follows it.
fn word<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' | 0 => break,
            b'"' => return double_quoted(after, words),
            b'\'' => return single_quoted(after, words),
            _ => words.push(byte),
        }
        rest = after;
    }
    Ok(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return end_of_quotes(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                words.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                words.push(unescape(*escaped));
                after
            }
            [byte, after @ ..] => {
                words.push(*byte);
                after
            }
            [] => return Err(Unbalanced),
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [b'\'', after @ ..] => return end_of_quotes(after),
            [b'\\', b'\'', after @ ..] => {
                words.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                words.push(*byte);
                after
            }
            [] => return Err(Unbalanced),
        }
    }
}

/// What follows a closing quote must be blank, or nothing.
fn end_of_quotes(after: &[u8]) -> Result<&[u8], Unbalanced> {
    match after.first() {
        Some(&byte) if !is_blank(byte) => Err(Unbalanced),
        _ => Ok(after),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// What C's `isspace` holds for blank, and the zero byte, at which Redis' own splitting stops.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0)
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|&&byte| is_blank(byte)).count();
    &bytes[blanks..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        split(line, &mut bytes, &mut spans)?;
        Ok(spans.iter().map(|span| bytes[span.start as usize..span.end as usize].to_vec()).collect())
    }

    #[test]
    fn words_and_quotes_split_as_redis_splits_them() {
        let cases: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b" \t ", &[]),
            (b"SET a b", &[b"SET", b"a", b"b"]),
            (b"  GET   a  ", &[b"GET", b"a"]),
            (br#"SET a "b c""#, &[b"SET", b"a", b"b c"]),
            (br#"SET a "\x41\n\q\"""#, &[b"SET", b"a", b"A\nq\""]),
            (br#"SET a "\xZZ""#, &[b"SET", b"a", b"xZZ"]),
            (br"SET a 'b \' \n'", &[b"SET", b"a", br"b ' \n"]),
            (br#"SET a """#, &[b"SET", b"a", b""]),
            (br#"SET pre"post""#, &[b"SET", b"prepost"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).unwrap(), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn open_quotes_and_closely_followed_quotes_are_unbalanced() {
        for line in
            [&br#"SET "a"#[..], br"SET 'a", br#"SET "a"b"#, br"SET 'a'b", br#"SET "a\"#, br#"SET "a\""#]
        {
            assert_eq!(words(line), Err(Unbalanced), "{}", line.escape_ascii());
        }
    }
}
