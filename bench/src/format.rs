//! Numbers as people read them.

/// `1234567` → `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    separated(&number.to_string())
}

/// A number of things: `1 core`, `2 cores`.
pub(crate) fn things(number: u64, name: &str) -> String {
    format!("{} {name}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A rate or a size without its fraction.
pub(crate) fn whole(number: f64) -> String {
    separated(&format!("{number:.0}"))
}

fn separated(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with the digits that mean something: `8.12 µs`, `152 µs`, `3.41 ms`, `1.20 s`.
pub(crate) fn duration_us(us: f64) -> String {
    match us {
        us if us < 100.0 => format!("{us:.1} µs"),
        us if us < 10_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A small ratio or cost: three digits that mean something.
pub(crate) fn ratio(number: f64) -> String {
    match number {
        number if number < 10.0 => format!("{number:.2}"),
        number if number < 100.0 => format!("{number:.1}"),
        number => whole(number),
    }
}

/// A table: the first column to the left, the others to the right, under a line of titles.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::from(" ");
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) = if column == 0 { ("", padding.as_str()) } else { (padding.as_str(), "") };
            text.extend([" ", before, cell, after, " "]);
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    };
    let mut text = line(&mut titles.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn one_thing_is_singular() {
        assert_eq!(
            [things(1, "core"), things(0, "ring"), things(1024, "run")],
            ["1 core", "0 rings", "1,024 runs"]
        );
    }

    #[test]
    fn durations_keep_the_digits_that_mean_something() {
        let texts = [8.12, 152.4, 3410.0, 34_100.0, 1_200_000.0].map(duration_us);
        assert_eq!(texts, ["8.1 µs", "152 µs", "3410 µs", "34.1 ms", "1.20 s"]);
    }

    #[test]
    fn columns_line_up() {
        let text =
            table(&["stage", "p50"], &[vec!["own µs".into(), "1.0".into()], vec!["x".into(), "10.0".into()]]);
        assert_eq!(text, "  stage    p50\n  own µs   1.0\n  x       10.0\n");
    }
}
