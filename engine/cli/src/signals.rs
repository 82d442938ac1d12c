//! Signals that ask a command to end, and signals that must not end it.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGINT, SIGTERM, SIGQUIT | the first one asks the command to end, a second one ends it at once |
//! | SIGHUP | asks the command to end, however often it comes |
//! | SIGXFSZ | nothing: the write past the limit fails, as on a full disk |
//! | SIGPIPE | nothing: Rust's runtime ignores it, and the write fails |
//! | SIGTSTP, SIGCONT | stop and continue the process; a guest that waits for a page keeps waiting |
//!
//! SIGHUP never ends a command at once because one event sends it several times: a terminal that is
//! closed signals the shell, which signals its jobs, and then the foreground job. A service manager
//! sends it beside SIGTERM.
//!
//! A signal that is ignored when the command starts stays ignored: `nohup` ignores SIGHUP, and a
//! shell script ignores SIGINT and SIGQUIT for its background jobs.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// Whether a signal has asked the command to end.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    came: Arc<AtomicBool>,
    /// Readable once a signal has.
    wake: Arc<UnixStream>,
}

impl Signals {
    /// Handles signals from now on.
    pub(crate) fn new() -> io::Result<Self> {
        fail_writes_past_the_file_size_limit()?;
        let came = Arc::new(AtomicBool::new(false));
        let next_ends = Arc::new(AtomicBool::new(false));
        let (wake, waker) = UnixStream::pair()?;
        let ignored = Ignored::now();
        let asking = [SIGINT, SIGTERM, SIGQUIT, SIGHUP];
        for signal in asking.into_iter().filter(|one| !ignored.contains(*one)) {
            if signal != SIGHUP {
                // In this order: the first signal finds the flag down.
                flag::register_conditional_default(signal, Arc::clone(&next_ends))?;
                flag::register(signal, Arc::clone(&next_ends))?;
            }
            flag::register(signal, Arc::clone(&came))?;
            pipe::register(signal, waker.try_clone()?)?;
        }
        let wake = Arc::new(wake);
        Ok(Self { came, wake })
    }

    /// Whether the command has been asked to end.
    pub(crate) fn came(&self) -> bool {
        self.came.load(Ordering::Acquire)
    }

    /// Waits until `fd` is readable or the command is asked to end; returns whether it is readable.
    pub(crate) fn wait_readable(&self, fd: impl AsFd) -> io::Result<bool> {
        while !self.came() {
            let mut fds = [
                PollFd::new(&fd, PollFlags::IN),
                PollFd::new(&self.wake, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) if !fds[0].revents().is_empty() => return Ok(true),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// Makes a write past the limit on file sizes fail; by default it ends the process.
pub(crate) fn fail_writes_past_the_file_size_limit() -> io::Result<()> {
    if !Ignored::now().contains(SIGXFSZ) {
        flag::register(SIGXFSZ, Arc::default())?;
    }
    Ok(())
}

/// The signals that the process ignores, as the kernel's mask: bit 0 is signal 1.
#[derive(Clone, Copy, Debug)]
struct Ignored(u64);

impl Ignored {
    /// The signals ignored now; none if the kernel does not tell.
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self(mask(&status).unwrap_or(0))
    }

    fn contains(self, signal: i32) -> bool {
        self.0 >> (signal - 1) & 1 != 0
    }
}

fn mask(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_mask_of_ignored_signals() {
        let status = "Name:\tretpath\nSigBlk:\t0\nSigIgn:\t0000000000001003\nSigCgt:\t0\n";
        let ignored = Ignored(mask(status).expect("a mask"));
        for (signal, is) in [(SIGHUP, true), (SIGINT, true), (13, true), (SIGTERM, false)] {
            assert_eq!(ignored.contains(signal), is, "{signal}");
        }
        assert_eq!(mask("Name:\tretpath\n"), None);
    }

    #[test]
    fn distinguishes_a_readable_descriptor_from_a_signal() {
        let signals = Signals::new().expect("signals");
        let (near, far) = UnixStream::pair().expect("a pair");
        drop(far);
        assert!(signals.wait_readable(&near).expect("an end"));
        let (near, _far) = UnixStream::pair().expect("a pair");
        signals.came.store(true, Ordering::Release);
        assert!(!signals.wait_readable(&near).expect("no error"));
    }
}
