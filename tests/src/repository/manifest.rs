//! What the rules want to know of a `Cargo.toml`.

/// A manifest, as far as the rules care.
#[derive(Default)]
pub struct Manifest {
    /// The package's name.
    pub name: String,
    /// What it depends on, in every section.
    pub dependencies: Vec<Dependency>,
    /// Whether it takes the workspace's lints.
    pub has_workspace_lints: bool,
}

/// One line of a dependency section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// The crate.
    pub name: String,
    /// Whether only tests and examples use it.
    pub is_dev: bool,
    /// The whole line.
    pub line: String,
}

impl Manifest {
    /// Reads a manifest that is written one entry per line.
    pub fn read(text: &str) -> Manifest {
        let mut manifest = Manifest::default();
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = header;
                continue;
            }
            match section {
                "package" if line.starts_with("name =") => manifest.name = quoted(line),
                "lints" if line == "workspace = true" => manifest.has_workspace_lints = true,
                _ if section.ends_with("dependencies") => manifest.dependencies.push(Dependency {
                    name: line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned(),
                    is_dev: section.ends_with("dev-dependencies"),
                    line: line.to_owned(),
                }),
                _ => {}
            }
        }
        manifest
    }
}

fn quoted(line: &str) -> String {
    line.split('"').nth(1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sections_and_lints_are_read() {
        let manifest = Manifest::read(
            "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n[dependencies]\nb.workspace = true\n\
             [dev-dependencies]\nc = { workspace = true }\n",
        );
        assert_eq!((manifest.name.as_str(), manifest.has_workspace_lints), ("a", true));
        let read: Vec<_> = manifest.dependencies.iter().map(|one| (one.name.as_str(), one.is_dev)).collect();
        assert_eq!(read, [("b", false), ("c", true)]);
    }
}
