//! Patterns of `KEYS` and `CONFIG GET`: `*`, `?`, `[abc]`, `[^a-z]`, and `\` before a byte that is meant literally.
//!
//! The rules are those of Redis' `stringmatchlen`. The work is bounded by the product of both lengths:
//! a mismatch goes back to the last `*` only, where Redis' own matcher goes back to all of them.

/// Whether all of `text` fits `pattern`.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, text);
    // The pattern after the last star, and the text that this star has not swallowed.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            star = Some((after, left));
            rest = after;
        } else if let Some((pattern, text)) = step(rest, left) {
            (rest, left) = (pattern, text);
        } else if rest.is_empty() && left.is_empty() {
            return true;
        } else {
            let Some((after, [_, text @ ..])) = star else { return false };
            star = Some((after, text));
            (rest, left) = (after, text);
        }
    }
}

/// Matches one element of the pattern, no star, against one byte; returns what is left of both.
fn step<'p, 't>(pattern: &'p [u8], text: &'t [u8]) -> Option<(&'p [u8], &'t [u8])> {
    let (&byte, text) = text.split_first()?;
    let (fits, pattern) = match pattern {
        [] => return None,
        [b'?', after @ ..] => (true, after),
        [b'[', b'^', after @ ..] => {
            let (contains, after) = class(after, byte);
            (!contains, after)
        }
        [b'[', after @ ..] => class(after, byte),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (*literal == byte, after),
    };
    fits.then_some((pattern, text))
}

/// Whether the class that `pattern` is inside of contains `byte`, and what follows its `]`.
/// A class that is never closed ends with the pattern.
fn class(mut pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut contains = false;
    loop {
        pattern = match pattern {
            [] => return (contains, pattern),
            [b'\\', literal, after @ ..] => {
                contains |= *literal == byte;
                after
            }
            [b']', after @ ..] => return (contains, after),
            [low, b'-', high, after @ ..] => {
                contains |= (*low.min(high)..=*low.max(high)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                contains |= *literal == byte;
                after
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_redis_fits() {
        let cases = [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[\\]]", "]", true),
            ("a**b*", "a--b", true),
            ("*a*b*c", "xaxbxc", true),
            ("*a*b*c", "xaxbx", false),
            ("a[bc", "ab", true),
            ("a\\", "a\\", true),
            ("[]a", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let (pattern, text) = ("a*".repeat(60) + "b", "a".repeat(10_000));
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }
}
