//! Both loops in one process: handlers, connectors and options for tests and benchmarks.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use retpath_codec::NameBuf;
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination;
use retpath_engine::driver::{
    Connector, Control, HandlerError, ReceiveOptions, RunError, ServeOptions, SourceHandler, serve,
};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{Address, ChannelError, Link, Listener, Transport};
use retpath_engine::source::{self, PageSource, Source};
use tempfile::TempDir;

pub const PAGE: u64 = 4096;

/// A timeout long enough for a well-behaved peer on a loaded machine.
pub const LONG: Duration = Duration::from_secs(100);

/// Address family of a listener.
pub enum Net {
    Unix,
    Tcp,
}

/// Creates a listener; the folder holds its socket.
pub fn listen(net: Net) -> (TempDir, Listener) {
    let dir = tempfile::tempdir().expect("temporary folder can be created");
    let uri = match net {
        Net::Unix => format!("unix:{}", dir.path().join("s").display()),
        Net::Tcp => "tcp:127.0.0.1:0".into(),
    };
    let address: Address = uri.parse().expect("valid address");
    let listener = address.listen(false).expect("address is free");
    (dir, listener)
}

/// Connects a Unix socket.
pub fn connect(address: &Address) -> UnixStream {
    match address {
        Address::Unix(path) => UnixStream::connect(path).expect("listener accepts"),
        other => panic!("{other} is not a Unix address"),
    }
}

/// Connects a TCP socket.
pub fn connect_tcp(address: &Address) -> TcpStream {
    match address {
        Address::Tcp { host, port } => {
            TcpStream::connect((&host[..], *port)).expect("listener accepts")
        }
        other => panic!("{other} is not a TCP address"),
    }
}

/// Creates blocks of small pages, by name and length in bytes.
pub fn blocks(list: &[(&str, u64)]) -> Blocks {
    let mut blocks = Blocks::new(PAGE).expect("valid page size");
    for (name, len) in list {
        let name = NameBuf::new(*name).expect("valid name");
        let (len, page) = (*len, PAGE);
        blocks.add(Block { name, len, page }).expect("valid block");
    }
    blocks
}

/// Maps memory for a block of a destination.
///
/// # Errors
///
/// Fails if the memory cannot be mapped.
pub fn memory(block: &Block) -> Result<Arc<Memory>, HandlerError> {
    let memory = Memory::new(Backing::Anonymous, block.len)?;
    Ok(Arc::new(memory))
}

/// A source handler whose memory never changes and that switches immediately.
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

/// A connector to an address.
pub struct Dial(pub Address);

impl Connector for Dial {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        self.0.connect(false)
    }
}

/// A connector that calls a function before each connection.
pub struct DialAfter<F>(pub Address, pub F);

impl<F: FnMut(Channel)> Connector for DialAfter<F> {
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError> {
        (self.1)(channel);
        self.0.connect(false)
    }
}

/// Breaks a link once it has taken `bytes` bytes, which is a place that a test can repeat.
pub fn break_after(link: Link, bytes: usize) -> Link {
    let left = Cell::new(bytes);
    link.wrap(|inner| Box::new(Breaking { inner, left }))
}

struct Breaking {
    inner: Box<dyn Transport>,
    left: Cell<usize>,
}

impl AsFd for Breaking {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Transport for Breaking {
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.inner.read_vectored(bufs)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let left = self.left.get();
        let all: usize = bufs.iter().map(|buf| buf.len()).sum();
        let written = match bufs.iter().find(|buf| !buf.is_empty()) {
            // A short write is allowed.
            Some(first) if all > left => {
                let part = &first[..left.min(first.len())];
                self.inner.write_vectored(&[IoSlice::new(part)])?
            }
            _ => self.inner.write_vectored(bufs)?,
        };
        self.left.set(left - written);
        if left == written {
            self.inner.shut_down();
        }
        Ok(written)
    }

    fn shut_down(&self) {
        self.inner.shut_down();
    }

    fn limit_send_queue(&self, bytes: usize) -> io::Result<()> {
        self.inner.limit_send_queue(bytes)
    }
}

/// Returns options for a destination whose timeouts do not expire.
pub fn receive_options(preempt: bool) -> ReceiveOptions {
    ReceiveOptions::default()
        .core(destination::Config::default().preempt(preempt))
        .reconnect_timeout(LONG)
        .recovery_timeout(LONG)
}

/// Runs a source that retries its connection for `retry`.
///
/// # Errors
///
/// Fails as [`serve`] does.
pub fn serve_with(
    core: &mut Source,
    machine: &mut dyn SourceHandler,
    connector: &mut dyn Connector,
    retry: Duration,
) -> Result<(), RunError> {
    let options = ServeOptions::default().reconnect_timeout(retry);
    let control = Control::new().expect("control descriptor can be created");
    serve(core, machine, connector, &options, &control)
}
