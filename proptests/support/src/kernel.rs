//! Helpers for tests that use the kernel's userfaultfd.

#![allow(dead_code)] // each test program uses a part

use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use retpath_engine::memory::{Backing, Memory};
use retpath_engine::uffd::{Fault, Handler, Uffd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};

/// Opens a userfaultfd, and panics with the reason if it is unavailable.
pub fn open() -> Uffd {
    Uffd::open().unwrap_or_else(|error| panic!("these tests need userfaultfd: {error}"))
}

/// Maps memory without transparent huge pages, so that only written pages are present.
pub fn memory(backing: Backing, len: u64) -> Arc<Memory> {
    let memory = Memory::new(backing, len).unwrap();
    memory.nohugepage().unwrap();
    Arc::new(memory)
}

/// Returns `count` pages whose bytes depend on the page and the offset in it.
pub fn pages(count: u64, page_size: u64) -> Vec<u8> {
    let page = |n: u64| (0..page_size).map(move |i| (n * 31 + i / 8 + i) as u8 | 1);
    (0..count).flat_map(page).collect()
}

/// Reads all bytes of a range.
pub fn contents(memory: &Memory, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    memory.read(offset, &mut bytes).unwrap();
    bytes
}

/// Waits for faults.
pub fn next(handler: &mut Handler) -> Vec<Fault> {
    loop {
        poll(&mut [PollFd::new(&*handler, PollFlags::IN)], None).unwrap();
        let faults = handler.faults().unwrap();
        if !faults.is_empty() {
            return faults.to_vec();
        }
    }
}

/// Starts a thread that reads one byte of the memory and returns it.
pub fn toucher(memory: &Arc<Memory>, offset: u64) -> thread::JoinHandle<u8> {
    let memory = Arc::clone(memory);
    thread::spawn(move || memory.touch(offset).unwrap())
}

/// Huge pages reserved for one test; dropping it restores the pool size. A lock serializes users
/// across all test programs on this machine.
pub struct Pool {
    path: String,
    before: u64,
    _turn: (MutexGuard<'static, ()>, File),
}

impl Pool {
    /// Ensures that `pages` are free; reports the gap and returns `None` if that is impossible.
    pub fn reserve(backing: Backing, pages: u64) -> Option<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let kib = backing.page_size() >> 10;
        let folder = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB");
        let read = |name: &str| -> Option<u64> {
            fs::read_to_string(format!("{folder}/{name}"))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        let skip = |why: &str| {
            // Write to stderr directly, because the test runner hides eprintln! in passing tests.
            let _ = writeln!(
                io::stderr(),
                "NOT TESTED: {pages} huge pages of {kib} KiB: {why}"
            );
            None
        };
        let path = format!("{folder}/nr_hugepages");
        let Ok(file) = File::open(&path) else {
            return skip("this kernel has none of that size");
        };
        if let Err(error) = flock(&file, FlockOperation::LockExclusive) {
            return skip(&format!("locking {path}: {error}"));
        }
        let (Some(before), Some(free)) = (read("nr_hugepages"), read("free_hugepages")) else {
            return skip("the kernel does not report their number");
        };
        if free < pages {
            let wanted = before + pages - free;
            if let Err(error) = fs::write(&path, wanted.to_string()) {
                return skip(&format!("echo {wanted} | sudo tee {path} (here: {error})"));
            }
        }
        let pool = Self {
            path,
            before,
            _turn: (turn, file),
        };
        match read("free_hugepages") {
            Some(free) if free >= pages => Some(pool),
            _ => skip("memory is too fragmented or too small"),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, self.before.to_string());
    }
}
