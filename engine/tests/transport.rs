//! A migration over the embedder's transports, which buffer in both directions as TLS does.

#![cfg(feature = "uffd")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::codec::NameBuf;
use retpath_engine::destination::Phase;
use retpath_engine::driver::{
    Control, DestinationHandler, HandlerError, ReceiveOptions, ServeOptions, SourceHandler,
    receive, serve,
};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{ConnectionQueue, Link, Moved, Transport};
use retpath_engine::source::{Config, PageSource, Preempt, Source};

/// A transport that inverts every byte. It reads everything from the socket and returns it in small
/// pieces; it accepts more bytes than the socket and sends the rest when flushed.
struct Inverting {
    socket: UnixStream,
    state: RefCell<State>,
    /// Number of times that bytes were buffered, by direction.
    held: Arc<[AtomicU64; 2]>,
}

#[derive(Default)]
struct State {
    read: VecDeque<u8>,
    unsent: VecDeque<u8>,
}

/// Maximum number of bytes returned by one read.
const PIECE: usize = 3000;

/// Maximum number of bytes accepted before they are sent.
const UNSENT: usize = 1 << 20;

impl Inverting {
    fn link(socket: UnixStream, held: &Arc<[AtomicU64; 2]>) -> Link {
        socket
            .set_nonblocking(true)
            .expect("socket option can be set");
        Link::over(Box::new(Self {
            socket,
            state: RefCell::default(),
            held: Arc::clone(held),
        }))
    }
}

impl AsFd for Inverting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Transport for Inverting {
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let read = &mut self.state.borrow_mut().read;
        if read.is_empty() {
            let mut bytes = vec![0; 1 << 16];
            let len = (&self.socket).read(&mut bytes)?;
            read.extend(bytes[..len].iter().map(|byte| !byte));
        }
        let mut left = PIECE;
        for buf in bufs {
            let len = buf.len().min(left);
            left -= read.read(&mut buf[..len])?;
        }
        self.held[0].fetch_add(u64::from(!read.is_empty()), Relaxed);
        Ok(PIECE - left)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        {
            let unsent = &mut self.state.borrow_mut().unsent;
            if unsent.len() >= UNSENT {
                return Err(ErrorKind::WouldBlock.into());
            }
            for buf in bufs {
                unsent.extend(buf.iter().map(|byte| !byte));
                taken += buf.len();
            }
        }
        Ok(taken)
    }

    fn flush(&self) -> io::Result<()> {
        let unsent = &mut self.state.borrow_mut().unsent;
        while !unsent.is_empty() {
            let sent = (&self.socket).write(unsent.as_slices().0);
            self.held[1].fetch_add(u64::from(sent.is_err()), Relaxed);
            unsent.drain(..sent?);
        }
        Ok(())
    }

    fn has_buffered(&self) -> bool {
        !self.state.borrow().read.is_empty()
    }

    fn shut_down(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

struct Machine(Vec<Vec<u8>>);

impl SourceHandler for Machine {
    fn pages(&self) -> &dyn PageSource {
        &self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        Ok(core.switch(Vec::new())?)
    }
}

#[derive(Default)]
struct Guest {
    memory: Vec<Arc<Memory>>,
    toucher: Option<thread::JoinHandle<()>>,
}

impl DestinationHandler for Guest {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = Arc::new(Memory::new(Backing::Anonymous, block.len)?);
        self.memory.push(Arc::clone(&memory));
        Ok(Some(memory))
    }

    fn run(&mut self) {
        let memory = Arc::clone(&self.memory[0]);
        self.toucher = Some(thread::spawn(move || {
            for page in (0..memory.len() / 4096).rev() {
                memory.touch(page * 4096).expect("range lies in the block");
            }
        }));
    }
}

fn migrates(preempt: Option<Preempt>) {
    let ram: Vec<u8> = (0..16u32 << 20)
        .map(|at| (at / 4096 % 255 + 1) as u8)
        .collect();
    let mut blocks = Blocks::new(4096).expect("valid page size");
    let name = NameBuf::new("pc.ram").expect("valid configuration");
    let (len, page) = (ram.len() as u64, 4096);
    blocks
        .add(Block { name, len, page })
        .expect("valid configuration");
    let want = ram.clone();

    let held = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let mut incoming = ConnectionQueue::new().expect("descriptor can be created");
    let (queue, theirs) = (incoming.clone(), Arc::clone(&held));
    let source = thread::spawn(move || {
        let mut config = Config::new("pc-i440fx-10.0");
        config.preempt = preempt;
        let mut core = Source::new(config, blocks).expect("valid configuration");
        let mut connect = |_: Channel| {
            let (near, far) = UnixStream::pair().expect("socket pair can be created");
            queue.push(Inverting::link(far, &theirs)).expect("room");
            Ok(Inverting::link(near, &theirs))
        };
        let (options, control) = (
            ServeOptions::default(),
            Control::new().expect("control can be created"),
        );
        let mut machine = Machine(vec![ram]);
        serve(&mut core, &mut machine, &mut connect, &options, &control)
            .expect("migration completes");
    });

    let mut options = ReceiveOptions::default();
    options.core.preempt = preempt.is_some();
    let mut guest = Guest::default();
    let control = Control::new().expect("control can be created");
    let core = receive(&mut incoming, &mut guest, options, &control).expect("migration completes");
    assert_eq!(core.phase(), Phase::Finished);
    source.join().expect("thread does not panic");
    guest
        .toucher
        .expect("guest ran")
        .join()
        .expect("thread does not panic");
    let mut got = vec![0; want.len()];
    guest.memory[0]
        .read(0, &mut got)
        .expect("range lies in the block");
    assert!(got == want);
    let [read, unsent] = [&held[0], &held[1]].map(|held| held.load(Relaxed));
    assert!(read > 0 && unsent > 0, "{read}, {unsent}: nothing was held");
}

#[test]
fn migrates_over_a_transport_that_buffers() {
    migrates(None);
}

#[test]
fn migrates_over_two_transports_that_buffer() {
    migrates(Some(Preempt::Late));
}

#[test]
fn inverts_bytes_in_transit() {
    let (near, far) = UnixStream::pair().expect("socket pair can be created");
    let held = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let near = Inverting::link(near, &held);
    assert_eq!(
        near.write(b"\x00\x0f").expect("socket accepts the bytes"),
        Moved::Bytes(2)
    );
    assert!(near.flush().expect("socket accepts the bytes"));
    let mut bytes = [0; 2];
    (&far).read_exact(&mut bytes).expect("two bytes arrive");
    assert_eq!(bytes, [0xff, 0xf0]);
}
