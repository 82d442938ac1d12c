//! What the source's loop asks of its embedder: the machine that is being sent,
//! links, and settings. The loop takes a machine's refusal for the end of the
//! migration; nothing here panics.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::RunError;
use super::{Offer, Suspicion};
use crate::Channel;
use crate::socket::{ChannelError, Link};
use crate::source::{PageSource, Source};

/// The machine that is being sent.
pub trait Machine {
    /// Its memory.
    fn pages(&self) -> &dyn PageSource;

    /// Called in every turn before the switch: here dirty pages are marked,
    /// and [`Source::switch`] is called once its time has come.
    ///
    /// # Errors
    ///
    /// The migration ends.
    fn precopy(&mut self, core: &mut Source) -> Result<(), String>;

    /// Called about ten times a second.
    fn progress(&mut self, core: &Source) {
        let _ = core;
    }

    /// The destination is not listening yet; connecting is retried for this long.
    fn waiting(&mut self, error: &ChannelError, most: Duration) {
        let _ = (error, most);
    }

    /// The destination closed the preempt channel that was configured: all pages
    /// travel on the main channel.
    fn preempt_refused(&mut self) {}

    /// The destination owes an answer for some seconds, most likely because it is
    /// configured differently. The migration keeps waiting. Called only with
    /// [`Config::probe`](crate::source::Config::probe).
    fn suspects(&mut self, suspicion: Suspicion) {
        let _ = suspicion;
    }

    /// The link broke after the switch: is it to be replaced?
    fn broken(&mut self, core: &Source, error: &RunError) -> bool {
        let _ = (core, error);
        true
    }
}

/// Opens links to the destination.
pub trait Connector {
    /// A new link for a channel.
    ///
    /// # Errors
    ///
    /// There is none to be had now. A main channel that replaces a broken one
    /// is tried again until the time is up. [`ChannelError::Interrupted`]
    /// returns to the loop, which ends if [`Control`](crate::driver::Control) says
    /// so and connects again if not: a connector that may wait for long waits
    /// with [`Address::connect_until`](crate::socket::Address::connect_until).
    fn connect(&mut self, channel: Channel) -> Result<Link, ChannelError>;
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// How long to retry the first connection while the destination does not listen;
    /// zero fails immediately.
    pub wait: Duration,
    /// Whether to open a preempt channel that the destination seems to wait for.
    /// Needs [`Config::probe`](crate::source::Config::probe).
    pub offer: Offer,
    /// How long to try to replace a broken link; zero gives up at once.
    pub retry: Duration,
    /// Most bytes that wait in the kernel to be sent on the main channel: the
    /// start of the range while pages are requested over it, growing to the
    /// end while none is. The kernel may round, and cap, what is set. More than
    /// 256 KiB made no sweep faster: the bytes leave the caches on their way.
    pub send_queue: RangeInclusive<usize>,
    /// How long nothing may move in either direction while it is the
    /// destination's turn; then the link counts as broken. Requests for pages
    /// that have been sent move nothing. None by default: the destination's user
    /// may have paused it, for as long as he likes.
    pub stall: Option<Duration>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            wait: Duration::ZERO,
            offer: Offer::Never,
            retry: Duration::from_secs(60),
            send_queue: 64 << 10..=256 << 10,
            stall: None,
        }
    }
}
