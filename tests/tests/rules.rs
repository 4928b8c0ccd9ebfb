//! The rules of the repository. Each test is one rule; it prints every place that breaks it, and how to
//! mend that.

use std::env;
use std::fmt::Write;

use annulus_rings::{contract, mutant};
use annulus_tests::faults::{self, ROWS};
use annulus_tests::repository::{Assertion, PanicTest, Repository, Source};

/// What a crate may depend on, of this workspace: rings ← {storage, transport} ← engine ← {bench, tools, tests}.
const MAY_DEPEND_ON: [(&str, &[&str]); 8] = [
    ("annulus-rings", &[]),
    ("annulus-storage", &["annulus-rings"]),
    ("annulus-transport", &["annulus-rings"]),
    ("annulus", &["annulus-rings", "annulus-storage", "annulus-transport"]),
    ("annulus-bench", &ENGINE_AND_BELOW),
    ("annulus-tools", &ENGINE_AND_BELOW),
    ("annulus-tests", &ENGINE_AND_BELOW),
    ("annulus-fuzz", &["annulus-rings", "annulus-storage"]),
];
const ENGINE_AND_BELOW: [&str; 4] = ["annulus", "annulus-rings", "annulus-storage", "annulus-transport"];

/// What `rings` may use: layouts, checksums, shared bytes, errors; and in tests, arbitrary inputs.
const RINGS_DEPENDENCIES: [&str; 5] = ["bytes", "crc-fast", "thiserror", "zerocopy", "proptest"];

/// Files of `rings` that shipped builds have no code of.
const NOT_SHIPPED: [&str; 3] = ["rings/examples/commits.rs", "rings/src/mutant.rs", "rings/src/reach.rs"];

/// What the ring must not see, and what it takes instead.
const IMPURE: [(&str, &str); 12] = [
    ("fs", "files belong to storage"),
    ("net", "sockets belong to transport"),
    ("thread", "a ring lives on the thread of its core"),
    ("sync", "nothing of a ring is shared"),
    ("process", "a ring ends by panicking, its core decides what then"),
    ("env", "everything is in RingOptions"),
    ("io", "input and output are frames"),
    ("os", "a ring knows no system"),
    ("time::Instant", "time is an argument"),
    ("time::SystemTime", "time is an argument"),
    ("collections::HashMap", "its order is random: use BTreeMap"),
    ("collections::HashSet", "its order is random: use BTreeSet"),
];

/// What `storage` and `transport` may know of `rings`: frames and names, not the protocol.
const FRAME_VOCABULARY: [&str; 25] = [
    "Ballot",
    "ClusterId",
    "ConfigurationId",
    "CoreId",
    "Frame",
    "FrameError",
    "FrameHeader",
    "FramePool",
    "Incarnation",
    "Kind",
    "Lsn",
    "Malformed",
    "NodeId",
    "RingId",
    "Slot",
    "Time",
    "contract",
    "ensures",
    "frame",
    "invariant",
    "message::Malformed",
    "message::carried",
    "mutant",
    "reach",
    "requires",
];

/// The files that may contain unsafe code, and what for.
const MAY_BE_UNSAFE: &[(&str, &str)] = &[
    ("engine/examples/kv/signals.rs", "waiting for signals"),
    ("engine/src/clock.rs", "a clock that counts suspend"),
    ("engine/src/limits.rs", "the limit of locked memory"),
    ("engine/src/runner/glommio.rs", "an eventfd that glommio is to own"),
    ("fuzz/src/allocation.rs", "an allocator that counts"),
    ("storage/examples/group_writes.rs", "the CPU time of a thread"),
    ("storage/src/buffer.rs", "aligned memory"),
    ("storage/src/helper.rs", "the eventfd of a core"),
    ("storage/src/nvm/mapping.rs", "mapped memory, and the instructions that make it durable"),
    ("storage/src/preparer.rs", "preallocating a file"),
    ("storage/src/nvm/mapping.rs", "memory mapped from a file, and the processor's stores and flushes"),
    ("storage/src/uring.rs", "writes that the kernel performs"),
    ("storage/src/wake.rs", "the eventfd of a core"),
    ("storage/tests/journal_files.rs", "an eventfd"),
    ("transport/src/buffer_ring.rs", "memory shared with the kernel"),
    ("transport/src/uring.rs", "operations that the kernel performs"),
    ("transport/src/eventfd.rs", "the eventfd of a core"),
];

/// Unfinished work, in pieces so that this list does not find itself.
const UNFINISHED: [&str; 7] = [
    concat!("to", "do!"),
    concat!("unimplemented", "!("),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("#[ig", "nore"),
    concat!("db", "g!("),
    concat!("XX", "X"),
];

/// Folders of one machine that no file of the project may name.
const FOLDERS_OF_A_MACHINE: [&str; 5] = ["home", "root", "tmp", "work", "Users"];

/// A file longer than this has a second noun hiding in it.
const FILE_LINES_MAX: usize = 600;
/// A file longer than this may have one: it is named, no more.
const FILE_LINES_USUAL: usize = 350;
/// A function longer than this does not fit a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// What `annulus contracts` prints: where contracts are asserted, and what makes them fail.
const ASSERTION_TABLE: &str = "tools/src/assertions.tsv";
const WITNESS_TABLE: &str = "tools/src/witnesses.tsv";

/// Rules of the protocol whose subject does not exist yet.
const NOT_YET: &[(&str, &str)] = &[
    ("L6", "there are no sessions"),
    ("R1", "the members of a ring do not change"),
    ("R2", "the members of a ring do not change"),
    ("R3", "the members of a ring do not change: A9 and P2 hold for the only configuration"),
    ("R4", "the members of a ring do not change"),
    ("R5", "the members of a ring do not change"),
    ("R7", "the members of a ring do not change"),
    ("S1", "there are no leases"),
    ("S2", "there are no leases"),
    ("S3", "there are no leases"),
    ("S4", "a query is answered from the local state, and says so"),
];

/// Fails with every complaint, and with the way to mend them.
#[track_caller]
fn hold(complaints: &[String], mend: &str) {
    assert!(complaints.is_empty(), "\n  {}\n\n{mend}\n", complaints.join("\n  "));
}

/// A place in a file, as editors understand it.
fn place(source: &Source, line: usize) -> String {
    format!("{}:{line}", source.path)
}

#[test]
fn crates_depend_only_downwards() {
    let mut complaints = Vec::new();
    for (folder, manifest) in Repository::open().manifests() {
        let allowed = MAY_DEPEND_ON.iter().find(|(name, _)| *name == manifest.name);
        let Some((_, allowed)) = allowed else {
            complaints.push(format!("{folder}: nobody says where {} stands", manifest.name));
            continue;
        };
        let ours = manifest.dependencies.iter().filter(|one| one.name.starts_with("annulus"));
        for dependency in ours.filter(|one| !allowed.contains(&one.name.as_str())) {
            complaints.push(format!("{folder}/Cargo.toml: {} depends on {}", manifest.name, dependency.name));
        }
    }
    hold(
        &complaints,
        "Imports point one way: rings ← {storage, transport} ← engine ← {bench, tools, tests}.",
    );
}

#[test]
fn sources_name_only_crates_below_them() {
    let repository = Repository::open();
    let mut complaints = Vec::new();
    for (folder, manifest) in repository.manifests() {
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(name, _)| *name == manifest.name) else {
            continue;
        };
        let above = MAY_DEPEND_ON.iter().map(|(name, _)| *name);
        for name in above.filter(|name| !allowed.contains(name) && *name != manifest.name) {
            let named = name.replace('-', "_");
            for source in repository.sources(&folder) {
                if !source.paths_of(&named).is_empty() {
                    complaints.push(format!("{}: names {named}", source.path));
                }
            }
        }
    }
    hold(
        &complaints,
        "Imports point one way: rings ← {storage, transport} ← engine ← {bench, tools, tests}.",
    );
}

#[test]
fn dependencies_take_their_version_from_the_workspace() {
    let mut complaints = Vec::new();
    for (folder, manifest) in Repository::open().manifests() {
        if !manifest.has_workspace_lints {
            complaints.push(format!("{folder}/Cargo.toml: [lints] workspace = true is missing"));
        }
        for dependency in &manifest.dependencies {
            let line = &dependency.line;
            if !line.contains(".workspace = true") && !line.contains("{ workspace = true") {
                complaints.push(format!("{folder}/Cargo.toml: {line}"));
            }
        }
    }
    hold(
        &complaints,
        "State version and reason once, in the root Cargo.toml, and write `name.workspace = true`.",
    );
}

#[test]
fn every_dependency_has_a_reason() {
    let repository = Repository::open();
    let root = repository.text("Cargo.toml").expect("a root manifest");
    let section = root.split("[workspace.dependencies]").nth(1).expect("the workspace's dependencies");
    let section = section.split("\n[").next().expect("a section");
    let lines = section
        .lines()
        .filter(|line| line.contains('=') && !line.starts_with('#') && !line.contains("path ="));
    let reason = |line: &str| line.rsplit_once('#').map_or(0, |(_, reason)| reason.trim().len());
    let complaints: Vec<String> = lines.filter(|line| reason(line) < 8).map(str::to_owned).collect();
    hold(&complaints, "Say behind the line, after #, why the project needs it; or do without it.");
}

#[test]
fn rings_is_pure() {
    let repository = Repository::open();
    let mut complaints = Vec::new();
    // Which mutant is alive comes from the environment, places are counted per thread, and the example
    // measures time; what a user builds has none of it.
    let is_shipped = |source: &&Source| !NOT_SHIPPED.contains(&source.path.as_str());
    for source in repository.sources("rings").iter().filter(is_shipped) {
        for path in source.paths_of("std").into_iter().chain(source.paths_of("core")) {
            let impure =
                IMPURE.iter().find(|(root, _)| path == *root || path.starts_with(&format!("{root}::")));
            if let Some((_, instead)) = impure {
                complaints.push(format!("{}: std::{path}: {instead}", source.path));
            }
        }
        for word in ["rand", "unsafe", "static", "println", "eprintln", "async"] {
            let lines = source.lines_with(word);
            complaints.extend(
                lines
                    .into_iter()
                    .filter(|line| !is_lifetime(source, *line, word))
                    .map(|line| format!("{}: {word}", place(source, line))),
            );
        }
    }
    let manifests = repository.manifests();
    let (_, rings) = manifests.iter().find(|(folder, _)| folder == "rings").expect("the crate rings");
    let foreign = rings.dependencies.iter().filter(|one| !RINGS_DEPENDENCIES.contains(&one.name.as_str()));
    complaints.extend(foreign.map(|one| format!("rings/Cargo.toml: {}", one.name)));
    hold(&complaints, "The ring sees no clock, socket, file, thread or randomness: take it as an argument.");
}

/// Whether `static` is the lifetime and nothing else.
fn is_lifetime(source: &Source, line: usize, word: &str) -> bool {
    let code = source.code.lines().nth(line - 1).unwrap_or_default();
    word == "static" && code.matches("static").count() == code.matches("'static").count()
}

#[test]
fn storage_and_transport_know_frames_and_not_the_protocol() {
    let repository = Repository::open();
    let mut complaints = Vec::new();
    for source in ["storage", "transport"].iter().flat_map(|folder| repository.sources(folder)) {
        for path in source.paths_of("annulus_rings") {
            let known =
                FRAME_VOCABULARY.iter().any(|item| path == *item || path.starts_with(&format!("{item}::")));
            if !known {
                complaints.push(format!("{}: annulus_rings::{path}", source.path));
            }
        }
    }
    hold(&complaints, "Journal and network move frames: let the engine translate what the protocol wants.");
}

#[test]
fn glommio_is_named_in_one_module() {
    let sources = Repository::open().sources("");
    // Where `mod glommio` stands, the name means that module.
    let names_it =
        |source: &&Source| !source.paths_of("glommio").is_empty() && !source.code.contains("mod glommio;");
    let naming: Vec<String> = sources.iter().filter(names_it).map(|source| source.path.clone()).collect();
    let is_one = naming.len() == 1 && naming[0].starts_with("engine/src/");
    let mend = "One module of the engine knows the runtime, so that it can be exchanged.";
    hold(if is_one { &[] } else { &naming }, mend);
}

#[test]
fn unsafe_code_is_where_it_is_expected_and_explained() {
    let sources = Repository::open().sources("");
    let has_unsafe = |path: &str| {
        sources.iter().any(|source| source.path == path && !source.lines_with("unsafe").is_empty())
    };
    let safe = MAY_BE_UNSAFE.iter().filter(|(path, _)| !has_unsafe(path));
    let mut complaints: Vec<String> = safe.map(|(path, _)| format!("{path}: needs no exception")).collect();
    for source in &sources {
        for line in source.lines_with("unsafe") {
            if !MAY_BE_UNSAFE.iter().any(|(path, _)| *path == source.path) {
                complaints
                    .push(format!("{}: unsafe code outside of the listed modules", place(source, line)));
            } else if !is_explained(source, line) {
                complaints.push(format!("{}: no // SAFETY: above it", place(source, line)));
            }
        }
    }
    hold(
        &complaints,
        "Write it safely; or, in a module listed in MAY_BE_UNSAFE, one operation per block with // SAFETY: and who keeps the fact.",
    );
}

/// Whether the comment above the statement of an `unsafe` says why it is sound.
fn is_explained(source: &Source, line: usize) -> bool {
    let lines: Vec<&str> = source.text.lines().collect();
    let above = lines[..line].iter().rev().take(8);
    let is_declaration = lines[line - 1].contains("unsafe fn") || lines[line - 1].contains("unsafe extern");
    above.into_iter().any(|text| text.contains("SAFETY:") || is_declaration && text.contains("# Safety"))
}

#[test]
fn every_crate_forbids_or_denies_unsafe_code() {
    let roots = ["src/lib.rs", "src/main.rs"];
    let is_root = |source: &Source| {
        roots.iter().any(|root| source.path.split_once('/').is_some_and(|(_, path)| path == *root))
    };
    let says = |source: &Source| {
        source.code.contains("![forbid(unsafe_code)]") || source.code.contains("![deny(unsafe_code)]")
    };
    let sources = Repository::open().sources("");
    let complaints = sources.iter().filter(|source| is_root(source) && !says(source));
    let complaints: Vec<String> = complaints.map(|source| source.path.clone()).collect();
    hold(
        &complaints,
        "Begin the crate with #![forbid(unsafe_code)], or #![deny(unsafe_code)] where listed modules allow it.",
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let mut complaints = Vec::new();
    for source in Repository::open().sources("") {
        for (index, line) in source.text.lines().enumerate() {
            let words = UNFINISHED.iter().filter(|word| line.contains(*word));
            complaints.extend(words.map(|word| format!("{}: {word}", place(&source, index + 1))));
        }
    }
    hold(&complaints, "Finish it, or take it out and say in the change log what is not there.");
}

#[test]
fn files_and_functions_are_short() {
    let mut complaints = Vec::new();
    for source in Repository::open().sources("") {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            complaints.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
        } else if lines > FILE_LINES_USUAL {
            println!("{}: {lines} lines: is a second noun hiding there?", source.path);
        }
        let long = source.functions().into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
        for function in long {
            let at = place(&source, function.line);
            complaints.push(format!(
                "{at}: {} has {} lines, at most {FUNCTION_LINES_MAX}",
                function.name, function.lines
            ));
        }
    }
    hold(
        &complaints,
        "A file is one noun, a function fits a screen: give the second noun a file, the second step a name.",
    );
}

#[test]
fn every_file_says_what_it_is() {
    let sources = Repository::open().sources("");
    let silent =
        sources.iter().filter(|source| !source.text.starts_with("//! ") && !source.text.starts_with("#!"));
    let complaints: Vec<String> = silent.map(|source| source.path.clone()).collect();
    hold(&complaints, "Begin the file with a //! sentence that says which noun it is about.");
}

#[test]
fn every_contract_is_asserted_and_every_asserted_contract_exists() {
    let assertions = Repository::open().assertions();
    let is_asserted = |id: &str| assertions.iter().any(|assertion| assertion.id == id);
    let mut complaints = Vec::new();
    for contract in contract::ALL.iter().filter(|contract| !is_asserted(contract.id)) {
        complaints.push(format!("{} {} is asserted nowhere", contract.id, contract.name));
    }
    for assertion in &assertions {
        if !contract::ALL.iter().any(|contract| contract.id == assertion.id) {
            complaints
                .push(format!("{}: {}! of an unknown {}", assertion.path, assertion.clause, assertion.id));
        }
    }
    hold(
        &complaints,
        "Assert the rule where it must hold, with requires!, ensures! or invariant!, or take it out of contract.rs.",
    );
}

#[test]
fn the_table_of_assertions_is_up_to_date() {
    let repository = Repository::open();
    let mut table = String::new();
    for Assertion { id, clause, path, function, .. } in repository.assertions() {
        let line = format!("{id}\t{clause}\t{path}\t{function}");
        if table.lines().next_back() != Some(&line) {
            writeln!(table, "{line}").expect("a string takes everything");
        }
    }
    if env::var("ANNULUS_CONTRACTS").is_ok_and(|value| value == "bless") {
        repository.write(ASSERTION_TABLE, &table);
        return;
    }
    let written = repository.text(ASSERTION_TABLE).unwrap_or_default();
    let missing = table.lines().filter(|line| !written.lines().any(|other| other == *line));
    let gone = written.lines().filter(|line| !table.lines().any(|other| other == *line));
    let complaints = missing.map(|line| format!("+ {line}")).chain(gone.map(|line| format!("- {line}")));
    let complaints: Vec<String> = complaints.collect();
    hold(
        &complaints,
        "Run ANNULUS_CONTRACTS=bless cargo test -p annulus-tests --test rules, and look at the change.",
    );
}

#[test]
fn every_rule_of_the_protocol_is_a_contract_or_has_a_reason_not_to_be() {
    let ranges = [("A", 10), ("P", 9), ("L", 7), ("T", 7), ("R", 7), ("S", 5), ("M", 2)];
    let rules = ranges.into_iter().flat_map(|(group, count)| (1..=count).map(move |n| format!("{group}{n}")));
    let is_contract = |id: &str| contract::ALL.iter().any(|contract| contract.id == id);
    let is_excused = |id: &str| NOT_YET.iter().any(|(rule, _)| *rule == id);
    let complaints: Vec<String> = rules.filter(|rule| is_contract(rule) == is_excused(rule)).collect();
    hold(&complaints, "Assert the rule, or say in NOT_YET why its subject does not exist; not both.");
}

#[test]
fn every_contract_has_been_seen_to_fail() {
    let repository = Repository::open();
    let witnesses = repository.text(WITNESS_TABLE).unwrap_or_default();
    let tests: Vec<_> = repository.sources("").iter().flat_map(Source::tests_of_panics).collect();
    let mut complaints = Vec::new();
    for contract in contract::ALL {
        if !witnesses.lines().any(|line| line.split('\t').next() == Some(contract.id)) {
            complaints.push(format!("{} {}: nothing makes it fail", contract.id, contract.name));
        }
    }
    for line in witnesses.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, name, place] = fields[..] else {
            panic!("{WITNESS_TABLE}: three fields a line, not {line}")
        };
        let is_test = |test: &PanicTest| {
            test.expected == format!("contract {id}") && place == format!("{} {}", test.path, test.function)
        };
        let exists = match name {
            "-" => tests.iter().any(is_test),
            _ => mutant::ALL.iter().any(|mutant| mutant.name == name && mutant.breaks == id),
        };
        if !exists || !contract::ALL.iter().any(|contract| contract.id == id) {
            complaints.push(format!("{WITNESS_TABLE}: there is no such contract, mutant or test: {line}"));
        }
    }
    hold(
        &complaints,
        "Write a mutant that the contract itself stops, or a test with #[should_panic(expected = \"contract ID\")]; then run the mutants with `bless`.",
    );
}

#[test]
fn every_row_of_the_fault_matrix_has_a_mutant_or_a_reason() {
    let mut complaints = Vec::new();
    for (index, row) in ROWS.iter().enumerate() {
        if row.number as usize != index + 1 {
            complaints.push(format!("row {} stands where row {} should", row.number, index + 1));
        }
        if row.mutants().next().is_some() == row.without.is_some() {
            complaints.push(format!("row {} ({}) needs a mutant, or a reason", row.number, row.seen_in));
        }
    }
    for mutant in mutant::ALL {
        for number in faults::numbers(mutant.origin).filter(|number| *number as usize > ROWS.len()) {
            complaints.push(format!("{} is of row {number}, which is not there", mutant.name));
        }
    }
    hold(
        &complaints,
        "Name the row in the origin of a mutant, or say in faults.rs why there is none; not both.",
    );
}

#[test]
fn links_between_documents_resolve() {
    let repository = Repository::open();
    let mut complaints = Vec::new();
    for document in repository.documents().iter().filter(|document| document.has_extension("md")) {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let targets = document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or_default();
            let path = if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") };
            if !repository.has(&path) {
                complaints.push(format!("{}: {target}", document.path));
            }
        }
    }
    hold(&complaints, "Link to something that is in the tree.");
}

#[test]
fn the_example_of_the_readme_is_the_tested_example() {
    let repository = Repository::open();
    let example = repository.text("engine/examples/counter.rs").unwrap_or("(there is no such example)");
    let readme = repository.text("README.md").unwrap_or_default();
    let complaints = if readme.contains(example.trim()) { vec![] } else { vec!["README.md".to_owned()] };
    hold(
        &complaints,
        "Put engine/examples/counter.rs into the README as it is, so that what readers copy compiles.",
    );
}

#[test]
fn no_file_names_the_folders_of_a_machine() {
    let mut complaints = Vec::new();
    for document in Repository::open().documents() {
        for (index, line) in document.text.lines().enumerate() {
            let named = FOLDERS_OF_A_MACHINE.iter().find(|folder| names_folder(line, folder));
            complaints
                .extend(named.map(|folder| format!("{}:{}: a path in {folder}", document.path, index + 1)));
        }
    }
    hold(
        &complaints,
        "Take the path from the environment or a temporary directory: other machines have other folders.",
    );
}

/// Whether `line` has an absolute path into `folder` of the root directory.
fn names_folder(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}/");
    let is_absolute =
        |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}>)$*".contains(c));
    let goes_on = |at: usize| line[at + path.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '.');
    line.match_indices(&path).any(|(at, _)| is_absolute(at) && goes_on(at))
}
