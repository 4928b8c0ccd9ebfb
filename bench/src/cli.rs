//! The command line, and the rows that it asks for.

use std::path::PathBuf;

use annulus::Idle;
use clap::{Args, Parser, Subcommand};

use crate::configuration::{
    ClusterConfiguration, Configuration, ConfigurationError, Journal, JournalSync, Load, LoadConfiguration,
    Receive, Runner, Transport, word,
};
use crate::placement::Pin;

/// Measures annulus: durable commits per second, their latency, and where the microseconds go.
#[derive(Parser, Debug)]
#[command(name = "annulus-bench", version, about, long_about = LONG_ABOUT)]
pub(crate) struct Cli {
    /// What to do; `run` when nothing is said.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const LONG_ABOUT: &str =
    "Measures annulus: durable commits per second, their latency, and where the microseconds go.

Without an argument: starts three replica processes on 127.0.0.1 with journals in a temporary directory,
loads them from a client process, first with one command in flight and then with thousands, measures the
floor of this machine beside them, and at the end kills the replicas, restarts them, and verifies that
every acknowledged command is in the state of each.";

/// The things that the benchmark does.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Measure commits: the default
    Run(RunOptions),
    /// Measure what an idle cluster costs
    Idle(IdleOptions),
    /// Measure the floor alone: a TCP round trip and a durable write
    Floor(FloorOptions),
    /// Measure what checking the contracts costs: builds three variants with cargo and compares them
    Contracts(ContractsOptions),
    /// A process that hosts replicas; started by `run`
    #[command(hide = true)]
    Replica,
    /// A process that makes load; started by `run`
    #[command(hide = true)]
    Client,
}

/// Options of `run`. Lists make a sweep: every combination is a row.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// Cores per replica; a list makes a sweep
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1")]
    pub(crate) cores: Vec<u16>,
    /// Rings, spread over the cores [default: one per core]; a list makes a sweep
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) rings: Vec<u32>,
    /// Bytes of a command; a list makes a sweep
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', default_value = "64")]
    pub(crate) payload: Vec<usize>,
    /// Commands in flight per connection; a list makes a sweep
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,4096")]
    pub(crate) outstanding: Vec<u64>,
    /// Connections per ring (sessions per ring when the load is embedded)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) connections: u32,
    /// Where the load comes from
    #[arg(long, value_enum, default_value_t = Load::Client)]
    pub(crate) load: Load,
    /// Seconds measured per row
    #[arg(long, value_name = "S", default_value_t = 4.0)]
    pub(crate) seconds: f64,
    /// Seconds of load before the measured ones
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub(crate) warmup: f64,
    /// Measure everything this often, interleaved, and report median [min–max]
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) runs: u32,
    /// Write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Options that say what a cluster is.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterOptions {
    /// Replicas of every ring
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) replicas: u16,
    /// Where votes are kept
    #[arg(long, value_enum, default_value_t = Journal::File)]
    pub(crate) journal: Journal,
    /// How a journal write becomes durable [default: dsync]
    #[arg(long, value_enum)]
    pub(crate) sync: Option<JournalSync>,
    /// MiB of non-volatile memory of each core, all of it reserved [default: 1024]
    #[arg(long, value_name = "N")]
    pub(crate) nvm_mib: Option<u64>,
    /// How replicas reach each other
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub(crate) transport: Transport,
    /// How sockets of peers are read [default: recv]
    #[arg(long, value_enum)]
    pub(crate) receive: Option<Receive>,
    /// What calls the turns of a core
    #[arg(long, value_enum, default_value_t = Runner::Glommio)]
    pub(crate) runner: Runner,
    /// Slots proposed and not yet chosen, at the most, per ring
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) window_slots: u32,
    /// Bytes of a batch, at the most
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024)]
    pub(crate) batch_bytes: usize,
    /// Commands of a batch, at the most
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub(crate) batch_commands: u32,
    /// Microseconds that an idle core, and the client, spin before they park
    #[arg(long, value_name = "US", default_value_t = spin_us_of_the_engine())]
    pub(crate) spin_us: u64,
    /// CPUs: `auto` (leader and client together where CPUs are short, followers on the rest), `none`,
    /// or a list per replica and one for the client, such as 0/1/1/0
    #[arg(long, value_name = "CPUS", default_value = "auto")]
    pub(crate) pin: Pin,
    /// Where the temporary directory of the journals is made [default: the first of $TMPDIR, /var/tmp
    /// and the current directory that is on a disk]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Options of `idle`.
#[derive(Args, Clone, Debug)]
pub(crate) struct IdleOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// Cores per replica
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) cores: u16,
    /// Rings [default: one per core]
    #[arg(long, value_name = "N")]
    pub(crate) rings: Option<u32>,
    /// Seconds measured
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

/// Options of `floor`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FloorOptions {
    /// Writers on the same disk at the same time
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) replicas: u16,
    /// Microseconds to spin before parking
    #[arg(long, value_name = "US", default_value_t = spin_us_of_the_engine())]
    pub(crate) spin_us: u64,
    /// Where the files are made
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Options of `contracts`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ContractsOptions {
    /// Commands per batch; a row for each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,16,256")]
    pub(crate) batch: Vec<u32>,
    /// Measure everything this often, interleaved, and report median [min–max]
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub(crate) runs: u32,
    /// Milliseconds of one measurement
    #[arg(long, value_name = "MS", default_value_t = 300)]
    pub(crate) millis: u64,
    /// Compare these builds of `rings/examples/commits.rs` instead of building: without contracts, with the
    /// always set, with the full set
    #[arg(long, value_name = "PROGRAM,…", value_delimiter = ',')]
    pub(crate) programs: Vec<PathBuf>,
}

/// The benchmark waits as the engine does where nobody says otherwise.
fn spin_us_of_the_engine() -> u64 {
    Idle::default().spin.as_micros() as u64
}

impl Default for RunOptions {
    /// What the command line says when it says nothing.
    fn default() -> RunOptions {
        match Cli::parse_from(["annulus-bench", "run"]).command {
            Some(Command::Run(options)) => options,
            _ => unreachable!("`run` is the command"),
        }
    }
}

impl RunOptions {
    /// The rows that the options ask for, checked. Each is measured on a cluster of its own.
    pub(crate) fn rows(&self) -> Result<Vec<Configuration>, ConfigurationError> {
        if !(1..=100).contains(&self.runs) {
            return Err(ConfigurationError::Runs(self.runs));
        }
        let mut rows = Vec::new();
        for &cores in &self.cores {
            let rings = if self.rings.is_empty() { vec![u32::from(cores)] } else { self.rings.clone() };
            for rings in rings {
                let cluster = self.cluster.configuration(cores, rings)?;
                for &payload in &self.payload {
                    for &outstanding in &self.outstanding {
                        rows.push(Configuration {
                            cluster: cluster.clone(),
                            load: self.load(payload, outstanding),
                        });
                    }
                }
            }
        }
        rows.iter().try_for_each(Configuration::check)?;
        Ok(rows)
    }

    fn load(&self, payload: usize, outstanding: u64) -> LoadConfiguration {
        LoadConfiguration {
            load: self.load,
            connections: self.connections,
            payload,
            outstanding,
            seconds: self.seconds,
            warmup_seconds: self.warmup,
        }
    }
}

impl ClusterOptions {
    /// The cluster that the options ask for. A flag that would do nothing is refused.
    pub(crate) fn configuration(
        &self,
        cores: u16,
        rings: u32,
    ) -> Result<ClusterConfiguration, ConfigurationError> {
        if self.sync.is_some() && self.journal != Journal::File {
            return Err(ConfigurationError::SyncWithoutFile(word(&self.journal)));
        }
        if self.nvm_mib.is_some() && !self.journal.is_region() {
            return Err(ConfigurationError::RegionWithoutNvm(word(&self.journal)));
        }
        if self.receive.is_some() && self.transport == Transport::Loopback {
            return Err(ConfigurationError::ReceiveWithoutSockets);
        }
        Ok(ClusterConfiguration {
            replicas: self.replicas,
            cores,
            rings,
            journal: self.journal,
            sync: self.sync.unwrap_or(JournalSync::Dsync),
            nvm_mib: self.nvm_mib.unwrap_or(NVM_MIB),
            transport: self.transport,
            receive: self.receive.unwrap_or(Receive::Recv),
            runner: self.runner,
            window_slots: self.window_slots,
            batch_bytes: self.batch_bytes,
            batch_commands: self.batch_commands,
            spin_us: self.spin_us,
        })
    }
}

/// The engine's default.
const NVM_MIB: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(arguments: &str) -> Result<Vec<Configuration>, ConfigurationError> {
        let words = ["annulus-bench", "run"].into_iter().chain(arguments.split_whitespace());
        let cli = Cli::try_parse_from(words).expect("the words parse");
        let Some(Command::Run(options)) = cli.command else { panic!("the command is run") };
        options.rows()
    }

    fn message(arguments: &str) -> String {
        rows(arguments).expect_err("the combination is refused").to_string()
    }

    #[test]
    fn the_default_is_one_in_flight_and_then_many() {
        let rows = rows("").unwrap();
        assert_eq!(rows.iter().map(|row| row.load.outstanding).collect::<Vec<_>>(), [1, 4096]);
        assert!(rows.iter().all(|row| (row.cluster.replicas, row.cluster.rings) == (3, 1)));
        assert!(rows.iter().all(|row| row.cluster.is_durable()));
    }

    #[test]
    fn lists_make_every_combination() {
        let rows = rows("--cores 1,2 --payload 64,1024 --outstanding 1,16,256").unwrap();
        assert_eq!(rows.len(), 12);
        assert_eq!(rows[11].cluster.rings, 2, "one ring per core");
    }

    #[test]
    fn bad_combinations_say_what_to_do() {
        assert!(message("--cores 2 --rings 1").contains("use --rings 2 or more"));
        assert!(message("--payload 8").contains("from 16"));
        assert!(message("--payload 9000 --batch-bytes 4096").contains("raise --batch-bytes to 9012"));
        assert!(message("--journal memory --sync dsync").contains("leave --sync out"));
        assert!(message("--journal nvm --sync dsync").contains("--journal nvm has none"));
        assert!(message("--journal file --nvm-mib 64").contains("leave --nvm-mib out"));
        assert!(message("--transport loopback --receive recv").contains("use --transport tcp"));
        assert!(message("--seconds 0").contains("from 0.1 to 600"));
        assert!(message("--outstanding 0").contains("at least one"));
        assert!(message("--connections 40000").contains("use fewer connections"));
        assert!(message("--replicas 0").contains("three are the default"));
        assert!(message("--runs 0").contains("from 1 to 100"));
    }

    #[test]
    fn unknown_words_are_refused_by_name() {
        let error = Cli::try_parse_from(["annulus-bench", "run", "--journal", "tape"]).unwrap_err();
        assert!(error.to_string().contains("file, memory, nvm, nvm-battery, nvm-emulated"));
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
