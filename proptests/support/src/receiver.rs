//! Our destination, for hostile sources.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use retpath_codec::forward::{self, Event};
use retpath_engine::Channel;
use retpath_engine::blocks::Block;
use retpath_engine::destination::{self, Destination, Phase};
use retpath_engine::driver::{
    Connector, Control, DestinationHandler, HandlerError, ReceiveOptions, RunError, ServeOptions,
    SourceHandler, receive, serve,
};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{Address, ChannelError, Link, Listener};
use retpath_engine::source::{self, PageSource, Preempt, Source};
use tempfile::TempDir;

use super::wire::{PAGE, PAGES, blocks, config, image};

/// Long enough for whatever a good peer does, on the busiest machine.
pub const LONG: Duration = Duration::from_secs(100);

/// What the destination's loop has told.
#[derive(Default)]
struct Told {
    memory: Option<Arc<Memory>>,
    phase: Option<Phase>,
    turns: u64,
    pauses: u64,
    heard: bool,
    ran: bool,
    over: bool,
}

#[derive(Clone, Default)]
struct Board(Arc<(Mutex<Told>, Condvar)>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: impl FnOnce(&mut Told)) {
        what(&mut self.lock());
        self.0.1.notify_all();
    }

    fn wait<T>(&self, until: impl Fn(&Told) -> Option<T>) -> T {
        let mut told = self.lock();
        loop {
            if let Some(found) = until(&told) {
                return found;
            }
            told = self.0.1.wait(told).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl DestinationHandler for Board {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = Memory::new(Backing::Anonymous, block.len).map_err(|e| e.to_string())?;
        let memory = Arc::new(memory);
        self.tell(|told| told.memory = Some(Arc::clone(&memory)));
        Ok(Some(memory))
    }

    fn event(&mut self, _: &Event<'_>) -> Result<(), HandlerError> {
        self.tell(|told| told.heard = true);
        Ok(())
    }

    fn run(&mut self) {
        self.tell(|told| told.ran = true);
    }

    fn progress(&mut self, core: &Destination) {
        self.tell(|told| {
            told.phase = Some(core.phase());
            told.turns += 1;
            told.pauses = core.stats().pauses;
        });
    }

    /// Nobody touches the memory before it is complete.
    fn failed(&mut self, _: &RunError) -> bool {
        true
    }
}

/// A destination that has been started.
pub struct Receiver {
    address: Address,
    control: Control,
    board: Board,
    thread: JoinHandle<(Listener, Result<Destination, RunError>)>,
}

/// How a destination stands whose source is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // for tests/injection
pub enum Settled {
    /// Nobody has migrated to it yet.
    Waiting,
    /// It has a guest, and waits for the rest of its memory.
    Paused,
    /// It has ended.
    Over,
}

/// Where it can be reached.
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

impl Receiver {
    /// `recovery` is how long a replacement link may take.
    pub fn start(mut listener: Listener, preempt: bool, recovery: Duration) -> Self {
        let control = Control::new().expect("a descriptor");
        let options = ReceiveOptions {
            core: destination::Config {
                preempt,
                max_ram: 1 << 20,
                ..Default::default()
            },
            stream: forward::Options::default(),
            reconnect_timeout: LONG,
            recovery_timeout: recovery,
            accept_unproven_end: false,
        };
        let board = Board::default();
        let address = listener.address().clone();
        let (mut guest, stop) = (board.clone(), control.clone());
        let thread = thread::spawn(move || {
            let end = receive(&mut listener, &mut guest, options, &stop);
            guest.tell(|told| told.over = true);
            (listener, end)
        });
        Self {
            address,
            control,
            board,
            thread,
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Waits until a source has been heard.
    pub fn heard(&self) {
        self.board.wait(|told| told.heard.then_some(()));
    }

    /// Once the guest may run, reads all of its memory as it would.
    pub fn touch_all(&self) -> JoinHandle<()> {
        let board = self.board.clone();
        thread::spawn(move || {
            let memory = board.wait(|told| told.memory.clone().filter(|_| told.ran));
            for page in 0..PAGES {
                memory.touch(page * PAGE).expect("inside");
            }
        })
    }

    /// Waits until the guest may run.
    pub fn running(&self) {
        self.board.wait(|told| told.ran.then_some(()));
    }

    /// Waits until the link has broken this often.
    pub fn pauses(&self, count: u64) {
        self.board.wait(|told| (told.pauses >= count).then_some(()));
    }

    /// Waits until it has let go of its source; `true` if it wants another one.
    pub fn wants_another(&self) -> bool {
        self.board.wait(|told| match told.phase {
            _ if told.over => Some(false),
            Some(Phase::Paused) => Some(true),
            _ => None,
        })
    }

    /// How it stands, once its last source is gone for good.
    #[allow(dead_code)] // for tests/injection
    pub fn settled(&self) -> Settled {
        let before = self.board.lock().turns;
        self.board.wait(|told| match told.phase {
            _ if told.over => Some(Settled::Over),
            Some(Phase::Paused) => Some(Settled::Paused),
            // Whatever had arrived before has been read by now.
            _ if !told.heard && told.turns >= before + 3 => Some(Settled::Waiting),
            _ => None,
        })
    }

    /// Why it failed, and the listener.
    pub fn failed(self) -> (Listener, RunError) {
        let (listener, end) = self.end();
        (listener, end.expect_err("a hostile source"))
    }

    /// Every page is right, or it failed.
    pub fn end(self) -> (Listener, Result<Destination, RunError>) {
        let (listener, end) = self.thread.join().expect("the loop's thread");
        let Ok(core) = end else {
            return (listener, end);
        };
        assert_eq!(core.phase(), Phase::Finished);
        let memory = self.board.lock().memory.take().expect("announced");
        let mut got = vec![0; usize::try_from(PAGES * PAGE).expect("small")];
        memory.read(0, &mut got).expect("inside");
        assert!(got == image(), "a page is wrong");
        (listener, Ok(core))
    }

    /// Every page is right.
    pub fn complete(self) -> (Listener, Destination) {
        let (listener, end) = self.end();
        (listener, end.expect("received"))
    }
}

/// Connects as anybody can.
pub fn connect(address: &Address) -> UnixStream {
    match address {
        Address::Unix(path) => UnixStream::connect(path).expect("connects"),
        other => panic!("{other} is no unix address"),
    }
}

pub fn connect_tcp(address: &Address) -> TcpStream {
    match address {
        Address::Tcp { host, port } => TcpStream::connect((&host[..], *port)).expect("connects"),
        other => panic!("{other} is no TCP address"),
    }
}

/// Waits until the destination lets go.
pub fn until_dropped(socket: &mut impl Read) {
    let mut bytes = [0; 4096];
    while socket.read(&mut bytes).is_ok_and(|size| size > 0) {}
}

/// A machine whose memory never changes, and which is switched at once.
pub struct Still(pub Vec<Vec<u8>>);

impl SourceHandler for Still {
    fn pages(&self) -> &dyn PageSource {
        &self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        if core.phase() == source::SourcePhase::Precopy {
            core.switch(Vec::new()).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Connects, after something else has been done.
pub struct Dial<F>(pub Address, pub F);

impl<F: FnMut(Channel)> Connector for Dial<F> {
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError> {
        (self.1)(channel);
        self.0.connect(false)
    }
}

/// A good source: everything, or what another one has left.
pub fn serve_well(address: &Address, preempt: Option<Preempt>, others: bool) -> Source {
    let make = if others {
        Source::taking_over
    } else {
        Source::new
    };
    let core = make(config(preempt), blocks()).expect("good");
    serve_by(core, &mut Dial(address.clone(), |_| ()))
}

/// A good source that connects in a way of its own.
pub fn serve_by(mut core: Source, dial: &mut dyn Connector) -> Source {
    let options = ServeOptions {
        reconnect_timeout: LONG,
        ..ServeOptions::default()
    };
    let control = Control::new().expect("a descriptor");
    let mut machine = Still(vec![image()]);
    serve(&mut core, &mut machine, dial, &options, &control).expect("served");
    assert_eq!(core.phase(), source::SourcePhase::Completed);
    core
}

/// A good source is served in full by a listener that has seen others.
pub fn serves_the_next(listener: Listener) -> Listener {
    let receiver = Receiver::start(listener, false, LONG);
    serve_well(receiver.address(), None, false);
    receiver.complete().0
}
