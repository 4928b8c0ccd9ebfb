//! Snapshots of real directories: looked at, verified, and copied from node to node.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annulus_rings::{ClusterId, ConfigurationId, CoreId, NodeId, RingId, Slot};
use annulus_storage::{
    DataDir, Expected, FileVault, SnapshotConfiguration, SnapshotError, SnapshotHeader, SnapshotName,
    SnapshotShelf, SnapshotWriting, Vault as _, VaultState, read_snapshot,
};
use common::{annulus, complaint, contents, json, text};
use serde_json::Value;

/// It is on core 1 of two.
const RING: RingId = RingId(9);
const RECORDS: u64 = 3000;

fn open(directory: &Path, cluster: u64, node: u16) -> DataDir {
    DataDir::open(directory, ClusterId(cluster), NodeId(node), 2).unwrap()
}

/// The data directory of a node with snapshots of the ring up to these slots.
fn node(directory: &Path, number: u16, slots: &[u64]) {
    let data = open(directory, 5, number);
    let core = data.core(CoreId(1));
    let mut vault = FileVault::open_alone(&core).unwrap();
    for slot in slots {
        let members = vec![NodeId(1), NodeId(2), NodeId(3)];
        let configuration = SnapshotConfiguration { id: ConfigurationId(8), first_slot: Slot(0), members };
        let header = SnapshotHeader {
            identity: core.identity(),
            ring: RING,
            slot: Slot(*slot),
            time_ns: 77,
            origin: NodeId(number),
            configuration,
            pending: None,
        };
        write(&mut vault, header);
    }
}

fn write(vault: &mut FileVault, header: SnapshotHeader) {
    let mut writing = SnapshotWriting::begin(vault, 1, header);
    let (mut completions, mut given) = (Vec::new(), 0);
    loop {
        while writing.wants_records() > 0 {
            if given == RECORDS {
                writing.finish(vault);
            } else {
                writing.record(vault, &given.to_le_bytes().repeat(10));
                given += 1;
            }
        }
        std::thread::sleep(Duration::from_micros(100));
        vault.poll(&mut completions);
        completions.drain(..).for_each(|completion| writing.on(vault, completion));
        if let Some(outcome) = writing.outcome() {
            outcome.unwrap();
            return;
        }
    }
}

/// Where the snapshot up to a slot lies.
fn file(directory: &Path, slot: u64) -> PathBuf {
    directory.join(format!("core-1/snapshots/00000009-{slot:016x}.snapshot"))
}

fn rot(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn arguments<'a>(command: &[&'a str], paths: &[&'a Path]) -> Vec<&'a str> {
    command.iter().copied().chain(paths.iter().map(|path| path.to_str().unwrap())).collect()
}

fn run(command: &[&str], paths: &[&Path]) -> std::process::Output {
    annulus(&arguments(command, paths))
}

#[test]
fn inspecting_names_owner_ring_and_slot_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    node(directory.path(), 2, &[100, 250]);
    let before = contents(directory.path());
    let inspected = run(&["snapshot", "inspect"], &[directory.path()]);
    assert!(inspected.status.success(), "{}", complaint(&inspected));
    for said in [
        "cluster 5, node 2, core 1",
        "ring 9",
        "below slot 250",
        "origin 2",
        "members [1, 2, 3]",
        "published",
    ] {
        assert!(text(&inspected).contains(said), "{said} in {}", text(&inspected));
    }
    let inspected = json(&run(&["snapshot", "inspect", "--json"], &[directory.path()]));
    let newest = &inspected["snapshots"][1];
    assert_eq!((&newest["header"]["slot"], &newest["state"]), (&Value::from(250), &Value::from("published")));
    let alone = json(&run(&["snapshot", "inspect", "--json"], &[&file(directory.path(), 100)]));
    assert_eq!(alone["snapshots"][0]["header"]["owner"]["node"], 2);
    assert_eq!(contents(directory.path()), before);
}

#[test]
fn verifying_reads_everything_and_damage_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    node(directory.path(), 2, &[100, 250]);
    let verified = json(&run(&["snapshot", "verify", "--json"], &[directory.path()]));
    assert_eq!(verified["snapshots"][1]["records"], RECORDS);
    rot(&file(directory.path(), 250), 100_000);
    let verified = run(&["snapshot", "verify"], &[directory.path()]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified).contains("DAMAGED: damaged at offset 6"), "{}", text(&verified));
    let inspected = run(&["snapshot", "inspect"], &[directory.path()]);
    assert!(inspected.status.success(), "its header is right");
    rot(&file(directory.path(), 250), 40);
    assert_eq!(run(&["snapshot", "inspect"], &[directory.path()]).status.code(), Some(1));
}

#[test]
fn a_snapshot_of_another_node_in_a_directory_is_told() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    node(directories[0].path(), 1, &[100]);
    node(directories[1].path(), 2, &[]);
    fs::copy(file(directories[0].path(), 100), file(directories[1].path(), 100)).unwrap();
    let verified = run(&["snapshot", "verify"], &[directories[1].path()]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified).contains("foreign: it belongs to another node"), "{}", text(&verified));
}

#[test]
fn a_partial_file_is_no_damage_and_says_how_far_it_is_right() {
    let directory = tempfile::tempdir().unwrap();
    node(directory.path(), 2, &[100]);
    let whole = fs::read(file(directory.path(), 100)).unwrap();
    fs::write(file(directory.path(), 100).with_extension("partial"), &whole[..150_000]).unwrap();
    let verified = run(&["snapshot", "verify", "--json"], &[directory.path()]);
    assert!(verified.status.success());
    let partial = &json(&verified)["snapshots"][0];
    assert_eq!(partial["state"], "partial");
    assert!((70_000..150_000).contains(&partial["verified_bytes"].as_u64().unwrap()), "{partial}");
}

#[test]
fn an_exported_snapshot_is_verified_and_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("copy");
    node(&directory.path().join("node"), 2, &[100, 250]);
    let from = directory.path().join("node");
    let export = |slot: &[&str]| {
        let command = [&["snapshot", "export", "--ring", "9"], slot, &["--to"]].concat();
        run(&command, &[&to, &from])
    };
    // The node may be running.
    let running = open(&from, 5, 2);
    assert!(export(&[]).status.success());
    assert_eq!(fs::read(&to).unwrap(), fs::read(file(&from, 250)).unwrap(), "the newest, as it is");
    drop(running);
    let again = export(&[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(complaint(&again).contains("nothing is overwritten"), "{}", complaint(&again));
    fs::remove_file(&to).unwrap();
    rot(&file(&from, 250), 100_000);
    assert_eq!(export(&[]).status.code(), Some(1), "a damaged one is not exported");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "and nothing is left");
    assert!(export(&["--slot", "100"]).status.success());
    assert!(run(&["snapshot", "verify"], &[&to]).status.success());
    let missing = run(&["snapshot", "export", "--ring", "4", "--to", "nowhere"], &[&from]);
    assert!(complaint(&missing).contains("ring 4 has no such snapshot"), "{}", complaint(&missing));
}

#[test]
fn an_imported_snapshot_is_the_node_s_own_and_is_written_only_when_that_is_asked() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    node(directories[0].path(), 1, &[300]);
    node(directories[1].path(), 2, &[100]);
    let (sent, to) = (file(directories[0].path(), 300), directories[1].path());
    let before = contents(to);
    let planned = run(&["snapshot", "import"], &[&sent, to]);
    assert!(planned.status.success(), "{}", complaint(&planned));
    assert!(text(&planned).contains("NOTHING WAS WRITTEN"), "{}", text(&planned));
    assert_eq!(contents(to), before);

    let running = open(to, 5, 2);
    let refused = run(&["snapshot", "import", "--write"], &[&sent, to]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(complaint(&refused).contains("in use by another process"), "{}", complaint(&refused));
    drop(running);
    assert_eq!(contents(to), before);

    let imported = run(&["snapshot", "import", "--write", "--json"], &[&sent, to]);
    assert!(imported.status.success(), "{}", complaint(&imported));
    let imported = json(&imported);
    assert_eq!(
        (&imported["written"], &imported["newest_slot_before"]),
        (&Value::from(true), &Value::from(100))
    );

    let data = open(to, 5, 2);
    let core = data.core(CoreId(1));
    let mut vault = FileVault::open(&core).unwrap();
    let (shelf, refused) = SnapshotShelf::open(&mut vault, 0, &core.identity(), 2).unwrap();
    assert!(refused.is_empty());
    assert_eq!(shelf.newest(RING).unwrap().header.slot, Slot(300));
    let name = SnapshotName { ring: RING, slot: Slot(300) };
    let own = Expected::Own(core.identity());
    let mut next = 0u64;
    read_snapshot(&mut vault, name, VaultState::Published, own, |_, records| {
        for record in records {
            assert_eq!(record, next.to_le_bytes().repeat(10));
            next += 1;
        }
        Ok::<(), SnapshotError>(())
    })
    .unwrap();
    assert_eq!(next, RECORDS);
}

#[test]
fn an_import_that_makes_no_sense_is_refused_and_writes_nothing() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let to = directories[1].path();
    node(directories[0].path(), 1, &[100, 300]);
    node(to, 2, &[100]);
    let before = contents(to);
    let import = |from: &Path, more: &[&str]| {
        let refused = run(&[&["snapshot", "import", "--write"], more].concat(), &[from, to]);
        assert_eq!(contents(to), before);
        (refused.status.code(), complaint(&refused))
    };
    let (code, said) = import(&file(directories[0].path(), 100), &[]);
    assert!(code == Some(2) && said.contains("has a snapshot up to slot 100 already"), "{said}");
    let (code, said) = import(&file(directories[0].path(), 300), &["--core", "2"]);
    assert!(code == Some(2) && said.contains("cores 0 to 1"), "{said}");
    rot(&file(directories[0].path(), 300), 100_000);
    let (code, said) = import(&file(directories[0].path(), 300), &[]);
    assert!(code == Some(1) && said.contains("damaged at offset"), "{said}");
    let elsewhere = tempfile::tempdir().unwrap();
    drop(open(elsewhere.path(), 6, 2));
    let refused =
        run(&["snapshot", "import", "--write"], &[&file(directories[0].path(), 100), elsewhere.path()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(complaint(&refused).contains("another cluster"), "{}", complaint(&refused));
    let planned = run(&["snapshot", "import"], &[&file(directories[0].path(), 100), elsewhere.path()]);
    assert_eq!(planned.status.code(), Some(2), "what would be refused is not planned");
    let planned = run(&["snapshot", "import"], &[&file(directories[0].path(), 300), to]);
    assert_eq!(planned.status.code(), Some(1), "nor what is damaged");
}
