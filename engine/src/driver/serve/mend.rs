//! A broken link, and the one that takes its place. The errors are those that
//! no new link mends, and that none could be had in time.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::super::{Control, RunError, Waiting};
use super::{Serving, connect};
use crate::Channel;
use crate::source::{Error, Phase};

/// How long to wait before an attempt to connect again.
const PAUSE: Duration = Duration::from_millis(50);

/// Most reads of what came before a link broke: more than sockets hold.
const LAST_READS: usize = 4096;

/// How long SHUT may take when everything has been sent and a link is closed.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How long a destination may take to close a link that it does not want.
const GRACE: Duration = Duration::from_millis(250);

/// A time without a link over which the migration goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    /// How often the migration had gone on before.
    resumes: u64,
    /// When to give up.
    deadline: Instant,
}

impl Serving<'_> {
    /// Replaces the links after an error that a new link can mend; gives any
    /// other error back.
    pub(super) fn mend(&mut self, error: RunError) -> Result<(), RunError> {
        let error = self.last_words(error);
        if self.core.phase() == Phase::Completed {
            return Ok(());
        }
        let mendable = match &error {
            RunError::Source(Error::GaveUp { .. }) => false,
            RunError::Source(_) | RunError::Channel(_) => true,
            other => other.is_link(),
        };
        let lost = self.core.link_lost();
        for out in self.main.take().into_iter().chain(self.preempt.take()) {
            out.link.shut_down();
        }
        if !mendable || lost.is_err() || self.core.phase() != Phase::Paused {
            return Err(error);
        }
        let resumes = self.core.stats().resumes;
        let known = self.outage.filter(|outage| outage.resumes == resumes);
        if known.is_none() && !self.machine.broken(self.core, &error) {
            return Err(error);
        }
        // If the last link was of no use, it is still the same outage.
        let outage = *self.outage.insert(known.unwrap_or_else(|| Outage {
            resumes,
            deadline: Instant::now() + self.options.retry,
        }));
        let mut tried = known.is_some();
        loop {
            if tried && Instant::now() >= outage.deadline {
                let seconds = self.options.retry.as_secs();
                return Err(RunError::Abandoned {
                    seconds,
                    cause: Some(Box::new(error)),
                });
            }
            // The other side must notice the end of the old link first: until
            // then a QEMU turns new ones away.
            sleep(self.control, PAUSE)?;
            tried = true;
            match connect(self.connector, self.control, Channel::Main) {
                Ok(link) => {
                    self.open(link);
                    return Ok(self.core.resume()?);
                }
                Err(RunError::Stopped) => return Err(RunError::Stopped),
                Err(_) => {}
            }
        }
    }

    /// A destination closes when it has said its last word. Whoever is still
    /// writing then finds a broken link, but the word is there to be read. QEMU
    /// closes the preempt channel before it sends SHUT on the main one, so that
    /// the end mark of an early one may find it closed: SHUT is on its way.
    fn last_words(&mut self, error: RunError) -> RunError {
        if !matches!(error, RunError::Link { .. }) {
            return error;
        }
        let until = Instant::now() + LAST_WORD;
        for _ in 0..LAST_READS {
            match self.return_path() {
                Ok(true) if self.core.phase() != Phase::Completed => {}
                Err(RunError::Source(why)) => return why.into(),
                Ok(false) if self.core.phase() == Phase::Completing && self.hears_by(until) => {}
                _ => break,
            }
        }
        error
    }

    /// Waits for something to read on the main link; says whether there is.
    fn hears_by(&self, until: Instant) -> bool {
        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        let link = self.main.as_ref().map(|out| out.link.as_fd());
        let back = waiting.add(link, PollFlags::IN);
        let left = until.saturating_duration_since(Instant::now());
        waiting.wait(left).is_ok() && waiting.readable(back) && !waiting.readable(control)
    }

    /// Makes sure, as far as it can be, that the destination keeps the new main
    /// link before another one is made. One that has not noticed the end of the
    /// old link closes the new one at once; then it would take the next
    /// connection, which is meant for urgent pages, for the main one.
    pub(super) fn prove_main(&mut self) -> Result<(), RunError> {
        if self.core.phase() != Phase::Recovering || self.heard {
            return Ok(());
        }
        let mut waiting = Waiting::new();
        let link = self.main.as_ref().map(|out| out.link.as_fd());
        let back = waiting.add(link, PollFlags::IN);
        waiting.wait(GRACE)?;
        if waiting.readable(back) {
            self.return_path()?;
        }
        Ok(())
    }
}

/// Sleeps, unless the loop is to stop.
pub(super) fn sleep(control: &Control, time: Duration) -> Result<(), RunError> {
    let mut waiting = Waiting::new();
    let control_fd = waiting.add(Some(control.as_fd()), PollFlags::IN);
    waiting.wait(time)?;
    if waiting.readable(control_fd) && control.take().stop {
        return Err(RunError::Stopped);
    }
    Ok(())
}
