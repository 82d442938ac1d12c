//! What every test has in common: limits, and an end.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::ALLOCATED;

/// Most bytes that both sides of a test may allocate together. What one
/// migration takes in peace is about 3 MB, most of it for percentiles; guest
/// memory is mapped, and does not count.
pub(crate) const CAP: usize = 16 << 20;

/// How long a test may take: a hundred times what it takes, and more.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// One test at a time: the allocator counts for all of them.
pub(crate) struct Trial {
    before: usize,
    done: Option<Sender<()>>,
    _turn: MutexGuard<'static, ()>,
}

impl Trial {
    /// Begins a test.
    pub(crate) fn new(name: &'static str) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        ALLOCATED.reset_peak_usage();
        let (done, wait) = channel();
        thread::spawn(move || {
            if wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name}: something hangs: not over after {LIMIT:?}");
                std::process::exit(1);
            }
        });
        Self {
            before: ALLOCATED.current_usage(),
            done: Some(done),
            _turn: turn,
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        drop(self.done.take());
        if thread::panicking() {
            return;
        }
        let peak = ALLOCATED.peak_usage().saturating_sub(self.before);
        println!("{peak} bytes allocated at most, {CAP} allowed");
        assert!(peak > 1 << 16, "{peak}: nothing was counted");
        assert!(peak < CAP, "{peak} bytes, but {CAP} are allowed");
    }
}
