//! Simulated connections, and the clock and poll(2) of the loop that uses them.
//!
//! A connection has two queues of bytes and no file: its descriptor is one of a fixed set,
//! which only names it. Everything happens inside [`Runtime::poll`], between two turns of
//! the loop, and in the order that a [`Script`] chooses.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use retpath_engine::Channel;
use retpath_engine::driver::{Control, Runtime, Waited};
use retpath_engine::socket::{Accept, ChannelError, Link, Transport};

/// Maximum number of connections of one run.
const CONNECTIONS: usize = 100;

/// Maximum number of turns of a loop in which nothing happens and no time passes.
const MAX_IDLE_TURNS: u32 = 32;

/// The user of the source.
pub(super) const USER: u32 = 1000;

/// Time that a turn of the loop takes, in nanoseconds.
const TURN: u64 = 1_000;

/// The name of each connection, and behind them that of the listener.
static NAMES: LazyLock<Vec<OwnedFd>> = LazyLock::new(|| {
    let file = File::open("/dev/null").expect("the null device");
    let name = |_| file.try_clone().expect("a descriptor").into();
    (0..=CONNECTIONS).map(name).collect()
});

/// The number of each name, by descriptor.
static NUMBERS: LazyLock<Vec<Option<usize>>> = LazyLock::new(|| {
    let mut numbers = Vec::new();
    for (number, name) in NAMES.iter().enumerate() {
        let fd = usize::try_from(name.as_raw_fd()).expect("not negative");
        numbers.resize(numbers.len().max(fd + 1), None);
        numbers[fd] = Some(number);
    }
    numbers
});

/// A connection, as its peer sees it.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// Bytes that the loop has not read.
    pub(super) inbound: VecDeque<u8>,
    /// Bytes that the loop has written.
    pub(super) outbound: VecDeque<u8>,
    /// How many of those there is room for.
    pub(super) room: usize,
    /// Maximum number of bytes that one call moves.
    pub(super) piece: usize,
    /// The peer has closed its side: the loop reads the end behind the inbound bytes.
    pub(super) ended: bool,
    /// The peer reads no more: the loop's writes fail.
    pub(super) deaf: bool,
    /// The connection is reset: reads and writes fail.
    pub(super) broken: bool,
    /// The loop has closed it.
    pub(super) closed: bool,
    /// Whether it comes from another user than the source.
    pub(super) is_stranger: bool,
    /// The channel that a connecting loop uses it for.
    pub(super) channel: Option<Channel>,
    /// Bytes that a buffering transport has read ahead of the loop.
    ahead: Option<VecDeque<u8>>,
    /// Bytes that a buffering transport has not written yet.
    behind: Vec<u8>,
}

impl Connection {
    /// Moves what a buffering transport holds back.
    fn pass_on(&mut self) -> io::Result<usize> {
        if self.behind.is_empty() {
            return Ok(0);
        }
        if self.broken || self.deaf {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = self.room.saturating_sub(self.outbound.len());
        let count = room.min(self.behind.len()).min(self.piece);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.outbound.extend(self.behind.drain(..count));
        Ok(count)
    }

    /// Keeps a flood from taking forever, also one that the transport has read ahead.
    fn hasten(&mut self) {
        let ahead = self.ahead.as_ref().map_or(0, VecDeque::len);
        if self.inbound.len() + ahead > 1 << 16 {
            self.piece = usize::MAX;
        }
    }

    /// Closes the peer's end.
    pub(super) fn close(&mut self) {
        self.ended = true;
        self.deaf = true;
    }

    /// Resets the connection; bytes in flight are lost.
    pub(super) fn reset(&mut self) {
        self.broken = true;
        self.inbound.clear();
        self.outbound.clear();
    }
}

/// All connections of one loop, and its clock.
#[derive(Debug, Default)]
pub(super) struct Net {
    /// Nanoseconds since the beginning.
    pub(super) now: u64,
    pub(super) connections: Vec<Connection>,
    /// Connections that the loop has not accepted.
    backlog: VecDeque<usize>,
    /// The control of the loop, until the run is over.
    pub(super) control: Option<Control>,
    /// Whether the control has a wish that the loop has not seen.
    wished: bool,
    /// Whether a byte or a connection was moved since the last poll.
    moved: bool,
    /// Turns without progress, and when they began.
    idle: (u32, u64),
    polls: u32,
    /// Turns in which nothing happens outside of the loop.
    quiet: u32,
}

/// Events outside of the loop.
pub(super) trait Script: Send {
    /// Lets some events happen. Returns by how much the next poll oversleeps, in
    /// nanoseconds.
    fn events(&mut self, net: &mut Net) -> u64;
}

impl Net {
    /// Makes a connection for the loop to accept, if the names last.
    pub(super) fn connect(&mut self) -> Option<usize> {
        let id = self.open()?;
        self.backlog.push_back(id);
        Some(id)
    }

    /// Takes a connection that the loop has made.
    pub(super) fn accept(&mut self) -> Option<usize> {
        self.backlog.pop_front()
    }

    /// Makes a connection, if the names last.
    fn open(&mut self) -> Option<usize> {
        let id = self.connections.len();
        if id == CONNECTIONS {
            return None;
        }
        self.connections.push(Connection {
            room: 1 << 16,
            piece: usize::MAX,
            ..Connection::default()
        });
        Some(id)
    }

    /// Makes the transport of a connection read ahead and write behind.
    pub(super) fn buffer(&mut self, id: usize) {
        self.connections[id].ahead = Some(VecDeque::new());
    }

    /// Lets nothing happen for as many turns as show that a loop spins.
    pub(super) fn rest(&mut self) {
        self.quiet = MAX_IDLE_TURNS + 8;
    }

    /// Lets a connection move as much as there is.
    pub(super) fn widen(&mut self, id: usize) {
        let one = &mut self.connections[id];
        (one.room, one.piece) = (1 << 16, usize::MAX);
    }

    /// Lets the loop see a wish.
    pub(super) fn wish(&mut self, wish: fn(&Control)) {
        if let Some(control) = &self.control {
            wish(control);
            self.wished = true;
        }
    }

    /// Takes up to `count` bytes that the loop has written.
    pub(super) fn take(&mut self, id: usize, count: usize) -> Vec<u8> {
        let outbound = &mut self.connections[id].outbound;
        outbound.drain(..count.min(outbound.len())).collect()
    }

    /// Sets what is ready. Returns whether anything is.
    fn look(&mut self, waited: &mut [Waited<'_>]) -> bool {
        let mut any = false;
        for one in waited {
            let fd = usize::try_from(one.as_fd().as_raw_fd()).expect("not negative");
            let ready = match NUMBERS.get(fd).copied().flatten() {
                // Neither a connection nor the listener.
                None => (self.wished, false, false, false),
                Some(CONNECTIONS) => (!self.backlog.is_empty(), false, false, false),
                Some(id) => {
                    let one = &self.connections[id];
                    let over = one.broken || one.closed || one.ended && one.deaf;
                    let read = !one.inbound.is_empty() || one.ended;
                    let write = one.deaf || one.outbound.len() < one.room;
                    (read, write, one.ended, over)
                }
            };
            let (read, write, closed, broken) = ready;
            one.set_ready(read, write, closed, broken);
            any |= broken
                || read && one.wants_read()
                || write && one.wants_write()
                || closed && one.wants_close();
        }
        any
    }

    /// Checks that the loop made progress in its last turn, or slept.
    fn check_progress(&mut self, waited: &[Waited<'_>]) {
        let (turns, since) = self.idle;
        self.idle = match self.moved || self.now - since > 1000 * TURN {
            true => (0, self.now),
            false => (turns + 1, since),
        };
        self.moved = false;
        assert!(
            turns < MAX_IDLE_TURNS,
            "the loop spins: {waited:?}, {self:#?}"
        );
        self.polls += 1;
        assert!(self.polls < 100_000, "the loop does not end");
    }
}

/// A network that its connections, its listener and its runtime share.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Net>>);

impl Shared {
    pub(super) fn net(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop's end of a connection.
    pub(super) fn link(&self, id: usize) -> Link {
        let shared = self.clone();
        Link::over(Box::new(Socket { shared, id }))
    }

    /// The runtime whose events come from `script`.
    pub(super) fn runtime<S: Script + 'static>(&self, script: Arc<Mutex<S>>) -> Box<dyn Runtime> {
        Box::new(Simulation {
            shared: self.clone(),
            script,
            start: Instant::now(),
        })
    }
}

impl Accept for Shared {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(NAMES[CONNECTIONS].as_fd())
    }

    fn accept(&mut self) -> Result<Option<Link>, ChannelError> {
        let mut net = self.net();
        let id = net.backlog.pop_front();
        net.moved |= id.is_some();
        drop(net);
        Ok(id.map(|id| self.link(id)))
    }
}

struct Simulation<S> {
    shared: Shared,
    script: Arc<Mutex<S>>,
    start: Instant,
}

impl<S: Script> Runtime for Simulation<S> {
    fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.shared.net().now)
    }

    fn poll(&self, waited: &mut [Waited<'_>], most: Duration) -> io::Result<()> {
        let script = self.script.lock();
        let mut script = script.unwrap_or_else(PoisonError::into_inner);
        let mut net = self.shared.net();
        net.now += TURN;
        net.connections.iter_mut().for_each(Connection::hasten);
        let mut events = |net: &mut Net| match net.quiet.checked_sub(1) {
            Some(left) => {
                net.quiet = left;
                0
            }
            None => script.events(net),
        };
        let late = events(&mut net);
        if !net.look(waited) {
            let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
            net.now = net.now.saturating_add(most.saturating_add(late));
            // What happened meanwhile.
            events(&mut net);
            net.look(waited);
        }
        net.wished = false;
        net.check_progress(waited);
        Ok(())
    }
}

/// The loop's end of a connection.
struct Socket {
    shared: Shared,
    id: usize,
}

impl Socket {
    /// Calls with the connection; returns the number of bytes that were moved.
    fn moves(&self, call: impl FnOnce(&mut Connection) -> io::Result<usize>) -> io::Result<usize> {
        let mut net = self.shared.net();
        let moved = call(&mut net.connections[self.id]);
        net.moved |= matches!(moved, Ok(1..));
        moved
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        NAMES[self.id].as_fd()
    }
}

impl Transport for Socket {
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.moves(|one| {
            if one.broken {
                return Err(ErrorKind::ConnectionReset.into());
            }
            let source = match &mut one.ahead {
                Some(ahead) => {
                    ahead.append(&mut one.inbound);
                    ahead
                }
                None => &mut one.inbound,
            };
            if source.is_empty() {
                return match one.ended || one.closed {
                    true => Ok(0),
                    false => Err(ErrorKind::WouldBlock.into()),
                };
            }
            let mut left = one.piece;
            let before = left;
            for buf in bufs {
                let len = buf.len().min(left);
                let read = source.read(&mut buf[..len])?;
                left -= read;
            }
            Ok(before - left)
        })
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.moves(|one| {
            if one.broken || one.deaf || one.closed {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let waiting = one.outbound.len() + one.behind.len();
            let mut left = one.room.saturating_sub(waiting).min(one.piece);
            if left == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let before = left;
            for buf in bufs {
                let part = &buf[..buf.len().min(left)];
                left -= part.len();
                match one.ahead {
                    Some(_) => one.behind.extend_from_slice(part),
                    None => one.outbound.extend(part),
                }
            }
            Ok(before - left)
        })
    }

    fn flush(&self) -> io::Result<()> {
        while self.moves(Connection::pass_on)? > 0 {}
        Ok(())
    }

    fn has_buffered(&self) -> bool {
        let net = self.shared.net();
        let ahead = net.connections[self.id].ahead.as_ref();
        ahead.is_some_and(|ahead| !ahead.is_empty())
    }

    fn has_ended(&self) -> bool {
        let one = &self.shared.net().connections[self.id];
        one.ended || one.broken || one.closed
    }

    fn peer_user(&self) -> Option<u32> {
        let is_stranger = self.shared.net().connections[self.id].is_stranger;
        Some(USER + u32::from(is_stranger))
    }

    fn shut_down(&self) {
        let mut net = self.shared.net();
        net.connections[self.id].closed = true;
        net.moved = true;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shut_down();
    }
}
