//! Memory and time limits of every test.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::ALLOCATED;

/// Maximum number of bytes that both sides of a test may allocate together. An undisturbed
/// migration allocates about 3 MB, most of it for percentiles; guest memory is mapped and not
/// counted.
pub(crate) const CAP: usize = 16 << 20;

/// Time limit of a test, more than a hundred times its usual duration.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A running test. Tests run one at a time, because the allocator counts for the whole process.
pub(crate) struct Trial {
    before: usize,
    done: Option<Sender<()>>,
    _turn: MutexGuard<'static, ()>,
}

impl Trial {
    /// Starts a test.
    pub(crate) fn new(name: &'static str) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        ALLOCATED.reset_peak_usage();
        let (done, wait) = channel();
        thread::spawn(move || {
            if wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name}: hangs: not finished after {LIMIT:?}");
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
