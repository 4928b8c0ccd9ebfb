//! `annulus-bench contracts`: what checking the contracts costs a commit.
//!
//! Three builds of the same release code are measured in turn, again and again: without any contract, with
//! those that are always on, and with all of them. What is measured is the protocol alone, one ring of three
//! replicas in memory (`rings/examples/commits.rs`): beside a disk or a network nobody would see the cost.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::ContractsOptions;
use crate::format::table;
use crate::progress::Progress;

/// A build: what it checks, as the example says it, and what the compiler is told to make it so.
struct Variant {
    set: &'static str,
    title: &'static str,
    flag: Option<&'static str>,
}

const VARIANTS: [Variant; 3] = [
    Variant { set: "None", title: "no contracts", flag: Some("annulus_contracts=\"none\"") },
    Variant { set: "Always", title: "always set", flag: None },
    Variant { set: "Full", title: "full set", flag: Some("annulus_contracts=\"full\"") },
];

/// Nanoseconds of CPU time per commit, of one variant.
type Figures = Vec<f64>;

/// Builds what is to be compared, measures it and prints the table.
pub(crate) fn contracts(options: &ContractsOptions) -> Result<bool, Box<dyn Error>> {
    if options.runs == 0 || options.batch.contains(&0) {
        return Err("--runs and --batch count from 1".into());
    }
    let mut progress = Progress::new();
    let programs = match options.programs.as_slice() {
        [] => VARIANTS.iter().map(|variant| build(variant, &mut progress)).collect::<Result<_, _>>()?,
        [_, _, _] => options.programs.clone(),
        _ => return Err("--programs takes three: without contracts, the always set, the full set".into()),
    };
    let mut rows = Vec::new();
    for &batch in &options.batch {
        let mut figures = [const { Figures::new() }; VARIANTS.len()];
        for run in 1..=options.runs {
            for ((variant, program), figures) in VARIANTS.iter().zip(&programs).zip(&mut figures) {
                progress.step(&format!("batch {batch}, run {run} of {}: {}", options.runs, variant.title));
                figures.push(measure(variant, program, batch, options.millis)?);
            }
        }
        rows.push(row(batch, figures));
    }
    progress.finish();
    println!(
        "CPU ns per commit of a ring of three replicas in memory, 64-byte commands: median [min–max] of {}",
        options.runs
    );
    print!("{}", table(&["commands per batch", "no contracts", "always set", "full set"], &rows));
    Ok(true)
}

/// Builds the example with a variant's contracts, in a target directory of its own.
fn build(variant: &Variant, progress: &mut Progress) -> Result<PathBuf, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the sources lie in a workspace")?;
    if !workspace.join("rings/examples/commits.rs").exists() {
        return Err(format!(
            "the sources are not in {} any more: run this from a checkout, or build rings/examples/commits.rs three times and name the programs with --programs",
            workspace.display()
        ));
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let target = target.join("contracts").join(variant.set.to_lowercase());
    progress.step(&format!("building with {} (the first time takes a minute)", variant.title));
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--release", "--locked", "-p", "annulus-rings", "--example", "commits"]);
    command.arg("--target-dir").arg(&target).current_dir(workspace);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(variant));
    let failed = |error| format!("cannot run cargo: {error}; it builds what is compared");
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok) {
        progress.detail(line.trim());
        said += &line;
        said += "\n";
    }
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(format!("the build with {} failed:\n{said}", variant.title));
    }
    Ok(target.join("release/examples/commits"))
}

/// The caller's flags for the compiler, and the variant's.
fn flags(variant: &Variant) -> String {
    let given = env::var("CARGO_ENCODED_RUSTFLAGS").ok();
    let plain =
        || env::var("RUSTFLAGS").map(|flags| flags.split_whitespace().collect::<Vec<_>>().join("\x1f"));
    let mut flags = given.or_else(|| plain().ok()).unwrap_or_default();
    if let Some(flag) = variant.flag {
        let separator = if flags.is_empty() { "" } else { "\x1f" };
        flags = format!("{flags}{separator}--cfg\x1f{flag}");
    }
    flags
}

/// Runs a program once; nanoseconds per commit.
fn measure(variant: &Variant, program: &Path, batch: u32, millis: u64) -> Result<f64, String> {
    let mut command = Command::new(program);
    command.args([batch.to_string(), millis.to_string()]).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.split_once(' ').and_then(|(set, ns)| Some((set, ns.trim().parse().ok()?)));
    match said {
        Some((set, ns)) if set == variant.set => Ok(ns),
        Some((set, _)) => Err(format!(
            "{} checks {set}, not {}: name the programs in the order none, always, full, built with --release",
            program.display(),
            variant.set
        )),
        None => Err(format!("{} says no figure: {text}", program.display())),
    }
}

/// A line of the table: each variant's figures, and how they compare with none.
fn row(batch: u32, mut figures: [Figures; VARIANTS.len()]) -> Vec<String> {
    for figures in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    let median = |figures: &Figures| figures[(figures.len() - 1) / 2];
    let bare = median(&figures[0]);
    let cell = |(index, figures): (usize, &Figures)| {
        let (least, most) = (figures[0], figures[figures.len() - 1]);
        let ratio = if index == 0 { String::new() } else { format!("  {:.3}×", median(figures) / bare) };
        format!("{:.1} [{least:.1}–{most:.1}]{ratio}", median(figures))
    };
    [batch.to_string()].into_iter().chain(figures.iter().enumerate().map(cell)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_compares_medians_with_the_build_without_contracts() {
        let figures = [vec![12.0, 10.0, 11.0], vec![11.0, 22.0, 11.0], vec![33.0, 22.0, 44.0]];
        let row = row(16, figures);
        assert_eq!(row[1], "11.0 [10.0–12.0]");
        assert_eq!(row[2], "11.0 [11.0–22.0]  1.000×");
        assert_eq!(row[3], "33.0 [22.0–44.0]  3.000×");
    }

    #[test]
    fn the_flags_of_a_variant_follow_those_of_the_caller() {
        let none = flags(&VARIANTS[0]);
        assert!(none.ends_with("--cfg\x1fannulus_contracts=\"none\""), "{none:?}");
        assert!(!flags(&VARIANTS[1]).contains("annulus_contracts"));
    }
}
