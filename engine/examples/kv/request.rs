//! What a client asks for: arity and options checked, refused in Redis' words.

use crate::arguments::Arguments;
use crate::command::{Command, Condition, Expiry, Items, Set};
use crate::{catalogue, number, reply};

/// One request, understood.
#[derive(Clone)]
pub(crate) enum Request<'a> {
    /// For the replicated data.
    Data(Command<'a>),
    /// For this connection and this node only.
    Session(Session<'a>),
}

/// Requests that no replica but this one hears of. Those with arguments have subcommands or options.
#[derive(Clone)]
pub(crate) enum Session<'a> {
    Ping(Option<&'a [u8]>),
    Echo(&'a [u8]),
    Info(Arguments<'a>),
    Commands(Arguments<'a>),
    Config(Arguments<'a>),
    Client(Arguments<'a>),
    Cluster(Arguments<'a>),
    Hello(Arguments<'a>),
    Select(&'a [u8]),
    /// `READONLY` when true, `READWRITE` when not.
    ReadOnly(bool),
    Quit,
}

/// Why a request is not carried out.
#[derive(Clone)]
pub(crate) enum Refusal<'a> {
    /// No such command; the arguments, its name first.
    Unknown(Arguments<'a>),
    /// No such subcommand.
    UnknownSubcommand { command: &'static str, subcommand: &'a [u8] },
    /// Too many or too few arguments for the command.
    Arity(&'static str),
    /// Options that do not exist or do not go together.
    Syntax,
    /// A number was expected.
    NotAnInteger,
    /// A lifetime of no time, or of too much.
    InvalidExpire,
    /// An option of `HELLO` that does not exist, or lacks its argument.
    HelloOption(&'a [u8]),
    /// Anything else, code included.
    Other(&'static str),
}

impl<'a> Request<'a> {
    /// Understands `arguments`, of which there is at least one: the command's name.
    ///
    /// # Errors
    /// In Redis' order: no such command, wrong number of arguments, wrong options.
    pub(crate) fn parse(arguments: Arguments<'a>) -> Result<Request<'a>, Refusal<'a>> {
        let name = arguments.get(0).unwrap_or_default();
        let spec = catalogue::find(name).ok_or(Refusal::Unknown(arguments))?;
        if !spec.arity.allows(arguments.len()) {
            return Err(Refusal::Arity(spec.name));
        }
        let mut behind_name = arguments;
        behind_name.take_first();
        (spec.parse)(behind_name)
    }
}

impl Refusal<'_> {
    /// Appends the error reply.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Refusal::Unknown(arguments) => write_unknown(*arguments, out),
            Refusal::UnknownSubcommand { command, subcommand } => {
                let shown = shown(subcommand, SHOWN_BYTES_MAX);
                reply::error(
                    out,
                    &[b"ERR unknown subcommand '", shown, b"'. Try ", command.as_bytes(), b" HELP."].concat(),
                );
            }
            Refusal::Arity(command) => {
                reply::error(
                    out,
                    format!("ERR wrong number of arguments for '{command}' command").as_bytes(),
                );
            }
            Refusal::Syntax => reply::error(out, b"ERR syntax error"),
            Refusal::NotAnInteger => reply::error(out, b"ERR value is not an integer or out of range"),
            Refusal::InvalidExpire => reply::error(out, b"ERR invalid expire time in 'set' command"),
            Refusal::HelloOption(option) => {
                reply::error(out, &[b"ERR Syntax error in HELLO option '", *option, b"'"].concat());
            }
            Refusal::Other(message) => reply::error(out, message.as_bytes()),
        }
    }
}

/// Names the command and the beginning of its arguments: at most 128 bytes of the one and of all others.
fn write_unknown(mut arguments: Arguments<'_>, out: &mut Vec<u8>) {
    let name = arguments.take_first().unwrap_or_default();
    let mut message = b"ERR unknown command '".to_vec();
    message.extend_from_slice(shown(name, SHOWN_BYTES_MAX));
    message.extend_from_slice(b"', with args beginning with: ");
    let start = message.len();
    for argument in arguments.iter() {
        let Some(room) = SHOWN_BYTES_MAX.checked_sub(message.len() - start).filter(|&room| room > 0) else {
            break;
        };
        message.push(b'\'');
        message.extend_from_slice(shown(argument, room));
        message.extend_from_slice(b"' ");
    }
    reply::error(out, &message);
}

/// As much of `bytes` as an error shows: Redis prints it as a C string, which ends at a zero byte.
fn shown(bytes: &[u8], bytes_max: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(bytes_max)];
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Parsers for [`catalogue`]: each takes the arguments behind the name, whose number is right already.
pub(crate) mod parse {
    use super::{Arguments, Command, Items, Refusal, Request, Session};

    type Parsed<'a> = Result<Request<'a>, Refusal<'a>>;

    pub(crate) fn get(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Get { key: at(arguments, 0) })
    }

    pub(crate) fn set(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Set(super::set(arguments)?))
    }

    pub(crate) fn delete(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Delete { keys: Items::Requested(arguments) })
    }

    pub(crate) fn exists(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Exists { keys: Items::Requested(arguments) })
    }

    pub(crate) fn increment(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Increment { key: at(arguments, 0) })
    }

    pub(crate) fn decrement(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Decrement { key: at(arguments, 0) })
    }

    pub(crate) fn append(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Append { key: at(arguments, 0), bytes: at(arguments, 1) })
    }

    pub(crate) fn length(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Length { key: at(arguments, 0) })
    }

    pub(crate) fn get_many(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::GetMany { keys: Items::Requested(arguments) })
    }

    pub(crate) fn set_many(arguments: Arguments<'_>) -> Parsed<'_> {
        if !arguments.len().is_multiple_of(2) {
            return Err(Refusal::Arity("mset"));
        }
        data(Command::SetMany { pairs: Items::Requested(arguments) })
    }

    pub(crate) fn keys(arguments: Arguments<'_>) -> Parsed<'_> {
        data(Command::Keys { pattern: at(arguments, 0) })
    }

    pub(crate) fn size(_: Arguments<'_>) -> Parsed<'_> {
        data(Command::Size)
    }

    pub(crate) fn clear(arguments: Arguments<'_>) -> Parsed<'_> {
        let is_known =
            |option: &[u8]| option.eq_ignore_ascii_case(b"sync") || option.eq_ignore_ascii_case(b"async");
        if arguments.len() > 1 || !arguments.iter().all(is_known) {
            return Err(Refusal::Syntax);
        }
        data(Command::Clear)
    }

    pub(crate) fn ping(arguments: Arguments<'_>) -> Parsed<'_> {
        if arguments.len() > 1 {
            return Err(Refusal::Arity("ping"));
        }
        session(Session::Ping(arguments.get(0)))
    }

    pub(crate) fn echo(arguments: Arguments<'_>) -> Parsed<'_> {
        session(Session::Echo(at(arguments, 0)))
    }

    pub(crate) fn info(arguments: Arguments<'_>) -> Parsed<'_> {
        session(Session::Info(arguments))
    }

    pub(crate) fn commands(arguments: Arguments<'_>) -> Parsed<'_> {
        session(Session::Commands(arguments))
    }

    pub(crate) fn config(arguments: Arguments<'_>) -> Parsed<'_> {
        session(Session::Config(arguments))
    }

    pub(crate) fn client(arguments: Arguments<'_>) -> Parsed<'_> {
        session(Session::Client(arguments))
    }

    pub(crate) fn cluster(arguments: Arguments<'_>) -> Parsed<'_> {
        session(Session::Cluster(arguments))
    }

    pub(crate) fn hello(arguments: Arguments<'_>) -> Parsed<'_> {
        session(Session::Hello(arguments))
    }

    pub(crate) fn select(arguments: Arguments<'_>) -> Parsed<'_> {
        session(Session::Select(at(arguments, 0)))
    }

    pub(crate) fn read_only(_: Arguments<'_>) -> Parsed<'_> {
        session(Session::ReadOnly(true))
    }

    pub(crate) fn read_write(_: Arguments<'_>) -> Parsed<'_> {
        session(Session::ReadOnly(false))
    }

    pub(crate) fn quit(_: Arguments<'_>) -> Parsed<'_> {
        session(Session::Quit)
    }

    fn at(arguments: Arguments<'_>, index: usize) -> &[u8] {
        arguments.get(index).expect("the catalogue states the arity")
    }

    #[expect(clippy::unnecessary_wraps, reason = "parsers end with it")]
    fn data(command: Command<'_>) -> Parsed<'_> {
        Ok(Request::Data(command))
    }

    #[expect(clippy::unnecessary_wraps, reason = "parsers end with it")]
    fn session(session: Session<'_>) -> Parsed<'_> {
        Ok(Request::Session(session))
    }
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`, in any order. As in
/// Redis, the same lifetime may be given again and the last one counts.
fn set(mut arguments: Arguments<'_>) -> Result<Set<'_>, Refusal<'_>> {
    let (key, value) =
        arguments.take_first().zip(arguments.take_first()).expect("the catalogue states the arity");
    let mut set = Set::plain(key, value);
    let mut lifetime: Option<(Lifetime, &[u8])> = None;
    while let Some(option) = arguments.take_first() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"nx") && set.condition != Condition::IfPresent {
            set.condition = Condition::IfAbsent;
        } else if is(b"xx") && set.condition != Condition::IfAbsent {
            set.condition = Condition::IfPresent;
        } else if is(b"get") {
            set.returns_old = true;
        } else if is(b"keepttl") && lifetime.is_none() {
            set.expiry = Expiry::Kept;
        } else {
            let kind =
                Lifetime::named(option).filter(|_| set.expiry != Expiry::Kept).ok_or(Refusal::Syntax)?;
            if lifetime.is_some_and(|(earlier, _)| earlier != kind) {
                return Err(Refusal::Syntax);
            }
            lifetime = Some((kind, arguments.take_first().ok_or(Refusal::Syntax)?));
        }
    }
    if let Some((kind, number)) = lifetime {
        set.expiry = kind.expiry(number)?;
    }
    Ok(set)
}

/// How a `SET` gives its value's lifetime.
#[derive(Clone, Copy, PartialEq)]
enum Lifetime {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl Lifetime {
    fn named(option: &[u8]) -> Option<Lifetime> {
        let names = [
            (&b"ex"[..], Lifetime::Ex),
            (b"px", Lifetime::Px),
            (b"exat", Lifetime::ExAt),
            (b"pxat", Lifetime::PxAt),
        ];
        names.into_iter().find(|(name, _)| option.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
    }

    fn expiry(self, number: &[u8]) -> Result<Expiry, Refusal<'static>> {
        let number = number::read(number).ok_or(Refusal::NotAnInteger)?;
        let ms_per_unit = if matches!(self, Lifetime::Ex | Lifetime::ExAt) { 1000 } else { 1 };
        let ms = number.checked_mul(ms_per_unit).filter(|&ms| ms > 0).ok_or(Refusal::InvalidExpire)?;
        Ok(if matches!(self, Lifetime::Ex | Lifetime::Px) { Expiry::After(ms) } else { Expiry::At(ms) })
    }
}

/// How much of a name, and how much of all arguments together, an error shows.
const SHOWN_BYTES_MAX: usize = 128;
