//! A relay between the two sides of a migration: Unix socket in, Unix socket out.
//!
//! It forwards bytes and half-closes unchanged, with two threads per connection. It can cut all
//! links, cut them at an exact byte, hold back a message, and record both directions. Both sides see
//! a cut as a network failure; later connections are forwarded.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::hold::{Found, Hold};
use super::migration::unix;
use super::process::folder;
use super::stream::Ram;
use crate::SOON;

/// The end mark of RAM records, which ends the preempt channel of machine types up to 7.2.
pub const EOS: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0x10];

/// Interval at which a connection checks whether its held bytes were released.
const HOLD: Duration = Duration::from_millis(10);

fn is_late(error: &std::io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Statistics of one connection, in order of arrival.
#[derive(Clone, Debug)]
pub struct Link {
    /// When it was accepted.
    pub opened: Instant,
    /// Bytes forwarded from the connecting side.
    pub forward: u64,
    /// Bytes forwarded to the connecting side.
    pub back: u64,
    /// Its first bytes, up to 16, which identify the channel.
    pub head: Vec<u8>,
    /// Whether it is closed in both directions.
    pub closed: bool,
}

#[derive(Default)]
struct State {
    links: Vec<Link>,
    streams: Vec<[UnixStream; 2]>,
    /// Forward bytes on all links together that remain before the cut.
    budget: Option<u64>,
    cuts: usize,
    /// Whether new connections are closed immediately.
    down: bool,
    hold: Option<Hold>,
    record: Option<PathBuf>,
    trouble: Vec<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    over: AtomicBool,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the connecting side.
    Forward,
    /// To the connecting side.
    Back,
}

/// A listening relay; dropping it cuts its links.
pub struct Relay {
    shared: Arc<Shared>,
    folder: TempDir,
}

impl Relay {
    /// Starts a relay that connects every incoming connection to `target`.
    pub fn new(target: &Path) -> Self {
        let relay = Self {
            shared: Arc::default(),
            folder: folder(),
        };
        let path = relay.socket();
        let listener = UnixListener::bind(&path)
            .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", path.display()));
        let (shared, target) = (Arc::clone(&relay.shared), target.to_owned());
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.over.load(Ordering::Acquire) {
                    return;
                }
                shared.connect(stream, &target);
            }
        });
        relay
    }

    /// Records each later connection to `PREFIX.chN.fwd` (from the connecting side) and
    /// `PREFIX.chN.rp` (to it), where N counts connections from 0.
    pub fn record(self, prefix: &Path) -> Self {
        self.shared.lock().record = Some(prefix.to_owned());
        self
    }

    /// Starts a relay that records to its own folder, for [`Relay::ram`].
    pub fn recording(target: &Path) -> Self {
        let relay = Self::new(target);
        let prefix = relay.prefix();
        relay.record(&prefix)
    }

    fn prefix(&self) -> PathBuf {
        self.folder.path().join("record")
    }

    /// Returns the RAM that passed through a relay made with [`Relay::recording`], once all its
    /// links are closed. `huge` names the blocks on huge pages.
    pub fn ram(&self, huge: &[String]) -> Ram {
        let mut ram = Ram::default();
        for link in 0..self.links().len() {
            ram.take(&self.carried(link), huge);
        }
        ram
    }

    /// Returns what connection `index` carried forward, once it is closed.
    pub fn carried(&self, index: usize) -> Vec<u8> {
        self.wait(SOON, "the end of a link", |links| {
            links[index].closed.then_some(())
        });
        recorded(&self.prefix(), index, "fwd")
    }

    /// Returns the path to connect to.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("relay")
    }

    /// Returns the migration URI to connect to.
    pub fn uri(&self) -> String {
        unix(&self.socket())
    }

    /// Returns all connections so far.
    pub fn links(&self) -> Vec<Link> {
        self.shared.lock().links.clone()
    }

    /// Returns the number of bytes forwarded so far on all connections.
    pub fn forwarded(&self) -> u64 {
        self.shared
            .lock()
            .links
            .iter()
            .map(|link| link.forward)
            .sum()
    }

    /// Returns how many times the links were cut.
    pub fn cuts(&self) -> usize {
        self.shared.lock().cuts
    }

    /// Cuts all links.
    pub fn cut(&self) {
        self.shared.cut(&mut self.shared.lock());
    }

    /// Cuts all links and refuses new ones until [`Relay::mend`].
    pub fn tear_down(&self) {
        let mut state = self.shared.lock();
        state.down = true;
        self.shared.cut(&mut state);
    }

    /// Accepts new connections again.
    pub fn mend(&self) {
        self.shared.lock().down = false;
    }

    /// Cuts all links after exactly `bytes` more forward bytes, even inside a message.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.lock().budget = Some(bytes);
    }

    /// Holds back one direction from the first `pattern` on, until [`Relay::release`] or a cut. Bytes
    /// before it are forwarded.
    pub fn hold(&self, way: Way, pattern: &'static [u8]) {
        self.shared.lock().hold = Some(Hold::new(way, pattern));
    }

    /// Waits until [`Relay::hold`] has matched and `enough` accepts the bytes held back.
    pub fn wait_held(&self, within: Duration, enough: impl Fn(&[u8]) -> bool) {
        let held = |state: &State| {
            let hold = state.hold.as_ref()?;
            (!hold.held.is_empty() && enough(&hold.held)).then_some(())
        };
        self.shared
            .wait(within, held)
            .unwrap_or_else(|| panic!("the held pattern did not arrive within {within:?}"));
    }

    /// Forwards the held bytes and everything after them.
    pub fn release(&self) {
        self.shared.lock().hold = None;
        self.shared.changed.notify_all();
    }

    /// Ends one direction of connection `index`, as a half-closed socket does.
    pub fn half_close(&self, index: usize, way: Way) {
        let state = self.shared.lock();
        let [near, far] = &state.streams[index];
        // One side sees end-of-file; the other must not be read from either.
        let (from, to) = match way {
            Way::Forward => (near, far),
            Way::Back => (far, near),
        };
        let _ = from.shutdown(Shutdown::Read);
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Waits until `look` returns a value for the connections.
    pub fn wait<R>(
        &self,
        within: Duration,
        what: &str,
        mut look: impl FnMut(&[Link]) -> Option<R>,
    ) -> R {
        self.shared
            .wait(within, |state| look(&state.links))
            .unwrap_or_else(|| panic!("the relay did not see {what} within {within:?}"))
    }

    /// Waits until the links have been cut `cuts` times in total.
    pub fn wait_cuts(&self, cuts: usize, within: Duration) {
        self.shared
            .wait(within, |state| (state.cuts >= cuts).then_some(()))
            .unwrap_or_else(|| panic!("fewer than {cuts} cuts within {within:?}"));
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        for (index, link) in state.links.iter().enumerate() {
            let end = if link.closed { "closed" } else { "open" };
            let Link { forward, back, .. } = link;
            writeln!(
                f,
                "  link {index}: {forward} bytes forward, {back} back, {end}"
            )?;
        }
        state
            .trouble
            .iter()
            .try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("relay:\n{self}");
        }
        self.shared.over.store(true, Ordering::Release);
        self.cut();
        // Wake the accept thread.
        let _ = UnixStream::connect(self.socket());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<R>(&self, within: Duration, mut look: impl FnMut(&State) -> Option<R>) -> Option<R> {
        let end = Instant::now() + within;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            let result = self.changed.wait_timeout(state, left);
            state = result.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn connect(self: &Arc<Self>, near: UnixStream, target: &Path) {
        // Hold the lock until the connection is listed: the peer may look for it immediately.
        let mut state = self.lock();
        if state.down {
            return;
        }
        let far = match UnixStream::connect(target) {
            Ok(far) => far,
            Err(error) => {
                let line = format!("no connection to {}: {error}", target.display());
                state.trouble.push(line);
                return;
            }
        };
        let twin = |stream: &UnixStream| stream.try_clone().expect("a free descriptor");
        let index = state.links.len();
        state.links.push(Link {
            opened: Instant::now(),
            forward: 0,
            back: 0,
            head: Vec::new(),
            closed: false,
        });
        state.streams.push([twin(&near), twin(&far)]);
        let file = |end: &str| -> Option<File> {
            let prefix = state.record.as_ref()?;
            let mut name = prefix.clone().into_os_string();
            name.push(format!(".ch{index}.{end}"));
            let file = File::create(&name);
            Some(file.unwrap_or_else(|error| {
                panic!("cannot write {}: {error}", Path::new(&name).display())
            }))
        };
        let (forward, back) = (file("fwd"), file("rp"));
        drop(state);
        self.changed.notify_all();
        let (near_too, far_too, ours) = (twin(&near), twin(&far), Arc::clone(self));
        let there =
            thread::spawn(move || ours.copy(index, Way::Forward, near_too, far_too, forward));
        let ours = Arc::clone(self);
        thread::spawn(move || {
            ours.copy(index, Way::Back, far, near, back);
            let _ = there.join();
            ours.lock().links[index].closed = true;
            ours.changed.notify_all();
        });
    }

    fn copy(
        &self,
        index: usize,
        way: Way,
        mut from: UnixStream,
        mut to: UnixStream,
        mut file: Option<File>,
    ) {
        let mut piece = vec![0; 64 << 10];
        // Bytes that are held back or may start the pattern.
        let mut kept = Vec::new();
        let mut over = false;
        from.set_read_timeout(Some(HOLD))
            .expect("a socket takes the time");
        while !over {
            let read = match from.read(&mut piece) {
                Err(error) if is_late(&error) => None,
                read => Some(read.unwrap_or(0)),
            };
            let ended = read == Some(0);
            kept.extend_from_slice(&piece[..read.unwrap_or(0)]);
            while !over && !kept.is_empty() {
                // QEMU writes whole messages; without further data, the message is complete.
                let whole = ended || read.is_none();
                let through = self.pass(way, &kept, whole);
                if through == 0 {
                    break;
                }
                let bytes: Vec<u8> = kept.drain(..through).collect();
                over = !self.forward(index, way, &bytes, &mut to, file.as_mut());
            }
            if over {
                // The target is closed; tell the sending side.
                let _ = from.shutdown(Shutdown::Both);
            }
            over |= ended && kept.is_empty();
            if ended && !over {
                thread::sleep(HOLD);
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Returns how many bytes to forward now. `whole` tells that they end with a complete message.
    fn pass(&self, way: Way, bytes: &[u8], whole: bool) -> usize {
        let mut state = self.lock();
        let Some(hold) = state.hold.as_mut().filter(|hold| hold.way == way) else {
            return bytes.len();
        };
        match hold.find(bytes) {
            Found::At(0) => {
                hold.held = bytes.to_vec();
                self.changed.notify_all();
                0
            }
            Found::Perhaps(_) if whole => bytes.len(),
            Found::At(at) | Found::Perhaps(at) => at,
        }
    }

    /// Forwards a piece; returns `false` if the direction is closed.
    fn forward(
        &self,
        index: usize,
        way: Way,
        bytes: &[u8],
        to: &mut UnixStream,
        file: Option<&mut File>,
    ) -> bool {
        let (len, last) = self.admit(index, way, bytes.len());
        if let Some(file) = file {
            file.write_all(&bytes[..len])
                .expect("the record can be written");
        }
        let sent = to.write_all(&bytes[..len]);
        if sent.is_ok() {
            self.count(index, way, &bytes[..len]);
        }
        if last {
            // Cut even if the target closed first: another link's cut may have caused that.
            self.cut(&mut self.lock());
        }
        sent.is_ok() && !last
    }

    /// Returns how much of a piece to forward and whether a cut follows it; if so, all other links
    /// are already closed.
    fn admit(&self, index: usize, way: Way, len: usize) -> (usize, bool) {
        let mut state = self.lock();
        let Some(budget) = state.budget.filter(|_| way == Way::Forward) else {
            return (len, false);
        };
        let len = len.min(usize::try_from(budget).unwrap_or(usize::MAX));
        let left = budget - u64::try_from(len).expect("piece length fits in u64");
        state.budget = (left > 0).then_some(left);
        if left == 0 {
            state.sever(Some(index));
        }
        (len, left == 0)
    }

    /// Updates the statistics of a connection.
    fn count(&self, index: usize, way: Way, piece: &[u8]) {
        let mut state = self.lock();
        let link = &mut state.links[index];
        let bytes = u64::try_from(piece.len()).expect("piece length fits in u64");
        match way {
            Way::Forward => {
                let head = 16_usize.saturating_sub(link.head.len()).min(piece.len());
                link.head.extend_from_slice(&piece[..head]);
                link.forward += bytes;
            }
            Way::Back => link.back += bytes,
        }
        self.changed.notify_all();
    }

    fn cut(&self, state: &mut State) {
        state.sever(None);
        state.cuts += 1;
        state.hold = None;
        self.changed.notify_all();
    }
}

impl State {
    fn sever(&self, but: Option<usize>) {
        for (index, pair) in self.streams.iter().enumerate() {
            if but != Some(index) {
                let [near, far] = pair;
                let _ = near.shutdown(Shutdown::Both);
                let _ = far.shutdown(Shutdown::Both);
            }
        }
    }
}

/// Reads a recorded stream, by the prefix given to [`Relay::record`].
pub fn recorded(prefix: &Path, link: usize, end: &str) -> Vec<u8> {
    let mut name = prefix.to_owned().into_os_string();
    name.push(format!(".ch{link}.{end}"));
    fs::read(&name)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", Path::new(&name).display()))
}
