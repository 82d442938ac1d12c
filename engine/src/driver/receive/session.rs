//! One migration apart from its connections: events of the stream go to the embedder, the
//! core and guest memory.

use retpath_codec::forward::Event;
use retpath_codec::forward::ram::Record;

use super::super::{Clock, RunError};
use super::accept::Acceptor;
use super::memory::GuestMemory;
use super::{Content, DestinationHandler};
use crate::Channel;
use crate::blocks::BlockId;
use crate::destination::deadlines::{self, Deadlines};
use crate::destination::pending::Wanted;
use crate::destination::{Action, Destination, Placement};
use crate::socket::Link;

/// SHUT(0), which tells the source that everything is here.
pub(super) enum Shut {
    /// Pages or device state are missing.
    NotDue,
    /// It has not been written.
    Due {
        /// Why it could not be.
        error: Option<RunError>,
    },
    /// It has been written, or there is no return path.
    Sent,
}

impl Shut {
    /// Records why it cannot be written; the source may reconnect for it.
    pub(super) fn failed(&mut self, why: RunError) {
        if let Self::Due { error } = self {
            error.get_or_insert(why);
        }
    }
}

pub(super) struct Session<'a> {
    pub(super) core: Destination,
    pub(super) handler: &'a mut dyn DestinationHandler,
    pub(super) acceptor: Acceptor<'a>,
    pub(super) memory: GuestMemory,
    /// Bytes of the core's outbox that have been written.
    pub(super) sent: usize,
    pub(super) deadlines: Deadlines,
    pub(super) shut: Shut,
    pub(super) clock: Clock<'a>,
    /// Whether a page with data has come.
    pub(super) has_data: bool,
}

impl Session<'_> {
    /// Handles an event of the stream.
    pub(super) fn event(
        &mut self,
        channel: Channel,
        event: Event<'_>,
        now: u64,
    ) -> Result<(), RunError> {
        let is_record = matches!(event, Event::Record(_));
        if channel == Channel::Main {
            self.show(&event)?;
        }
        let Some(pages) = self.core.event(channel, event, now)? else {
            // Records other than pages lead to no actions.
            return if is_record { Ok(()) } else { self.act() };
        };
        self.has_data |= matches!(pages.content, Content::Data(_));
        let present = store(self.handler, &self.memory, &pages)?;
        let span = pages.span();
        if pages.atomic {
            let now = self.clock.now();
            self.core.placed(channel, span, present, now)?;
        }
        Ok(())
    }

    /// Handles neighbouring pages that the decoder has not seen.
    pub(super) fn pages(
        &mut self,
        channel: Channel,
        (block, offset): (BlockId, u64),
        data: &[u8],
        now: u64,
    ) -> Result<(), RunError> {
        let pages = Placement {
            block,
            offset,
            content: Content::Data(data),
            atomic: true,
        };
        self.core.run_of_pages(channel, pages.span(), now)?;
        let present = store(self.handler, &self.memory, &pages)?;
        let now = self.clock.now();
        self.core.placed(channel, pages.span(), present, now)?;
        Ok(())
    }

    /// Shows an event to the embedder.
    fn show(&mut self, event: &Event<'_>) -> Result<(), RunError> {
        match event {
            Event::Record(Record::Page { .. } | Record::Zero { .. } | Record::Eos) => return Ok(()),
            Event::Eof => self.before_end()?,
            _ => {}
        }
        self.handler.event(event).map_err(RunError::Handler)?;
        match *event {
            Event::Configuration { machine } => self.handler.machine(machine),
            Event::DeviceState { bytes, .. } => {
                self.handler
                    .device_state(bytes)
                    .map_err(RunError::Handler)?;
            }
            Event::DescriptionBytes(bytes) => {
                self.handler.description(bytes).map_err(RunError::Handler)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Accepts connections.
    pub(super) fn admit(&mut self) {
        self.acceptor.admit(self.clock.now(), self.handler);
    }

    /// Looks at what has arrived on the pending connections.
    pub(super) fn look(&mut self) {
        self.acceptor.look(|why| self.handler.refused(why));
    }

    /// Takes the wanted connection, if it is among the pending ones.
    pub(super) fn take(&mut self) -> Option<Link> {
        let refused = |why| self.handler.refused(&why);
        self.acceptor.pending.take(&self.core, refused)
    }

    /// Whether a pending connection may become the preempt channel. Before LISTEN its
    /// pages cannot be placed.
    pub(super) fn looks_for_preempt(&self) -> bool {
        self.acceptor.pending.wanted() == Wanted::Preempt && self.core.is_listening()
    }

    /// Whether no connection is left that could deliver what the main channel, which has
    /// ended, has not.
    pub(super) fn lacks_preempt(&mut self) -> bool {
        if !self.looks_for_preempt() {
            return false;
        }
        if self.acceptor.retry.is_some() {
            self.admit();
        }
        if self.acceptor.pending.drop_ended(&self.core) {
            self.handler.preempt();
        }
        // One may still wait to be accepted.
        self.acceptor.pending.is_empty() && self.acceptor.retry.is_none()
    }

    /// Handles the end of the main stream: without a second connection, missing pages
    /// will not arrive.
    fn before_end(&mut self) -> Result<(), RunError> {
        if self.looks_for_preempt() || !self.has_data {
            self.admit();
        }
        if self.seems_multifd() {
            return Err(RunError::Multifd);
        }
        if self.lacks_preempt() {
            self.core.end_of_stream(Channel::Preempt)?;
        }
        Ok(())
    }

    /// Whether the pages seem to travel on multifd channels. Before QEMU 8.1 the main
    /// channel need not show that, and a precopy migration would seem complete with its
    /// pages missing.
    ///
    /// A connection that only begins like a multifd channel says nothing once a page with
    /// data has come on the main channel: with multifd, there is none.
    pub(super) fn seems_multifd(&self) -> bool {
        let is_possible = self.core.phase().is_precopy() && !self.has_data;
        is_possible && self.acceptor.pending.has_multifd()
    }

    /// Requests the pages of faults: those that the embedder trapped, and with `trapped`
    /// those that userfaultfd did. Returns whether there were any.
    pub(super) fn faults(&mut self, trapped: bool) -> Result<bool, RunError> {
        let mut any = trapped;
        if trapped {
            let now = self.clock.now();
            self.memory.faults(&mut self.core, now)?;
        }
        while let Some((block, offset)) = self.handler.fault() {
            self.core.fault(block, offset, self.clock.now())?;
            any = true;
        }
        Ok(any)
    }

    /// Carries out the core's actions.
    pub(super) fn act(&mut self) -> Result<(), RunError> {
        while let Some(action) = self.core.poll() {
            match action {
                Action::Block { id } => self.memory.add(id, self.core.blocks(), self.handler)?,
                Action::Discard(span) => self.memory.discard(span)?,
                Action::Listen => {
                    let policy = self.handler.failure_policy();
                    self.memory.trap(self.core.blocks(), policy)?;
                }
                Action::Run => self.handler.run(),
                Action::DeviceStateComplete => {
                    self.handler
                        .device_state_complete()
                        .map_err(RunError::Handler)?;
                    self.core.device_state_saved()?;
                }
                Action::Complete(ending) => {
                    self.memory.release()?;
                    self.handler
                        .complete(&self.core, ending)
                        .map_err(RunError::Handler)?;
                    self.core.confirm()?;
                }
                Action::Finished(ending) => {
                    let now = self.clock.now();
                    self.deadlines
                        .handle(now, deadlines::Event::Finished(ending));
                    self.shut = Shut::Due { error: None };
                }
            }
        }
        Ok(())
    }
}

/// Stores pages with the embedder and in guest memory. Returns how many bytes of them were
/// present in guest memory before.
fn store(
    handler: &mut dyn DestinationHandler,
    memory: &GuestMemory,
    pages: &Placement<'_>,
) -> Result<u64, RunError> {
    handler
        .page(pages.block, pages.offset, pages.content)
        .map_err(RunError::Handler)?;
    memory.store(pages)
}
