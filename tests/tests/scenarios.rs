//! Every golden script under `tests/scenarios` is played, and must go as it is written.

use std::path::PathBuf;
use std::{env, fs};

use annulus_tests::scenario;

#[test]
fn every_script_goes_as_it_is_written() {
    let bless = env::var("ANNULUS_SCENARIOS").is_ok_and(|value| value == "bless");
    let mut failures = Vec::new();
    for path in scripts() {
        println!("{}", path.display());
        let written = fs::read_to_string(&path).expect("the script is readable");
        match scenario::play(&written) {
            Ok(played) if played == written => {}
            Ok(played) if bless => fs::write(&path, played).expect("the script is writable"),
            Ok(played) => {
                failures.push(format!("{}: {}", path.display(), first_difference(&written, &played)));
            }
            Err(why) => failures.push(format!("{}: {why}", path.display())),
        }
    }
    let advice = "if the new story is right, write it with ANNULUS_SCENARIOS=bless";
    assert!(failures.is_empty(), "{}\n\n{advice}", failures.join("\n\n"));
}

fn scripts() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let entries = fs::read_dir(folder).expect("the folder of the scripts");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {folder}");
    paths
}

/// Where two stories part, with the lines before.
fn first_difference(written: &str, played: &str) -> String {
    let (written, played): (Vec<_>, Vec<_>) = (written.lines().collect(), played.lines().collect());
    let common = written.iter().zip(&played).take_while(|(a, b)| a == b).count();
    let before = written[common.saturating_sub(5)..common].join("\n  ");
    let line = |lines: &[&str]| lines.get(common).copied().unwrap_or("(the end)").to_owned();
    format!("line {}:\n  {before}\n- {}\n+ {}", common + 1, line(&written), line(&played))
}
