//! A small client of Redis' protocol, for what a test asks of a server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A connection to a server on this machine.
pub struct Client {
    stream: BufReader<TcpStream>,
    unsent: Vec<u8>,
}

/// What a server replied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

/// No reply takes longer, or the test is stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

impl Client {
    /// Connects to a port.
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream), unsent: Vec::new() })
    }

    /// Sends a command and reads its reply.
    pub fn call(&mut self, command: &[&[u8]]) -> io::Result<Reply> {
        self.push(command);
        self.flush()?;
        self.reply()
    }

    /// Adds a command to those that the next flush sends.
    pub fn push(&mut self, command: &[&[u8]]) {
        push(&mut self.unsent, command);
    }

    /// Sends what was pushed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// Reads the next reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let (mark, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
        let number = || rest.parse::<i64>().map_err(|_| io::ErrorKind::InvalidData);
        Ok(match mark {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" => Reply::Bulk(match usize::try_from(number()?) {
                Ok(bytes) => Some(self.bulk(bytes)?),
                Err(_) => None,
            }),
            "*" => Reply::Array((0..number()?).map(|_| self.reply()).collect::<io::Result<_>>()?),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }

    fn bulk(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut bulk = vec![0; bytes + 2];
        self.stream.read_exact(&mut bulk)?;
        bulk.truncate(bytes);
        Ok(bulk)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Appends a command as an array of bulk strings.
pub fn push(out: &mut Vec<u8>, command: &[&[u8]]) {
    write!(out, "*{}\r\n", command.len()).expect("memory takes everything");
    for argument in command {
        write!(out, "${}\r\n", argument.len()).expect("memory takes everything");
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}
