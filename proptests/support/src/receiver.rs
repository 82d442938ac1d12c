//! A destination for tests with hostile sources.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use retpath_codec::forward::Event;
use retpath_engine::blocks::Block;
use retpath_engine::destination::{Destination, Phase};
use retpath_engine::driver::{
    Connector, Control, DestinationHandler, HandlerError, RunError, receive,
};
use retpath_engine::memory::Memory;
use retpath_engine::socket::{Address, Listener};
use retpath_engine::source::{self, Preempt, Source};

use super::loops::{self, Dial, LONG, Still, receive_options, serve_with};
use super::wire::{PAGE, PAGES, blocks, config, image};

/// What the destination's handler has reported.
#[derive(Default)]
struct Reported {
    memory: Option<Arc<Memory>>,
    phase: Option<Phase>,
    turns: u64,
    pauses: u64,
    heard: bool,
    ran: bool,
    over: bool,
}

#[derive(Clone, Default)]
struct Board(Arc<(Mutex<Reported>, Condvar)>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, Reported> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, what: impl FnOnce(&mut Reported)) {
        what(&mut self.lock());
        self.0.1.notify_all();
    }

    fn wait<T>(&self, until: impl Fn(&Reported) -> Option<T>) -> T {
        let mut state = self.lock();
        loop {
            if let Some(found) = until(&state) {
                return found;
            }
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl DestinationHandler for Board {
    fn memory(&mut self, block: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        let memory = loops::memory(block)?;
        self.update(|state| state.memory = Some(Arc::clone(&memory)));
        Ok(Some(memory))
    }

    fn event(&mut self, _: &Event<'_>) -> Result<(), HandlerError> {
        self.update(|state| state.heard = true);
        Ok(())
    }

    fn run(&mut self) {
        self.update(|state| state.ran = true);
    }

    fn progress(&mut self, core: &Destination) {
        self.update(|state| {
            state.phase = Some(core.phase());
            state.turns += 1;
            state.pauses = core.stats().pauses;
        });
    }

    /// Returns true: no thread touches the memory before it is complete.
    fn failed(&mut self, _: &RunError) -> bool {
        true
    }
}

/// A running destination.
pub struct Receiver {
    address: Address,
    control: Control,
    board: Board,
    thread: JoinHandle<(Listener, Result<Destination, RunError>)>,
}

/// The state of a destination after its source disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // for tests/injection
pub enum Settled {
    /// No migration started.
    Waiting,
    /// The guest runs and waits for missing pages.
    Paused,
    /// The migration ended.
    Over,
}

impl Receiver {
    /// Starts a destination. `recovery` is the recovery timeout.
    pub fn start(mut listener: Listener, preempt: bool, recovery: Duration) -> Self {
        let control = Control::new().expect("control descriptor can be created");
        let mut options = receive_options(preempt);
        options.core.max_ram = 1 << 20;
        options.recovery_timeout = recovery;
        let board = Board::default();
        let address = listener.address().clone();
        let (mut guest, stop) = (board.clone(), control.clone());
        let thread = thread::spawn(move || {
            let end = receive(&mut listener, &mut guest, options, &stop);
            guest.update(|state| state.over = true);
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

    /// Waits until a source has sent data.
    pub fn heard(&self) {
        self.board.wait(|state| state.heard.then_some(()));
    }

    /// Starts a thread that reads all memory once the guest may run.
    pub fn touch_all(&self) -> JoinHandle<()> {
        let board = self.board.clone();
        thread::spawn(move || {
            let memory = board.wait(|state| state.memory.clone().filter(|_| state.ran));
            for page in 0..PAGES {
                memory.touch(page * PAGE).expect("page lies in the block");
            }
        })
    }

    /// Waits until the guest may run.
    pub fn running(&self) {
        self.board.wait(|state| state.ran.then_some(()));
    }

    /// Waits until the link has broken `count` times.
    pub fn pauses(&self, count: u64) {
        self.board
            .wait(|state| (state.pauses >= count).then_some(()));
    }

    /// Waits until it has dropped its source; returns whether it accepts another one.
    pub fn wants_another(&self) -> bool {
        self.board.wait(|state| match state.phase {
            _ if state.over => Some(false),
            Some(Phase::Paused) => Some(true),
            _ => None,
        })
    }

    /// Waits until the loop has looked at everything that has arrived.
    pub fn turns(&self) {
        let before = self.board.lock().turns;
        let enough = |state: &Reported| (state.turns >= before + 3).then_some(());
        self.board.wait(enough);
    }

    /// Waits for a final state after the last source has disconnected.
    #[allow(dead_code)] // for tests/injection
    pub fn settled(&self) -> Settled {
        let before = self.board.lock().turns;
        self.board.wait(|state| match state.phase {
            _ if state.over => Some(Settled::Over),
            Some(Phase::Paused) => Some(Settled::Paused),
            // Everything that arrived before has been read by now.
            _ if !state.heard && state.turns >= before + 3 => Some(Settled::Waiting),
            _ => None,
        })
    }

    /// Waits for the end, which must be an error.
    pub fn failed(self) -> (Listener, RunError) {
        let (listener, end) = self.end();
        (listener, end.expect_err("a hostile source causes an error"))
    }

    /// Waits for the end; compares every page if the migration is complete.
    pub fn end(self) -> (Listener, Result<Destination, RunError>) {
        let (listener, end) = self.thread.join().expect("receive thread does not panic");
        let Ok(core) = end else {
            return (listener, end);
        };
        assert_eq!(core.phase(), Phase::Finished);
        let memory = self
            .board
            .lock()
            .memory
            .take()
            .expect("block was announced");
        let mut got = vec![0; usize::try_from(PAGES * PAGE).expect("fits in usize")];
        memory.read(0, &mut got).expect("range lies in the block");
        assert!(got == image(), "received memory differs");
        (listener, Ok(core))
    }

    /// Waits for a complete migration and compares every page.
    pub fn complete(self) -> (Listener, Destination) {
        let (listener, end) = self.end();
        (listener, end.expect("migration completes"))
    }
}

/// Waits until the peer disconnects.
pub fn until_dropped(socket: &mut impl Read) {
    let mut bytes = [0; 4096];
    while socket.read(&mut bytes).is_ok_and(|size| size > 0) {}
}

/// Runs a well-behaved source that sends everything, or takes over from another one.
pub fn serve_well(address: &Address, preempt: Option<Preempt>, others: bool) -> Source {
    let make = if others {
        Source::taking_over
    } else {
        Source::new
    };
    let core = make(config(preempt), blocks()).expect("valid configuration");
    serve_by(core, &mut Dial(address.clone()))
}

/// Runs a well-behaved source with the test's connector.
pub fn serve_by(mut core: Source, dial: &mut dyn Connector) -> Source {
    let mut machine = Still(vec![image()]);
    serve_with(&mut core, &mut machine, dial, LONG).expect("migration completes");
    assert_eq!(core.phase(), source::SourcePhase::Completed);
    core
}

/// Runs a complete migration over a listener that accepted other connections before.
pub fn serves_the_next(listener: Listener) -> Listener {
    let receiver = Receiver::start(listener, false, LONG);
    serve_well(receiver.address(), None, false);
    receiver.complete().0
}
