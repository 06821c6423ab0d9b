//! The origin: answers whoever connects, always the same. It knows nothing of proxies.
//!
//! It shares a core with the load, so it is as cheap as it can be: answers are prepared once and written at once, and
//! of a request only its end is looked for.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use outrigger_base::lifecycle::ready;
use serde_json::json;

use crate::poll::{self, Life, Poll, Ready};
use crate::process::{Process, Program};
use crate::scenario::{Exchange, Protocol, Work};
use crate::site::Site;
use crate::wire::http1;
use crate::wire::http2::fields;

pub(crate) mod talk;

use talk::{Bulk, Echo, Http1, Http2, Step, Talk};

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16_384;

/// What the origin is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens; repeatable
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    /// What it speaks
    #[arg(long, value_enum)]
    speak: Language,
    /// The body of every answer, in bytes
    #[arg(long, default_value_t = 0)]
    body_bytes: usize,
    /// Written when it listens
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

/// What an origin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Language {
    Http1,
    Http2,
    /// HTTP/2 with messages and trailers, as gRPC has them.
    Grpc,
    /// As many bytes as go, to whoever has sent one.
    Bulk,
    /// What it is told.
    Echo,
}

impl Language {
    /// What an origin speaks in an exchange, and how long its answers are.
    fn of(exchange: Exchange) -> Result<(Self, usize)> {
        Ok(match exchange {
            Exchange::Requests { protocol: Protocol::Http1, body_bytes } => (Self::Http1, body_bytes),
            Exchange::Requests { protocol: Protocol::Http2, body_bytes } => (Self::Http2, body_bytes),
            Exchange::Requests { protocol: Protocol::Grpc, body_bytes } => (Self::Grpc, body_bytes),
            Exchange::Requests { protocol: Protocol::Tcp, .. } => {
                bail!("bytes without a meaning have no requests")
            }
            Exchange::Bulk => (Self::Bulk, 0),
            Exchange::Echo => (Self::Echo, 0),
        })
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Bulk => "bulk",
            Self::Echo => "echo",
        }
    }
}

/// Starts an origin as a child process, on the core of the work. Where it listens is `/http/0` and so on.
pub(crate) async fn start(listen: &[SocketAddr], work: Work, (site, dir): (&Site, &Path)) -> Result<Process> {
    let exchange = work.exchange().with_context(|| format!("there is no origin for {work:?}"))?;
    let (language, body_bytes) = Language::of(exchange)?;
    let args = ["origin", "--speak", language.flag(), "--body-bytes", &body_bytes.to_string()];
    let mut args = args.map(str::to_owned).to_vec();
    args.extend(listen.iter().flat_map(|address| ["--listen".to_owned(), address.to_string()]));
    Process::start(Program { name: "origin", path: &site.benches, args, core: site.cores.work }, dir).await
}

/// Serves until it is killed.
pub(crate) fn serve(args: &Args) -> Result<()> {
    let listen = |address| poll::listen(address).with_context(|| format!("cannot listen at {address}"));
    let listeners = args.listen.iter().copied().map(listen).collect::<Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(poll::local_address).collect::<std::io::Result<Vec<_>>>()?;
    ready::write(args.ready_file.as_deref(), None, &json!({ "http": addresses }))?;
    let date = httpdate::fmt_http_date(SystemTime::now());
    match args.speak {
        Language::Http1 => {
            let answer: Rc<[u8]> = http1::answer(args.body_bytes).into();
            for_ever(listeners, || Http1::new(answer.clone()))
        }
        Language::Http2 => {
            let answer = Rc::new(fields::answer(args.body_bytes, &date));
            for_ever(listeners, || Http2::new(answer.clone(), args.body_bytes))
        }
        Language::Grpc => {
            let answer = Rc::new(fields::reply(args.body_bytes, &date));
            for_ever(listeners, || Http2::new(answer.clone(), args.body_bytes))
        }
        Language::Bulk => {
            let bytes = Bulk::prepare();
            for_ever(listeners, || Bulk::new(bytes.clone()))
        }
        Language::Echo => for_ever(listeners, Echo::default),
    }
}

fn for_ever<T: Talk>(listeners: Vec<OwnedFd>, talk: impl Fn() -> T) -> Result<()> {
    let mut server = Server::new(listeners)?;
    loop {
        server.turn(None, &talk)?;
    }
}

/// Everybody that is talked to.
pub(crate) struct Server<T> {
    poll: Poll,
    /// Their tokens are their places; those of connections come behind them.
    listeners: Vec<OwnedFd>,
    connections: Vec<Option<Connection<T>>>,
    /// Places that are free.
    free: Vec<usize>,
    /// Who has more to say without being asked.
    again: Vec<usize>,
    buffer: Box<[u8]>,
}

struct Connection<T> {
    stream: TcpStream,
    talk: T,
}

impl<T: Talk> Server<T> {
    pub(crate) fn new(listeners: Vec<OwnedFd>) -> Result<Self> {
        let poll = Poll::new().context("nothing can be waited for")?;
        for (token, listener) in listeners.iter().enumerate() {
            poll.add(listener, token)?;
        }
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self { poll, listeners, connections: Vec::new(), free: Vec::new(), again: Vec::new(), buffer })
    }

    /// Waits for something to come, and answers it. `talk` begins with somebody new.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>, talk: impl Fn() -> T) -> Result<()> {
        let timeout = if self.again.is_empty() { timeout } else { Some(Duration::ZERO) };
        let again = std::mem::take(&mut self.again);
        let count = self.poll.wait(timeout).context("nothing can be waited for")?;
        for index in 0..count {
            let Ready { token, ended } = self.poll.ready(index);
            match token.checked_sub(self.listeners.len()) {
                Some(place) => self.go_on(place, ended),
                None => self.accept(token, &talk)?,
            }
        }
        again.into_iter().for_each(|place| self.go_on(place, false));
        Ok(())
    }

    fn accept(&mut self, listener: usize, talk: impl Fn() -> T) -> Result<()> {
        while let Some(socket) =
            poll::accept(&self.listeners[listener]).context("no connection can be accepted")?
        {
            let place = self.free.pop().unwrap_or(self.connections.len());
            if place == self.connections.len() {
                if place == MAX_CONNECTIONS {
                    bail!("there are more than {MAX_CONNECTIONS} connections");
                }
                self.connections.push(None);
            }
            self.poll.add(&socket, self.listeners.len() + place)?;
            self.connections[place] = Some(Connection { stream: socket.into(), talk: talk() });
        }
        Ok(())
    }

    fn go_on(&mut self, place: usize, ended: bool) {
        // What is told of a connection that has just been closed comes too late.
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        match connection.talk.ready(&connection.stream, ended, &mut self.buffer) {
            Ok(Step::Wait) => {}
            Ok(Step::Again) => self.again.push(place),
            Ok(Step::Close) => self.close(place),
            Err(error) => {
                // The load counts a lost connection as an error; here is told why.
                if !is_hang_up(&error) {
                    eprintln!("origin: {error:#}");
                }
                self.close(place);
            }
        }
    }

    fn close(&mut self, place: usize) {
        self.connections[place] = None;
        self.free.push(place);
    }
}

/// Whoever asked has gone, as it may at the end of a run.
fn is_hang_up(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(BrokenPipe | ConnectionReset))
}

/// How a talk ends with the connection.
fn step(life: Life) -> Step {
    if life == Life::Over { Step::Close } else { Step::Wait }
}
