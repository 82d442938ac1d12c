//! SIGINT and SIGTERM: the first one asks a command to end, a second one ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has come.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    came: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn new() -> io::Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down.
            flag::register_conditional_default(signal, Arc::clone(&came))?;
            flag::register(signal, Arc::clone(&came))?;
        }
        Ok(Self { came })
    }

    /// Whether the command has been asked to end.
    pub(super) fn came(&self) -> bool {
        self.came.load(Ordering::Acquire)
    }
}
