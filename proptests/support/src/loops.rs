//! Both loops in one process: machines, connectors and options for tests and benchmarks.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use retpath_codec::{NameBuf, forward};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination;
use retpath_engine::driver::{
    Connector, Control, HandlerError, ReceiveOptions, RunError, ServeOptions, SourceHandler, serve,
};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{Address, ChannelError, Link, Listener};
use retpath_engine::source::{self, PageSource, Source};
use tempfile::TempDir;

pub const PAGE: u64 = 4096;

/// Long enough for a correct peer on a busy machine.
pub const LONG: Duration = Duration::from_secs(100);

/// Address family of a listener.
pub enum Net {
    Unix,
    Tcp,
}

/// A listener; the folder holds its socket.
pub fn listen(net: Net) -> (TempDir, Listener) {
    let dir = tempfile::tempdir().expect("a folder");
    let uri = match net {
        Net::Unix => format!("unix:{}", dir.path().join("s").display()),
        Net::Tcp => "tcp:127.0.0.1:0".into(),
    };
    let address: Address = uri.parse().expect("an address");
    let listener = address.listen(false).expect("listens");
    (dir, listener)
}

/// Connects a plain socket.
pub fn connect(address: &Address) -> UnixStream {
    match address {
        Address::Unix(path) => UnixStream::connect(path).expect("connects"),
        other => panic!("{other} is no unix address"),
    }
}

/// Connects a plain TCP socket.
pub fn connect_tcp(address: &Address) -> TcpStream {
    match address {
        Address::Tcp { host, port } => TcpStream::connect((&host[..], *port)).expect("connects"),
        other => panic!("{other} is no TCP address"),
    }
}

/// Blocks of small pages, by name and length in bytes.
pub fn blocks(list: &[(&str, u64)]) -> Blocks {
    let mut blocks = Blocks::new(PAGE).expect("4 KiB");
    for (name, len) in list {
        let name = NameBuf::new(*name).expect("a good name");
        let (len, page) = (*len, PAGE);
        blocks.add(Block { name, len, page }).expect("a good block");
    }
    blocks
}

/// Memory for a block of a destination.
///
/// # Errors
///
/// It cannot be mapped.
pub fn memory(block: &Block) -> Result<Arc<Memory>, HandlerError> {
    let memory = Memory::new(Backing::Anonymous, block.len)?;
    Ok(Arc::new(memory))
}

/// A machine whose memory never changes and that switches at once.
pub struct Still<P>(pub P);

impl<P: PageSource> SourceHandler for Still<P> {
    fn pages(&self) -> &dyn PageSource {
        &self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        match core.phase() {
            source::SourcePhase::Precopy => Ok(core.switch(Vec::new())?),
            _ => Ok(()),
        }
    }
}

/// Connects to an address.
pub struct Dial(pub Address);

impl Connector for Dial {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        self.0.connect(false)
    }
}

/// Connects to an address after calling a function.
pub struct DialAfter<F>(pub Address, pub F);

impl<F: FnMut(Channel)> Connector for DialAfter<F> {
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError> {
        (self.1)(channel);
        self.0.connect(false)
    }
}

/// Options of a destination whose timeouts do not expire.
pub fn receive_options(preempt: bool) -> ReceiveOptions {
    ReceiveOptions {
        core: destination::Config {
            preempt,
            ..Default::default()
        },
        stream: forward::Options::default(),
        reconnect_timeout: LONG,
        recovery_timeout: LONG,
        accept_unproven_end: false,
    }
}

/// Runs a source that reconnects for `retry`.
///
/// # Errors
///
/// As [`serve`].
pub fn serve_with(
    core: &mut Source,
    machine: &mut dyn SourceHandler,
    connector: &mut dyn Connector,
    retry: Duration,
) -> Result<(), RunError> {
    let options = ServeOptions {
        reconnect_timeout: retry,
        ..ServeOptions::default()
    };
    let control = Control::new().expect("a descriptor");
    serve(core, machine, connector, &options, &control)
}
