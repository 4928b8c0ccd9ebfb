//! Requests that one connection and one node settle between them, without the log.

use annulus::NodeId;

use crate::arguments::Arguments;
use crate::nodes::Nodes;
use crate::request::{Refusal, Session};
use crate::{catalogue, glob, hash_slot, nodes, number, reply};

/// What a client has said of its connection.
#[derive(Default)]
pub(crate) struct Client {
    name: Vec<u8>,
    /// Whether this replica may answer reads itself, as it has the data.
    pub(crate) is_read_only: bool,
}

/// What a node knows while it answers.
pub(crate) struct Scene<'a> {
    pub(crate) nodes: &'a Nodes,
    pub(crate) leader: Option<NodeId>,
    /// Whether acknowledged writes survive the loss of power.
    pub(crate) is_durable: bool,
    /// The connection's number.
    pub(crate) connection: u32,
}

impl Client {
    /// Carries out `session` and appends the reply. `INFO` and `QUIT` are the server's.
    pub(crate) fn carry_out<'a>(
        &mut self,
        session: &Session<'a>,
        scene: &Scene<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal<'a>> {
        match session {
            Session::Ping(None) => reply::status(out, "PONG"),
            Session::Ping(Some(message)) | Session::Echo(message) => reply::bulk(out, message),
            Session::Commands(arguments) => return catalogue::answer(*arguments, out),
            Session::Config(arguments) => return config(*arguments, scene, out),
            Session::Client(arguments) => return self.client(*arguments, scene, out),
            Session::Cluster(arguments) => return cluster(*arguments, scene, out),
            Session::Hello(arguments) => return self.hello(*arguments, scene, out),
            Session::Select(index) => match number::read(index).ok_or(Refusal::NotAnInteger)? {
                0 => reply::status(out, "OK"),
                index if i32::try_from(index).is_ok() => {
                    return Err(Refusal::Other("ERR DB index is out of range"));
                }
                _ => return Err(Refusal::Other(NO_INDEX)),
            },
            Session::ReadOnly(is_read_only) => {
                self.is_read_only = *is_read_only;
                reply::status(out, "OK");
            }
            Session::Info(_) | Session::Quit => unreachable!("the server carries these out"),
        }
        Ok(())
    }

    fn client<'a>(
        &mut self,
        mut arguments: Arguments<'a>,
        scene: &Scene<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal<'a>> {
        let subcommand = arguments.take_first().unwrap_or_default();
        match (&subcommand.to_ascii_lowercase()[..], arguments.len()) {
            (b"setname", 1) => {
                self.set_name(arguments.take_first().unwrap_or_default())?;
                reply::status(out, "OK");
            }
            (b"getname", 0) => reply::bulk_or_null(out, Some(&self.name[..]).filter(|name| !name.is_empty())),
            (b"id", 0) => reply::integer(out, i64::from(scene.connection)),
            // Libraries tell their name and version; nothing here depends on it.
            (b"setinfo", 2) => reply::status(out, "OK"),
            (b"setname", _) => return Err(Refusal::Arity("client|setname")),
            (b"getname", _) => return Err(Refusal::Arity("client|getname")),
            (b"id", _) => return Err(Refusal::Arity("client|id")),
            (b"setinfo", _) => return Err(Refusal::Arity("client|setinfo")),
            _ => return Err(Refusal::UnknownSubcommand { command: "CLIENT", subcommand }),
        }
        Ok(())
    }

    fn set_name(&mut self, name: &[u8]) -> Result<(), Refusal<'static>> {
        if !name.iter().all(u8::is_ascii_graphic) {
            const MESSAGE: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
            return Err(Refusal::Other(MESSAGE));
        }
        self.name = name.to_vec();
        Ok(())
    }

    /// `HELLO [2 [SETNAME name]]`: this server speaks version 2 of the protocol only.
    fn hello<'a>(
        &mut self,
        mut arguments: Arguments<'a>,
        scene: &Scene<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal<'a>> {
        if let Some(version) = arguments.take_first() {
            match number::read(version) {
                None => return Err(Refusal::Other("ERR Protocol version is not an integer or out of range")),
                Some(2) => {}
                Some(_) => return Err(Refusal::Other("NOPROTO unsupported protocol version")),
            }
        }
        while let Some(option) = arguments.take_first() {
            match arguments.take_first() {
                Some(name) if option.eq_ignore_ascii_case(b"setname") => self.set_name(name)?,
                _ => return Err(Refusal::HelloOption(option)),
            }
        }
        greet(scene, out);
        Ok(())
    }
}

/// What Redis says of a number that is no index of a database, nor of anything.
const NO_INDEX: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";

/// The reply to `HELLO`: names and values in turn.
fn greet(scene: &Scene<'_>, out: &mut Vec<u8>) {
    let role = if scene.leader == Some(scene.nodes.this) { "master" } else { "replica" };
    let texts = |out: &mut Vec<u8>, texts: &[&str]| {
        for text in texts {
            reply::bulk(out, text.as_bytes());
        }
    };
    reply::array(out, 14);
    texts(out, &["server", "annulus", "version", env!("CARGO_PKG_VERSION"), "proto"]);
    reply::integer(out, 2);
    texts(out, &["id"]);
    reply::integer(out, i64::from(scene.connection));
    texts(out, &["mode", "cluster", "role", role, "modules"]);
    reply::array(out, 0);
}

/// `CONFIG GET pattern…`: the few parameters that clients ask for.
fn config<'a>(mut arguments: Arguments<'a>, scene: &Scene<'_>, out: &mut Vec<u8>) -> Result<(), Refusal<'a>> {
    let subcommand = arguments.take_first().unwrap_or_default();
    if !subcommand.eq_ignore_ascii_case(b"get") {
        return Err(Refusal::UnknownSubcommand { command: "CONFIG", subcommand });
    }
    if arguments.is_empty() {
        return Err(Refusal::Arity("config|get"));
    }
    let parameters = [
        ("appendonly", if scene.is_durable { "yes" } else { "no" }),
        ("databases", "1"),
        ("maxmemory", "0"),
        ("save", ""),
    ];
    let patterns: Vec<Vec<u8>> = arguments.iter().map(<[u8]>::to_ascii_lowercase).collect();
    let is_asked = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let asked: Vec<_> = parameters.into_iter().filter(|(name, _)| is_asked(name)).collect();
    reply::array(out, 2 * asked.len());
    for text in asked.iter().flat_map(|(name, value)| [name, value]) {
        reply::bulk(out, text.as_bytes());
    }
    Ok(())
}

/// `CLUSTER SLOTS | KEYSLOT key | MYID`: what a client needs to find the leader before it is sent there.
fn cluster<'a>(
    mut arguments: Arguments<'a>,
    scene: &Scene<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Refusal<'a>> {
    let subcommand = arguments.take_first().unwrap_or_default();
    match (&subcommand.to_ascii_lowercase()[..], arguments.len()) {
        (b"slots", 0) => scene.nodes.write_slots(scene.leader, out),
        (b"keyslot", 1) => {
            let key = arguments.take_first().unwrap_or_default();
            reply::integer(out, i64::from(hash_slot::of(key)));
        }
        (b"myid", 0) => reply::bulk(out, nodes::cluster_name(scene.nodes.this).as_bytes()),
        (b"slots", _) => return Err(Refusal::Arity("cluster|slots")),
        (b"keyslot", _) => return Err(Refusal::Arity("cluster|keyslot")),
        (b"myid", _) => return Err(Refusal::Arity("cluster|myid")),
        _ => return Err(Refusal::UnknownSubcommand { command: "CLUSTER", subcommand }),
    }
    Ok(())
}
