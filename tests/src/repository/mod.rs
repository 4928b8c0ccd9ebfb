//! The source tree as data, for the rules that it keeps.

mod manifest;
mod source;

use std::path::{Path, PathBuf};
use std::{env, fs};

use annulus_rings::{contract, reach};

pub use manifest::{Dependency, Manifest};
pub use source::{Assertion, Function, PanicTest, Source};

/// Folders that are not part of the project: build products, and what tools keep for themselves.
const FOREIGN: [&str; 1] = ["target"];
/// Hidden folders that are.
const HIDDEN: [&str; 1] = [".ci"];

/// A file of text.
pub struct Document {
    /// Where, from the root of the repository, with `/` between the parts.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl Document {
    /// Whether its name ends in a dot and `extension`.
    pub fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// The files of the repository, read once.
pub struct Repository {
    root: PathBuf,
    documents: Vec<Document>,
}

impl Repository {
    /// Reads the repository that this crate was built in.
    pub fn open() -> Repository {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
        let mut documents = Vec::new();
        collect(root, "", &mut documents);
        documents.sort_by(|a, b| a.path.cmp(&b.path));
        Repository { root: root.to_owned(), documents }
    }

    /// Every file of text.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// A file's text, if there is such a file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.documents.iter().find(|document| document.path == path).map(|document| document.text.as_str())
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Writes a file that a rule keeps.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// The Rust files below `folder`, which is empty for all.
    pub fn sources(&self, folder: &str) -> Vec<Source> {
        let below = |path: &str| folder.is_empty() || path.starts_with(&format!("{folder}/"));
        let rust = |document: &&Document| document.has_extension("rs") && below(&document.path);
        self.documents.iter().filter(rust).map(Source::read).collect()
    }

    /// Every contract that shipped code asserts, in the order of the contracts.
    pub fn assertions(&self) -> Vec<Assertion> {
        self.marks(Source::assertions, |id| contract::ALL.iter().position(|contract| contract.id == id))
    }

    /// Every rare place that shipped code marks, in the order of the probes.
    pub fn probes(&self) -> Vec<Assertion> {
        self.marks(Source::probes, |id| reach::ALL.iter().position(|probe| probe.name == id))
    }

    fn marks(
        &self,
        of: impl Fn(&Source) -> Vec<Assertion>,
        order: impl Fn(&str) -> Option<usize>,
    ) -> Vec<Assertion> {
        let sources = self.sources("");
        let shipped = sources.iter().filter(|source| !source.path.starts_with("tests/"));
        let mut marks: Vec<Assertion> = shipped.flat_map(of).collect();
        marks.sort_by_cached_key(|mark| (order(&mark.id), mark.clone()));
        marks
    }

    /// The manifests of the crates, with the folder of each.
    pub fn manifests(&self) -> Vec<(String, Manifest)> {
        let folder = |document: &Document| document.path.strip_suffix("/Cargo.toml").map(str::to_owned);
        let crates = self.documents.iter().filter_map(|document| Some((folder(document)?, document)));
        crates.map(|(folder, document)| (folder, Manifest::read(&document.text))).collect()
    }
}

fn collect(root: &Path, folder: &str, documents: &mut Vec<Document>) {
    let entries = fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    for entry in entries {
        let name = entry.expect("a folder's entry").file_name().into_string().expect("a name in UTF-8");
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if root.join(&path).is_dir() {
            let ours = !FOREIGN.contains(&name.as_str()) && !name.starts_with('.');
            if ours || HIDDEN.contains(&name.as_str()) {
                collect(root, &path, documents);
            }
        } else if name == ".git" {
            // Of a second working tree: it says where the first one is.
        } else if let Ok(text) = fs::read_to_string(root.join(&path)) {
            documents.push(Document { path, text });
        }
    }
}
