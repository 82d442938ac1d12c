//! What the source's loop asks of its embedder: the memory and state of the machine, new
//! links, and options.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::{HandlerError, RunError};
use crate::Channel;
use crate::socket::{ChannelError, Link};
use crate::source::{Offer, PageSource, Source, Suspicion};

/// The machine that is being migrated. Any refusal ends the migration.
pub trait SourceHandler {
    /// Its memory.
    fn pages(&self) -> &dyn PageSource;

    /// Called in every turn of [precopy](crate::source::SourcePhase::Precopy). Mark dirty pages
    /// here, and call [`Source::switch`] when its time has come; it is possible in every
    /// call.
    ///
    /// # Errors
    ///
    /// The migration ends.
    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError>;

    /// Called about ten times a second.
    fn progress(&mut self, core: &Source) {
        let _ = core;
    }

    /// The destination does not listen yet; connecting is retried for up to `most`.
    fn waiting(&mut self, error: &ChannelError, most: Duration) {
        let _ = (error, most);
    }

    /// The destination closed the preempt channel before anything was sent on it: all
    /// pages travel on the main channel. Most likely its capability `postcopy-preempt`
    /// is off; the link may also be breaking.
    fn preempt_refused(&mut self) {}

    /// The destination has owed an answer for some seconds, most likely because it is
    /// configured differently. The migration keeps waiting. Called only with
    /// [`Config::probe`](crate::source::Config::probe).
    fn suspects(&mut self, suspicion: Suspicion) {
        let _ = suspicion;
    }

    /// The link broke after the switch. Returns whether to replace it.
    fn broken(&mut self, core: &Source, error: &RunError) -> bool {
        let _ = (core, error);
        true
    }
}

/// Opens links to the destination.
pub trait Connector {
    /// Opens a new link for a channel.
    ///
    /// # Errors
    ///
    /// No link can be opened now. A main channel that replaces a broken one is tried
    /// again until [`ServeOptions::reconnect_timeout`]. After
    /// [`ChannelError::Interrupted`] the loop ends if
    /// [`Control`](crate::driver::Control) says so, and connects again if not: a connector
    /// that may wait for long waits with
    /// [`Address::connect_until`](crate::socket::Address::connect_until).
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError>;
}

impl<F: FnMut(Channel) -> Result<Link, ChannelError>> Connector for F {
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError> {
        self(channel)
    }
}

/// How to serve.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// How long to retry the first connection while the destination does not listen;
    /// zero fails immediately.
    pub connect_timeout: Duration,
    /// How long the loop looks for another request without sleeping, while the last ones
    /// followed each other within this time: the next one is then served without waking a
    /// thread, and costs up to one CPU meanwhile. Other threads that need the CPU get it.
    /// Zero always sleeps.
    pub busy_poll: Duration,
    /// Whether to open a preempt channel that the destination seems to wait for.
    /// Needs [`Config::probe`](crate::source::Config::probe).
    pub offer: Offer,
    /// How long to try to replace a broken link; at zero there is one attempt.
    pub reconnect_timeout: Duration,
    /// Most bytes that wait in the kernel to be sent on the main channel: the start of
    /// the range while pages are requested, growing to the end while none are.
    /// The kernel may round and cap it. Measured: more than 256 KiB made no sweep
    /// faster, because the bytes leave the caches before they are read.
    pub send_queue: RangeInclusive<usize>,
    /// How long nothing may move in either direction while it is the destination's
    /// turn; then the link counts as broken. Requests for pages that have been sent and
    /// repeated PONGs do not count, nor does reading less than 4 KiB in that time. None by
    /// default: the destination's user may have paused it. A TCP peer that is gone is found
    /// without it, see [`socket`](crate::socket).
    pub stall_timeout: Option<Duration>,
}

setters!(ServeOptions {
    busy_poll: Duration, connect_timeout: Duration, offer: Offer, reconnect_timeout: Duration,
    send_queue: RangeInclusive<usize>, stall_timeout: Option<Duration>,
});

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            busy_poll: Duration::from_micros(200),
            connect_timeout: Duration::ZERO,
            offer: Offer::Never,
            reconnect_timeout: Duration::from_secs(60),
            send_queue: 64 << 10..=256 << 10,
            stall_timeout: None,
        }
    }
}
