//! Ctrl-C and SIGTERM: the first one asks for a clean end, the second one ends the process.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// Calls `asked` on a thread of its own when the first signal comes.
///
/// # Errors
/// The signals cannot be caught, or the system has no descriptor or thread left.
pub(super) fn on_interrupt(asked: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal arms what the second one finds.
        flag::register_conditional_default(signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
        low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    let wait = move || {
        if ours.read_exact(&mut [0]).is_ok() {
            asked();
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}
