//! The command under attack, and what it costs.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use retpath_support::SOON;
use retpath_support::program::Program;
use tempfile::TempDir;

/// Memory of `receive` and `serve` for anything that is not a page of a small guest, with the
/// program's own code.
pub(crate) const MEMORY: u64 = 32 << 20;

/// Space for the metadata of a file or folder.
const FILE: u64 = 64 << 10;

/// Names the build to attack, instead of the one under test.
fn other_build() -> Option<PathBuf> {
    std::env::var_os("RETPATH_ATTACKED").map(PathBuf::from)
}

/// The most that was seen of each resource.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    pub(crate) descriptors: usize,
    /// In clock ticks.
    cpu: u64,
}

impl Cost {
    fn sample(&mut self, process: u32) {
        let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}"));
        let status = read("status").unwrap_or_default();
        let peak = status.lines().find_map(|line| {
            let kib = line.strip_prefix("VmHWM:")?;
            kib.split_whitespace().next()?.parse::<u64>().ok()
        });
        self.memory = self.memory.max(peak.unwrap_or_default() << 10);
        // The name in parentheses is the second field; user and system time are 14 and 15.
        let stat = read("stat").unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        self.cpu = self.cpu.max(ticks);
        let open = fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        self.descriptors = self.descriptors.max(open);
    }
}

/// Bytes on disk below a folder.
fn disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// A running command that is watched in a folder of its own.
pub(crate) struct Attacked {
    program: Program,
    folder: TempDir,
    cost: Arc<Mutex<Cost>>,
    over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Attacked {
    /// Starts the command in a folder.
    fn start(folder: TempDir, args: &[&str]) -> Self {
        let program = other_build().unwrap_or_else(retpath_support::retpath);
        let mut command = Command::new(program);
        command.args(args);
        let program = Program::spawn(command);
        let (cost, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let watcher = watch(&program, &folder, &cost, &over);
        Self {
            program,
            folder,
            cost,
            over,
            watcher: Some(watcher),
        }
    }

    /// Starts `receive`, and waits until it listens.
    pub(crate) fn receive(more: &[&str]) -> Self {
        Self::receive_in(tempfile::tempdir().expect("a folder"), more)
    }

    /// Starts `receive` in a folder, and waits until it listens.
    pub(crate) fn receive_in(folder: TempDir, more: &[&str]) -> Self {
        let uri = format!("unix:{}", folder.path().join("in").display());
        let out = folder.path().join("image");
        let out = out.to_str().expect("paths of tests are text");
        let args = [&["receive", "--listen", &uri, "--out", out], more].concat();
        let attacked = Self::start(folder, &args);
        attacked.wait_error(SOON, |line| line.contains("listening on").then_some(()));
        // It may end at once.
        let cost = attacked.cost();
        *attacked.cost.lock().unwrap_or_else(PoisonError::into_inner) = cost;
        attacked
    }

    /// Starts `serve` of an image that the folder holds.
    pub(crate) fn serve(folder: TempDir, image: &Path, to: &Path) -> Self {
        let uri = format!("unix:{}", to.display());
        let image = image.to_str().expect("paths of tests are text");
        Self::start(folder, &["serve", "--image", image, "--connect", &uri])
    }

    /// Connects to the listening command.
    pub(crate) fn connect(&self) -> UnixStream {
        let socket = UnixStream::connect(self.socket()).expect("it listens");
        limited(socket)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("in")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Returns the cost up to now.
    pub(crate) fn cost(&self) -> Cost {
        let mut cost = *self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        cost.sample(self.program.id());
        cost.disk = cost.disk.max(disk(self.folder.path()));
        cost
    }

    /// Prints the cost of an attack, and holds it to caps of memory and disk space.
    pub(crate) fn account(&self, name: &str, sent: usize, memory: u64, files: u64) -> Cost {
        let cost = self.cost();
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let mut line = format!("attack: {name} sent {} MiB, ", sent.div_ceil(1 << 20));
        let (peak, space) = (mib(cost.memory), mib(cost.disk));
        let ticks = rustix::param::clock_ticks_per_second();
        let seconds = cost.cpu as f64 / ticks as f64;
        write!(
            line,
            "peak memory {peak} MiB, disk {space} MiB, CPU {seconds:.1} s"
        )
        .expect("a string");
        println!("{line}");
        if other_build().is_none() {
            assert!(cost.memory > 0, "no memory was measured");
            assert!(cost.memory <= memory, "{line}: more than {memory} bytes");
            let space = files + 16 * FILE;
            assert!(cost.disk <= space, "{line}: more than {space} bytes");
        }
        cost
    }

    /// Whether the command is the one under test.
    pub(crate) fn is_current() -> bool {
        other_build().is_none()
    }
}

impl Deref for Attacked {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Attacked {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

impl Drop for Attacked {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

/// Watches a process until `over`. VmHWM is a peak already, but is gone once the process has ended.
fn watch(
    program: &Program,
    folder: &TempDir,
    cost: &Arc<Mutex<Cost>>,
    over: &Arc<AtomicBool>,
) -> JoinHandle<()> {
    let (process, folder) = (program.id(), folder.path().to_owned());
    let (cost, over) = (Arc::clone(cost), Arc::clone(over));
    thread::spawn(move || {
        for round in 0_u64.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            // Thousands of files take a while.
            let space = if round % 20 == 0 { disk(&folder) } else { 0 };
            let mut cost = cost.lock().unwrap_or_else(PoisonError::into_inner);
            cost.sample(process);
            cost.disk = cost.disk.max(space);
            drop(cost);
            thread::sleep(Duration::from_millis(10));
        }
    })
}

/// A socket whose operations end.
pub(crate) fn limited(socket: UnixStream) -> UnixStream {
    socket.set_read_timeout(Some(SOON)).expect("a limit");
    socket.set_write_timeout(Some(SOON)).expect("a limit");
    socket
}

/// Writes `piece` until `total` bytes are sent, and returns how many were. Ends early only if the
/// peer closes.
pub(crate) fn flood(socket: &mut UnixStream, piece: &[u8], total: usize) -> usize {
    let mut sent = 0;
    while sent < total {
        let rest = &piece[sent % piece.len()..];
        match socket.write(&rest[..rest.len().min(total - sent)]) {
            Ok(size) => sent += size,
            Err(error) => {
                let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(closed.contains(&error.kind()), "the command hangs: {error}");
                break;
            }
        }
    }
    sent
}
