//! The benchmark from end to end, with short loads.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A directory on the disk of the build, which is not tmpfs where /tmp is.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable")
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_annulus-bench")).args(arguments).output().expect("the benchmark starts")
}

/// Runs a short load and returns its JSON.
fn measure(directory: &Path, arguments: &[&str]) -> Value {
    let json: PathBuf = directory.join("figures.json");
    let fixed = [
        "run",
        "--seconds",
        "0.5",
        "--warmup",
        "0.2",
        "--dir",
        directory.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ];
    let output = bench(&[&fixed[..], arguments].concat());
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("verified") && !said.contains("NOT VERIFIED"), "{said}");
    serde_json::from_slice(&std::fs::read(json).expect("the JSON was written")).expect("it is JSON")
}

fn number(json: &Value, path: &str) -> f64 {
    json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} is no number in {json:#}"))
}

#[test]
fn three_durable_processes_commit_and_keep_everything_after_kill_9() {
    let directory = directory();
    let json = measure(directory.path(), &["--outstanding", "1,64"]);
    assert_eq!(json["verified"], true);
    assert_eq!(json["durable"], true);
    assert_eq!(json["rows"].as_array().unwrap().len(), 2);
    assert!(number(&json, "/committed_per_second") > 0.0);
    assert!(number(&json, "/acknowledged") > 0.0);
    assert!(number(&json, "/flushes") > 0.0 && number(&json, "/bytes_written") > 0.0);
    assert!(
        number(&json, "/floor/tcp_rtt_us_p50") > 0.0 && number(&json, "/floor/durable_write_us_p50") > 0.0
    );
    assert!(number(&json, "/latency_us/p50") <= number(&json, "/latency_us/p999"));
    assert!(number(&json, "/rows/0/p50_over_floor") > 0.0);
    assert!(!json["stages"].as_array().unwrap().is_empty());
}

#[test]
fn the_load_can_live_on_the_leaders_cores_and_several_rings() {
    let directory = directory();
    let json = measure(
        directory.path(),
        &[
            "--load",
            "embedded",
            "--rings",
            "2",
            "--outstanding",
            "32",
            "--payload",
            "100",
            "--runner",
            "thread",
        ],
    );
    assert_eq!(json["verified"], true);
    assert_eq!(json["load"].as_str().or(json["configuration"]["load"].as_str()), Some("embedded"));
}

#[test]
fn a_volatile_cluster_in_one_process_says_that_it_is_volatile() {
    let directory = directory();
    let json = measure(
        directory.path(),
        &["--journal", "memory", "--transport", "loopback", "--outstanding", "16", "--connections", "2"],
    );
    assert_eq!(json["durable"], false);
    assert_eq!(json["verified"], true);
    assert!(json["warnings"].to_string().contains("VOLATILE"));
    assert!(json["floor"]["durable_write_us_p50"].is_null());
}

#[test]
fn a_benchmark_that_is_killed_leaves_neither_processes_nor_journals() {
    // While its replicas start, and when they write: they complain, of their peers for one, to nobody.
    for moment in ["node-3/", "node-3/core-0/"] {
        let directory = directory();
        let options =
            ["run", "--outstanding", "16", "--seconds", "30", "--dir", directory.path().to_str().unwrap()];
        let mut bench = Command::new(env!("CARGO_BIN_EXE_annulus-bench"))
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the benchmark starts");
        let is_left = || std::fs::read_dir(directory.path()).expect("it is there").next().is_some();
        let is_there = || walk(directory.path()).iter().any(|path| path.to_string_lossy().contains(moment));
        wait_until(&format!("files in {moment}"), is_there);
        bench.kill().expect("it runs");
        bench.wait().expect("it ended");
        wait_until(&format!("journals are gone, after a kill at the first file in {moment}"), || !is_left());
    }
}

/// A replica may take ten seconds to stop, and as many to remove what it wrote.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every file below `directory`. What vanishes meanwhile is left out.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_starts() {
    let refused = |arguments: &[&str], expected: &str| {
        let output = bench(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
    };
    refused(&["run", "--cores", "2", "--rings", "1"], "use --rings 2 or more");
    refused(&["run", "--dir", "/dev/shm"], "name a directory on a disk with --dir");
    refused(&["run", "--dir", "/no/such/place"], "/no/such/place");
    refused(&["run", "--pin", "0/0"], "one list per replica");
    refused(&["run", "--json", "/no/such/place/x.json"], "cannot write --json");
    refused(&["run", "--outstanding", ""], "--outstanding");
    refused(&["replica"], "annulus-bench run");
}
