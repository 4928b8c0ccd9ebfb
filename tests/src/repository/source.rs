//! A Rust file as the rules see it: its text, and its code without comments and literals.

use super::Document;

/// A Rust file.
pub struct Source {
    /// Where, from the root of the repository.
    pub path: String,
    /// As it is written.
    pub text: String,
    /// The same, with blanks for comments and for what literals hold: line and column stay the same.
    pub code: String,
}

/// A function with a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its name, from 1.
    pub line: usize,
    /// Lines from its name to the end of its body.
    pub lines: usize,
}

/// A contract that a function asserts, or a rare place that it marks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Assertion {
    /// The contract's id, or the probe's name.
    pub id: String,
    /// Which macro it is.
    pub clause: &'static str,
    /// The file.
    pub path: String,
    /// The function.
    pub function: String,
    /// The line, from 1.
    pub line: usize,
}

/// A test that must panic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PanicTest {
    /// What the message must contain.
    pub expected: String,
    /// The file.
    pub path: String,
    /// The test.
    pub function: String,
}

/// The macros that assert a contract.
const CLAUSES: [&str; 3] = ["requires", "ensures", "invariant"];

impl Source {
    /// Reads a file.
    pub fn read(document: &Document) -> Source {
        Source { path: document.path.clone(), text: document.text.clone(), code: blanked(&document.text) }
    }

    /// The lines of its code on which `word` stands as a whole word, counted from 1.
    pub fn lines_with(&self, word: &str) -> Vec<usize> {
        let lines = self.code.lines().enumerate();
        lines.filter(|(_, line)| has_word(line, word)).map(|(index, _)| index + 1).collect()
    }

    /// Everything that it names of `root`, as paths below it: `use root::{a, b::c}` gives `a` and `b::c`,
    /// and so does `root::b::c(…)` in code.
    pub fn paths_of(&self, root: &str) -> Vec<String> {
        let mut paths = Vec::new();
        let needle = format!("{root}::");
        for (start, _) in self.code.match_indices(&needle) {
            if !self.code[..start].ends_with(is_word_char) {
                expand(&self.code[start + needle.len()..], "", &mut paths);
            }
        }
        paths
    }

    /// Its code without the modules of tests.
    pub fn shipped_code(&self) -> &str {
        self.code.split("#[cfg(test)]\nmod ").next().expect("a split has a first part")
    }

    /// Its functions with a body.
    pub fn functions(&self) -> Vec<Function> {
        let starts = self.code.match_indices("fn ");
        let starts = starts.filter(|(start, _)| !self.code[..*start].ends_with(is_word_char));
        starts.filter_map(|(start, _)| self.function_at(start)).collect()
    }

    /// The contracts that its shipped code asserts.
    pub fn assertions(&self) -> Vec<Assertion> {
        self.marked_by(&CLAUSES)
    }

    /// The rare places that its shipped code marks; the ids are names of probes.
    pub fn probes(&self) -> Vec<Assertion> {
        self.marked_by(&["reach"])
    }

    /// Its tests that expect a panic with a message.
    pub fn tests_of_panics(&self) -> Vec<PanicTest> {
        let marks = self.text.split("#[should_panic(expected = \"").skip(1);
        let tests = marks.filter_map(|rest| {
            let (expected, rest) = rest.split_once("\")]")?;
            let function = rest.split_once("fn ")?.1.split('(').next()?.to_owned();
            Some(PanicTest { expected: expected.to_owned(), path: self.path.clone(), function })
        });
        tests.collect()
    }

    fn marked_by(&self, clauses: &[&'static str]) -> Vec<Assertion> {
        let code = self.shipped_code();
        let mut assertions = Vec::new();
        for &clause in clauses {
            for (start, needle) in code.match_indices(&format!("{clause}!(")) {
                let argument = code[start + needle.len()..].trim_start();
                let id = argument.split(|c| !is_word_char(c)).next().unwrap_or_default().to_owned();
                let (function, line) = (self.function_around(start), line_of(code, start));
                assertions.push(Assertion { id, clause, path: self.path.clone(), function, line });
            }
        }
        assertions.sort();
        assertions
    }

    fn function_at(&self, start: usize) -> Option<Function> {
        let rest = &self.code[start..];
        let name = rest["fn ".len()..].split(|c| !is_word_char(c)).next()?.to_owned();
        let open = rest.find(['{', ';'])?;
        if name.is_empty() || rest[open..].starts_with(';') {
            return None;
        }
        let end = open + matching_brace(&rest[open..])?;
        let lines = rest[..end].lines().count();
        Some(Function { name, line: line_of(&self.code, start), lines })
    }

    /// The last function that begins before `at`, or nothing at the top of the file.
    fn function_around(&self, at: usize) -> String {
        let line = line_of(&self.code, at);
        let mut before = self.functions().into_iter().filter(|function| function.line <= line);
        before.next_back().map(|function| function.name).unwrap_or_default()
    }
}

/// The line of an offset, counted from 1.
fn line_of(code: &str, offset: usize) -> usize {
    code[..offset].matches('\n').count() + 1
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in `line` as a whole word.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        !line[..start].ends_with(is_word_char) && !line[start + word.len()..].starts_with(is_word_char)
    })
}

/// Where the brace that `code` begins with is closed: the offset after it.
fn matching_brace(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (offset, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(offset + 1);
        }
    }
    None
}

/// Expands the use tree that `rest` begins with into whole paths below `prefix`; returns what it consumed.
fn expand(rest: &str, prefix: &str, paths: &mut Vec<String>) -> usize {
    let name: String = rest.chars().take_while(|&c| is_word_char(c) || c == '*').collect();
    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}::{name}") };
    let after = &rest[name.len()..];
    if !name.is_empty() {
        let deeper = after
            .strip_prefix("::")
            .filter(|_| after[2..].starts_with(|c| is_word_char(c) || "{*".contains(c)));
        if let Some(deeper) = deeper {
            return name.len() + 2 + expand(deeper, &path, paths);
        }
        paths.push(path);
        return name.len();
    }
    if !rest.starts_with('{') {
        return 0;
    }
    let end = matching_brace(rest).unwrap_or(rest.len());
    let mut at = 1;
    while at < end - 1 {
        let skipped = rest[at..end].find(|c| is_word_char(c) || c == '*').unwrap_or(end - at);
        at += skipped;
        at += expand(&rest[at..end], prefix, paths);
        at += rest[at..end].find([',', '}']).unwrap_or(0) + 1;
    }
    end
}

/// `text` with blanks for comments and for what string and character literals hold.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (bytes, kept) = token(rest);
        let (token, after) = rest.split_at(bytes);
        if kept {
            code.push_str(token);
        } else {
            code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// How many bytes belong together at the front of `rest`, and whether they are code.
fn token(rest: &str) -> (usize, bool) {
    let until = |needle: &str| rest.find(needle).map_or(rest.len(), |at| at + needle.len());
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (until("*/"), false);
    }
    if rest.starts_with(['r', 'b'])
        && let Some(bytes) = raw_string(rest)
    {
        return (bytes, false);
    }
    if rest.starts_with('"') {
        return (quoted(rest, '"'), false);
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    let word = rest.find(|c| !is_word_char(c)).unwrap_or(rest.len());
    (word.max(rest.chars().next().map_or(1, char::len_utf8)), true)
}

/// The size of the raw string that `rest` begins with, if it does.
fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["br", "r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].chars().take_while(|&c| c == '#').count();
    let open = prefix.len() + hashes;
    if !rest[open..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let end = rest[open + 1..].find(&close)?;
    Some(open + 1 + end + close.len())
}

/// The size of the literal between `quote`s that `rest` begins with.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (offset, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return offset + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal, which is blanked, or a lifetime, which is code.
fn character(rest: &str) -> (usize, bool) {
    let mut chars = rest.char_indices().skip(1);
    let (Some((_, first)), Some((second_at, second))) = (chars.next(), chars.next()) else {
        return (rest.len(), true);
    };
    match (first, second) {
        ('\\', _) => (quoted(rest, '\''), false),
        (_, '\'') => (second_at + 1, false),
        _ => (1, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::read(&Document { path: "a.rs".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let code =
            source("let a = \"fn x \\\" y\"; // unsafe\nlet b = r#\"todo \" here\"#; 'l: loop { '{' }").code;
        assert!(!code.contains("fn x") && !code.contains("unsafe") && !code.contains("todo"));
        assert!(code.contains("let b") && code.contains("'l: loop") && !code.contains("'{'"));
    }

    #[test]
    fn use_trees_expand_to_whole_paths() {
        let source =
            source("use std::{fs::{self, File}, io};\nlet now = std::time::Instant::now();\nmystd::x;");
        assert_eq!(source.paths_of("std"), ["fs::self", "fs::File", "io", "time::Instant::now"]);
    }

    #[test]
    fn functions_have_their_length() {
        let source = source("trait T { fn none(&self); }\nfn two() -> bool {\n    true }\n");
        assert_eq!(source.functions(), [Function { name: "two".to_owned(), line: 2, lines: 2 }]);
    }

    #[test]
    fn assertions_name_their_function() {
        let source = source("fn vote() {\n    requires!(A1, x);\n    ensures!(\n        A4, y);\n}\n");
        let found: Vec<_> =
            source.assertions().into_iter().map(|one| (one.id, one.clause, one.function)).collect();
        let expected = [("A1", "requires"), ("A4", "ensures")];
        assert_eq!(found, expected.map(|(id, clause)| (id.to_owned(), clause, "vote".to_owned())));
    }
}
