//! A full disk: three key-value servers, each on a small file system of its own. New commands are rejected, nothing
//! that was acknowledged is lost, not even when all are killed, and who makes room is served again.
//!
//! It needs to mount: in a mount namespace of its own, as root. Elsewhere it is skipped, and says so.

#[path = "kv/client.rs"]
mod client;
#[path = "kv/cluster.rs"]
mod cluster;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use client::{Client, Reply};
use cluster::{Cluster, NODES};

const TEST: &str = "a_full_disk_rejects_loses_nothing_and_serves_again";
/// Where the part of the test that may mount finds its directory.
const DIRECTORY: &str = "ANNULUS_FULL_DISK";

#[test]
fn a_full_disk_rejects_loses_nothing_and_serves_again() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return fill_and_make_room(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    if let Err(why) = make_disks(directory.path()) {
        // Not captured, as what a test prints would be.
        let _ = writeln!(io::stderr(), "SKIPPED {TEST}: {why}");
        return;
    }
    // What is mounted there goes with the namespace, however the test ends.
    let status = in_namespace()
        .arg(std::env::current_exe().expect("a test is a file"))
        .args(["--exact", TEST, "--nocapture"])
        .env(DIRECTORY, directory.path())
        .status();
    assert!(status.expect("unshare runs").success(), "the test failed in its namespace: see above");
}

fn fill_and_make_room(directory: &Path) {
    (0..NODES).for_each(|index| mount_disk(directory, index).expect("it could be mounted before"));
    let cluster = Cluster::start_in(directory);
    let mut written = Written::default();

    let rejected = written.write(&cluster, COMMANDS_MAX).expect_err("the disks are small");
    assert!(rejected.starts_with("MISCONF no space is left"), "{rejected}");
    println!("after {} commands: {rejected}", written.count);
    assert!(written.count > 100, "there was room for more than {} commands", written.count);

    (0..NODES).for_each(|index| cluster.node(index).kill());
    (0..NODES).for_each(|index| cluster.start_node(index));
    let leader = cluster.leader();
    println!("node {} leads on a full disk after all were killed", leader + 1);

    // One disk stays full: of a follower, since a leader that cannot write leads nowhere.
    let full = (leader + 1) % NODES;
    (0..NODES).filter(|&index| index != full).for_each(|index| make_room(directory, index));
    cluster.wait_for("a command that is taken", || written.write(&cluster, 1).ok());
    written.write(&cluster, 100).expect("two of three have room");
    println!("{} commands with one full disk", written.count);

    make_room(directory, full);
    written.assert_on_every_node(&cluster);
}

/// What was acknowledged, and so must be there.
#[derive(Default)]
struct Written {
    count: usize,
    keys: BTreeMap<usize, usize>,
    /// The key whose last command may or may not have taken effect.
    unknown: Option<usize>,
}

impl Written {
    /// Writes through the leader, at most `count` commands, up to the first error. Returns its words.
    fn write(&mut self, cluster: &Cluster, count: usize) -> Result<(), String> {
        let mut client =
            Client::connect(cluster.node(cluster.leader()).port).map_err(|error| error.to_string())?;
        for _ in 0..count {
            let key = self.count % KEYS;
            let reply = client.call(&[b"SET", key.to_string().as_bytes(), &value(self.count)]);
            match reply {
                Ok(Reply::Status(_)) => {
                    self.keys.insert(key, self.count);
                    self.count += 1;
                    self.unknown = None;
                }
                Ok(Reply::Error(why)) => return Err(why),
                Ok(other) => panic!("SET is answered with {other:?}"),
                Err(error) => {
                    self.unknown = Some(key);
                    return Err(error.to_string());
                }
            }
        }
        Ok(())
    }

    /// Waits until every node gives everything back. None may before it has room: others may have acknowledged it.
    fn assert_on_every_node(&self, cluster: &Cluster) {
        for index in 0..NODES {
            cluster.wait_for("what was acknowledged", || self.is_on(cluster, index).then_some(()));
        }
    }

    fn is_on(&self, cluster: &Cluster, index: usize) -> bool {
        let Ok(mut client) = Client::connect(cluster.node(index).port) else { return false };
        if client.call(&[b"READONLY"]).is_err() {
            return false;
        }
        self.keys.iter().filter(|(key, _)| self.unknown != Some(**key)).all(|(key, &number)| {
            let reply = client.call(&[b"GET", key.to_string().as_bytes()]);
            reply.is_ok_and(|reply| reply == Reply::Bulk(Some(value(number))))
        })
    }
}

/// What command `number` writes: large, so that few fill a disk.
fn value(number: usize) -> Vec<u8> {
    let mut value = number.to_string().into_bytes();
    value.resize(VALUE_BYTES, b'.');
    value
}

/// Makes the disks, and tries whether they can be mounted.
fn make_disks(directory: &Path) -> Result<(), String> {
    for index in 0..NODES {
        run(Command::new("truncate").args(["-s", DISK_BYTES]).arg(image(directory, index)))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image(directory, index)))?;
        let mount_point = mount_point(directory, index);
        std::fs::create_dir(&mount_point).map_err(|error| error.to_string())?;
        let node = directory.join(format!("node-{}", index + 1));
        symlink(mount_point.join("data"), node).map_err(|error| error.to_string())?;
    }
    run(in_namespace().args(["mount", "-o", "loop"]).arg(image(directory, 0)).arg(mount_point(directory, 0)))
}

/// Mounts a node's disk, with room for its data directory beside what fills a part of it.
fn mount_disk(directory: &Path, index: usize) -> Result<(), String> {
    let mount_point = mount_point(directory, index);
    run(Command::new("mount").args(["-o", "loop"]).arg(image(directory, index)).arg(&mount_point))?;
    std::fs::create_dir(mount_point.join("data")).map_err(|error| error.to_string())?;
    run(Command::new("fallocate").args(["-l", FILLER_BYTES]).arg(mount_point.join("filler")))
}

fn make_room(directory: &Path, index: usize) {
    std::fs::remove_file(mount_point(directory, index).join("filler")).expect("it fills the disk");
}

fn image(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("disk-{}.image", index + 1))
}

fn mount_point(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("disk-{}", index + 1))
}

fn in_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let why = || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(why)
}

/// Beside the filler there is room for the three segments that a journal begins with, of 64 MiB, and no fourth.
const DISK_BYTES: &str = "360M";
const FILLER_BYTES: &str = "90M";
const VALUE_BYTES: usize = 60_000;
const KEYS: usize = 50;
/// More than fit the disks.
const COMMANDS_MAX: usize = 10_000;
