//! From settings to what each core is made of: opens what all cores of a node share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use annulus_rings::contract;
use annulus_rings::{Configuration, CoreId, Incarnation, RingId, RingOptions};
use annulus_storage::{DataDir, Identity, NvmOptions};
use annulus_transport::{FabricOptions, TcpFabric};

use crate::core::CoreOptions;
use crate::core_thread::{Device, JournalPlan, NetworkPlan};
use crate::error::StartError;
use crate::settings::{Settings, TransportKind};

pub(crate) fn core_options(settings: &Settings, incarnation: Incarnation) -> CoreOptions {
    let configuration = Configuration::first(&settings.members()).expect("the peers were validated");
    CoreOptions {
        ring: RingOptions {
            cluster: settings.cluster,
            ring: RingId(0),
            node: settings.node,
            incarnation,
            configuration,
            window_slots: settings.window_slots,
            election_timeout: settings.election_timeout,
            heartbeat_interval: settings.heartbeat_interval,
            resend_interval: settings.resend_interval,
            retain_bytes: settings.retain_bytes,
            seed: draw_seed(),
        },
        limits: settings.limits,
        snapshots: settings.snapshots.clone(),
        scrub_bytes_per_second: settings.scrub_bytes_per_second,
    }
}

pub(crate) fn journal_plans(settings: &Settings) -> Result<(Vec<JournalPlan>, Incarnation), StartError> {
    let cores = settings.cores() as u16;
    let plan = |device| JournalPlan { device, options: settings.journal_options.clone() };
    if !settings.journal.is_durable() {
        // What a volatile node promised is forgotten with it: each start is a life of its own, and peers that
        // knew another refuse it.
        let incarnation = Incarnation((draw_seed() as u32).max(1));
        let device = |core| {
            let identity = Identity {
                cluster: settings.cluster,
                node: settings.node,
                core: CoreId(core),
                incarnation,
                disk_uuid: u128::from(draw_seed()),
            };
            match settings.journal.nvm_backing() {
                Some(_) => Device::NvmEmulated { identity, bytes: settings.nvm.region_bytes },
                None => Device::Memory { identity, bytes_max: settings.memory_bytes_max },
            }
        };
        return Ok(((0..cores).map(device).map(plan).collect(), incarnation));
    }
    if contract::SET == contract::Set::None {
        return Err(StartError::NoContracts);
    }
    let path: &PathBuf = settings.data_dir.as_ref().ok_or(StartError::NoDataDir)?;
    let failed = |source| StartError::Storage { path: path.clone(), source: Box::new(source) };
    let data = DataDir::open(path, settings.cluster, settings.node, cores).map_err(failed)?;
    let device = |core| {
        let core = data.core(CoreId(core));
        match settings.journal.nvm_backing() {
            Some(backing) => Device::Nvm(core, NvmOptions { backing, ..settings.nvm.clone() }),
            None => Device::Files(core),
        }
    };
    Ok(((0..cores).map(device).map(plan).collect(), data.incarnation()))
}

pub(crate) fn network_plans(
    settings: &mut Settings,
    incarnation: Incarnation,
) -> Result<(Vec<NetworkPlan>, Option<TcpFabric>), StartError> {
    let cores = settings.cores() as u16;
    if let TransportKind::Loopback(hub) = &settings.transport {
        let peers = settings.members();
        let plan = |_| NetworkPlan::Loopback { hub: hub.clone(), incarnation, peers: peers.clone() };
        return Ok(((0..cores).map(plan).collect(), None));
    }
    let nodes: BTreeMap<_, _> = settings.peers.iter().cloned().collect();
    let address = nodes[&settings.node].clone();
    let options =
        FabricOptions { incarnation, cores, nodes, ..FabricOptions::new(settings.cluster, settings.node) };
    let node = settings.node;
    let started = match settings.listener.take() {
        Some(listener) => TcpFabric::start_on(listener, options),
        None => TcpFabric::start(options),
    };
    let (fabric, ports) =
        started.map_err(|source| StartError::Transport { node, address, source: Box::new(source) })?;
    let tcp_options = &settings.tcp_options;
    let plan = |port| NetworkPlan::Tcp { port, options: tcp_options.clone() };
    Ok((ports.into_iter().map(plan).collect(), Some(fabric)))
}

/// A number that no other node, and no other life of this one, is likely to draw.
fn draw_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(SystemTime::now())
}
