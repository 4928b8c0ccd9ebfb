//! Whole numbers in decimal digits, in the one spelling that Redis knows for each.

/// Reads a whole number in its one canonical spelling, as Redis' `string2ll` does: no blanks, no plus,
/// no leading zero, nothing behind it.
pub(crate) fn read(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let is_negative = digits.len() < bytes.len();
    let is_canonical = match digits.first()? {
        b'0' => bytes.len() == 1,
        first => first.is_ascii_digit(),
    };
    if !is_canonical || digits.len() > DIGITS_MAX {
        return None;
    }
    let magnitude = digits.iter().try_fold(0u64, |number, digit| {
        digit.is_ascii_digit().then_some(number)?.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    if is_negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Appends `number` as Redis prints it.
pub(crate) fn write(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0; DIGITS_MAX];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Digits of the largest magnitude, 2⁶³.
const DIGITS_MAX: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_the_standard_library_prints_them_and_read_back() {
        for number in [0, 7, 10, -1, 1234, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
            assert_eq!(read(&out), Some(number));
        }
    }

    #[test]
    fn no_other_spelling_is_a_number() {
        for bad in
            ["", "-", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809"]
        {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
