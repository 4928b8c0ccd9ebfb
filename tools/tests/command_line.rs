//! The command line, run as an operator runs it: what it prints and how it exits.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, CoreId, Frame, FrameHeader, Incarnation, Kind, Lsn, NodeId, RingId,
    Slot, contract,
};
use annulus_storage::{DataDir, FileDisk, JournalOptions, Unrecovered};
use bytes::BytesMut;
use common::{annulus, complaint, contents, json, text};
use serde_json::Value;

/// Votes written to the journal of core 0.
const VOTES: u64 = 40;

/// A vote of ring 9, for the slot of its number.
fn vote(slot: u64) -> Frame {
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend_from_slice(&[7; 600]);
    let header = FrameHeader {
        kind: Kind::Accept,
        cluster: ClusterId(5),
        ring: RingId(9),
        configuration: ConfigurationId(1),
        sender: NodeId(2),
        ballot: Ballot { round: 3, node: NodeId(2), incarnation: Incarnation(1) },
        slot: Slot(slot),
        chosen: Slot(slot / 2),
        commands: 1,
        words: [0; 4],
    };
    Frame::seal(buffer, &header)
}

/// A data directory of two cores; the first has votes in its journal, in several group writes.
fn node(directory: &Path) {
    let data = DataDir::open(directory, ClusterId(5), NodeId(2), 2).unwrap();
    let options = JournalOptions {
        segment_bytes: 256 << 10,
        write_bytes_max: 32 << 10,
        frame_bytes_max: 64 << 10,
        ..JournalOptions::default()
    };
    for core in [CoreId(0), CoreId(1)] {
        let core = data.core(core);
        let disk = FileDisk::open(&core, options.sync).unwrap();
        let unrecovered = Unrecovered::open(disk, core.identity(), options.clone()).unwrap();
        let mut journal = unrecovered.recover(|_, _| {}).unwrap();
        let votes = if core.identity().core == CoreId(0) { VOTES } else { 0 };
        let start = Instant::now();
        for slot in 0..votes {
            journal.append(Lsn(slot + 1), &vote(slot));
            while journal.persisted() < Lsn(slot / 4 * 4) {
                journal.submit();
                journal.poll().unwrap();
                assert!(start.elapsed() < Duration::from_secs(20), "the disk answers");
            }
        }
        while journal.persisted() < journal.appended() {
            journal.submit();
            journal.poll().unwrap();
            assert!(start.elapsed() < Duration::from_secs(20), "the disk answers");
        }
    }
}

fn first_segment(directory: &Path) -> PathBuf {
    directory.join("core-0").join("0000000000000001.segment")
}

#[test]
fn who_reads_along_may_stop_reading() {
    for arguments in [&["contracts"][..], &["contracts", "--json"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tool = command.spawn().expect("the tool starts");
        drop(tool.stdout.take());
        let output = tool.wait_with_output().expect("the tool ends");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn contracts_are_listed_with_where_they_are_asserted() {
    let listed = annulus(&["contracts"]);
    assert!(listed.status.success());
    for contract in contract::ALL {
        assert!(text(&listed).contains(contract.name), "{}", contract.name);
    }
    let listed = json(&annulus(&["contracts", "--json"]));
    let gate = listed["contracts"].as_array().unwrap().iter().find(|one| one["id"] == "A4").unwrap();
    assert_eq!((&gate["name"], &gate["always"]), (&Value::from("ack-gate"), &Value::from(true)));
    assert!(
        gate["asserted"].as_array().unwrap().iter().any(|place| place["file"] == "rings/src/acceptor.rs")
    );
    assert!(gate["reached"].as_u64().unwrap() > 0);
    assert!(listed["reached_by"].as_str().unwrap().contains("seeds"));
    assert!(!gate["fails"][0]["place"].as_str().unwrap().is_empty());
    let holes = listed["places"].as_array().unwrap().iter().find(|place| place["name"] == "HOLE_FILLED");
    assert!(holes.unwrap()["reached"].as_u64().unwrap() > 0);
}

#[test]
fn inspecting_names_owner_positions_rings_and_slots_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    node(directory.path());
    let before = contents(directory.path());
    let inspected = annulus(&["journal", "inspect", directory.path().to_str().unwrap()]);
    assert!(inspected.status.success());
    for said in
        ["cluster 5, node 2, core 0", "positions 1 to 40", "40 Accept", "votes for slots 0 to 39", "sound"]
    {
        assert!(text(&inspected).contains(said), "{said} in {}", text(&inspected));
    }
    let inspected = json(&annulus(&["journal", "inspect", "--json", directory.path().to_str().unwrap()]));
    let journals = inspected["journals"].as_array().unwrap();
    assert_eq!(journals.len(), 2);
    assert_eq!(journals[0]["rings"]["9"]["slots"], Value::from(vec![0, 39]));
    assert_eq!(journals[1]["frames"], 0);
    assert_eq!(contents(directory.path()), before);
}

#[test]
fn a_core_can_be_inspected_alone() {
    let directory = tempfile::tempdir().unwrap();
    node(directory.path());
    let core = directory.path().join("core-0");
    let verified = json(&annulus(&["journal", "verify", "--json", core.to_str().unwrap()]));
    assert_eq!(verified["journals"][0]["state"], "sound");
    assert_eq!(verified["journals"][0]["frames"], VOTES);
}

#[test]
fn damage_below_the_end_is_told_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    node(directory.path());
    let file = File::options().write(true).open(first_segment(directory.path())).unwrap();
    file.write_all_at(b"rot", 4096 + 300).unwrap();
    let verified = annulus(&["journal", "verify", directory.path().to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified).contains("DAMAGED: segment 1"), "{}", text(&verified));
    let inspected = annulus(&["journal", "inspect", directory.path().to_str().unwrap()]);
    assert_eq!(inspected.status.code(), Some(1));
}

#[test]
fn a_directory_that_is_no_node_s_is_refused_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let refused = annulus(&["journal", "inspect", directory.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(complaint(&refused).contains("name a node's data directory"));
}

#[test]
fn a_dump_prints_every_frame_of_what_is_asked_and_its_json_has_the_same_names() {
    let directory = tempfile::tempdir().unwrap();
    node(directory.path());
    let path = directory.path().to_str().unwrap();
    let dumped = text(&annulus(&["journal", "dump", path]));
    assert_eq!(dumped.lines().count() as u64, VOTES);
    let first = dumped.lines().next().unwrap();
    assert!(first.starts_with("core-0 lsn 1 segment 1 offset 4096 kind Accept ring 9 slot 0 "), "{first}");
    let some = text(&annulus(&["journal", "dump", "--json", "--from", "5", "--to", "7", path]));
    let lines: Vec<Value> = some.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["lsn"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 6, 7]);
    assert_eq!(lines[0]["slot"], 4);
    let words: Vec<&str> = first.split_whitespace().collect();
    for (name, _) in lines[0].as_object().unwrap().iter().filter(|(name, _)| *name != "core") {
        assert!(words.contains(&name.as_str()), "{name} in {first}");
    }
    assert!(text(&annulus(&["journal", "dump", "--ring", "8", path])).is_empty());
    assert!(text(&annulus(&["journal", "dump", "--kind", "mark", path])).is_empty());
}

#[test]
fn a_dump_of_a_damaged_journal_prints_what_is_right_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    node(directory.path());
    let file = File::options().write(true).open(first_segment(directory.path())).unwrap();
    file.write_all_at(b"rot", 3 * 4096 + 300).unwrap();
    let dumped = annulus(&["journal", "dump", directory.path().to_str().unwrap()]);
    assert_eq!(dumped.status.code(), Some(1));
    assert!(complaint(&dumped).contains("DAMAGED: segment 1"), "{}", complaint(&dumped));
    assert!((1..VOTES).contains(&(text(&dumped).lines().count() as u64)));
}
