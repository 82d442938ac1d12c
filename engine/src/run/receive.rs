//! The destination's loop: links and userfaultfd on one side, the destination
//! core on the other.
//!
//! One thread serves everything. What is urgent comes first in every turn:
//! faults, then the preempt channel, then at most one read's worth of the main
//! channel. The loop blocks only in poll(2).
//!
//! Errors end the migration with everything received still in memory; a broken
//! link in postcopy does not, it is waited for until the migration is
//! recovered over a new one.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retpath_codec::BlockName;
use retpath_codec::forward::{self, Decoder, Event, Step};
use rustix::event::PollFlags;

use super::buffer::{Inbox, Outbox};
use super::{Clock, Control, RunError, Waiting};
use crate::Channel;
use crate::blocks::{Block, BlockError, BlockId};
use crate::channel::{Link, Listener, Moved};
use crate::destination::{self, Action, Destination, Ending, Fault, Phase, Placed, Placement};
use crate::memory::Memory;
use crate::uffd::{self, Handler, Region, Uffd};

/// The machine that is being received.
pub trait Guest {
    /// Memory for a RAM block, `block.len` bytes that read as zero. Called
    /// once for each block, in order.
    ///
    /// # Errors
    ///
    /// There is none to be had: the migration fails.
    fn memory(&mut self, block: &Block) -> Result<Arc<Memory>, String>;

    /// Device state, in pieces.
    ///
    /// # Errors
    ///
    /// It cannot be kept: the migration fails.
    fn device_state(&mut self, bytes: &[u8]) -> Result<(), String> {
        let _ = bytes;
        Ok(())
    }

    /// All device state is there. Once this returns, the source is told that
    /// it must not run the guest again.
    ///
    /// # Errors
    ///
    /// It cannot be kept: the migration fails.
    fn device_state_complete(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// The description of the device state (JSON), in pieces.
    ///
    /// # Errors
    ///
    /// It cannot be kept: the migration fails.
    fn description(&mut self, bytes: &[u8]) -> Result<(), String> {
        let _ = bytes;
        Ok(())
    }

    /// The machine type that the stream names.
    fn machine(&mut self, name: &[u8]) {
        let _ = name;
    }

    /// The guest may run: its memory is served from now on.
    fn run(&mut self) {}

    /// Called about ten times a second.
    fn progress(&mut self, core: &Destination) {
        let _ = core;
    }

    /// The migration has failed while memory is incomplete. `true` if nobody
    /// can be waiting for a missing page; otherwise the process is aborted,
    /// since waiters would hang for ever or read zeros.
    fn failed(&mut self, error: &RunError) -> bool {
        let _ = error;
        false
    }
}

/// How to receive.
#[derive(Debug)]
pub struct ReceiveOptions {
    /// The core's.
    pub core: destination::Config,
    /// The decoder's.
    pub stream: forward::Options,
    /// How long to wait for a new link when one breaks.
    pub patience: Duration,
}

/// Receives one migration.
///
/// # Errors
///
/// The peer broke the protocol, the machine lacks something, the link stayed
/// broken, or `control` stopped the loop.
pub fn receive(
    listener: &mut Listener,
    guest: &mut dyn Guest,
    options: ReceiveOptions,
    control: &Control,
) -> Result<Destination, RunError> {
    let mut receiving = Receiving::new(listener, guest, options, control);
    match receiving.serve() {
        Ok(()) => receiving.finish(),
        Err(error) => {
            let release = receiving.guest.failed(&error);
            receiving.abandon(release);
            Err(error)
        }
    }
}

/// How long a migration that was broken before waits at its end for a source
/// that has not seen SHUT.
const LINGER: Duration = Duration::from_secs(1);

/// One connection from the source.
struct Inbound {
    link: Link,
    decoder: Decoder,
    inbox: Inbox,
    /// Bytes that the decoder still needs.
    need: usize,
}

impl Inbound {
    fn new(link: Link, decoder: Decoder) -> Self {
        Self {
            link,
            decoder,
            inbox: Inbox::new(),
            need: 0,
        }
    }
}

struct Receiving<'a> {
    core: Destination,
    listener: &'a mut Listener,
    guest: &'a mut dyn Guest,
    control: &'a Control,
    options: ReceiveOptions,
    main: Option<Inbound>,
    preempt: Option<Inbound>,
    /// A second connection that came before it could be read.
    waiting: Option<Link>,
    outbox: Outbox,
    memories: Vec<Arc<Memory>>,
    trap: Option<Trap>,
    /// The main decoder of the last link: what a new link goes on from.
    last: Option<Decoder>,
    clock: Clock,
    /// Since when no link is there, and why.
    since: Instant,
    cause: Option<Box<RunError>>,
    ending: Option<Ending>,
}

struct Ready {
    control: bool,
    faults: bool,
    preempt: bool,
    main: bool,
    listener: bool,
}

/// The userfaultfd and what is registered with it.
struct Trap {
    handler: Handler,
    regions: Vec<Region>,
    /// First address of each block, in order of addresses.
    starts: Vec<(u64, BlockId)>,
}

impl<'a> Receiving<'a> {
    fn new(
        listener: &'a mut Listener,
        guest: &'a mut dyn Guest,
        options: ReceiveOptions,
        control: &'a Control,
    ) -> Self {
        Self {
            core: Destination::new(options.core.clone()),
            listener,
            guest,
            control,
            options,
            main: None,
            preempt: None,
            waiting: None,
            outbox: Outbox::default(),
            memories: Vec::new(),
            trap: None,
            last: None,
            clock: Clock::new(),
            since: Instant::now(),
            cause: None,
            ending: None,
        }
    }

    fn serve(&mut self) -> Result<(), RunError> {
        let mut next_progress = 0;
        while !self.is_over() {
            let ready = self.wait()?;
            if ready.control {
                let wishes = self.control.take();
                if wishes.stop {
                    return Err(RunError::Stopped);
                }
                if wishes.pause && self.main.is_some() {
                    self.lost(Channel::Main, RunError::Closed)?;
                    continue;
                }
            }
            if ready.faults {
                self.faults()?;
                self.flush();
            }
            if ready.preempt {
                self.inbound(Channel::Preempt)?;
            }
            if ready.main {
                self.inbound(Channel::Main)?;
            }
            if ready.listener {
                self.accept()?;
            }
            self.promote();
            self.act()?;
            self.flush();
            self.patience()?;
            let now = self.clock.now();
            if now >= next_progress {
                next_progress = now + 100_000_000;
                self.guest.progress(&self.core);
            }
        }
        Ok(())
    }

    /// Whether nothing more can come that matters.
    fn is_over(&self) -> bool {
        match self.ending {
            None => false,
            // The source still sends a description, then closes.
            Some(Ending::Precopy) => self.main.is_none(),
            // The source closes when it has seen SHUT. If a link broke before,
            // SHUT may have been lost with this one, too: it asks again.
            Some(Ending::Postcopy) => match &self.main {
                Some(_) => self.outbox.is_empty() && self.core.stats().pauses == 0,
                None => self.core.stats().pauses == 0 || self.since.elapsed() >= LINGER,
            },
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) -> Result<Ready, RunError> {
        let mut waiting = Waiting::new();
        let control = waiting.add(Some(self.control.as_fd()), PollFlags::IN);
        let faults = waiting.add(self.trap.as_ref().map(|t| t.handler.as_fd()), PollFlags::IN);
        let preempt = self.preempt.as_ref().filter(|_| self.trap.is_some());
        let preempt = waiting.add(preempt.map(|p| p.link.as_fd()), PollFlags::IN);
        let out = if self.outbox.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        let main = self.main.as_ref().map(|m| m.link.as_fd());
        let main = waiting.add(main, PollFlags::IN | out);
        let listener = waiting.add(
            self.listener.fd().filter(|_| self.wants_link()),
            PollFlags::IN,
        );
        waiting.wait(Duration::from_millis(100))?;
        Ok(Ready {
            control: waiting.readable(control),
            faults: waiting.readable(faults),
            preempt: waiting.readable(preempt),
            main: waiting.readable(main),
            listener: waiting.readable(listener),
        })
    }

    fn wants_link(&self) -> bool {
        self.main.is_none()
            || self.options.core.preempt && self.preempt.is_none() && self.waiting.is_none()
    }

    /// Carries the core's wishes out.
    fn act(&mut self) -> Result<(), RunError> {
        while let Some(action) = self.core.poll() {
            match action {
                Action::Block { id } => {
                    let block = self.core.blocks().block(id)?;
                    let memory = self.guest.memory(block).map_err(RunError::Guest)?;
                    if memory.len() < block.len {
                        let name = block.name.clone();
                        return Err(RunError::TooSmall {
                            name,
                            have: memory.len(),
                            need: block.len,
                        });
                    }
                    // A huge page would fill in what was never received.
                    memory.nohugepage()?;
                    self.memories.push(memory);
                }
                Action::Discard { block, start, len } => {
                    memory(&self.memories, block)?.discard(start, len)?;
                }
                Action::Listen => self.listen()?,
                Action::Run => self.guest.run(),
                Action::DeviceStateComplete => {
                    self.guest
                        .device_state_complete()
                        .map_err(RunError::Guest)?;
                    self.core.device_state_saved()?;
                }
                Action::Finished(ending) => self.ending = Some(ending),
            }
        }
        self.outbox.bytes.append(self.core.outbox());
        Ok(())
    }

    /// Traps accesses to missing memory from now on.
    fn listen(&mut self) -> Result<(), RunError> {
        let uffd = Uffd::open().map_err(uffd::Error::from)?;
        let handler = uffd.handler();
        let mut regions = Vec::new();
        let mut starts = Vec::new();
        for (id, block) in self.core.blocks().iter().enumerate() {
            let memory = memory(&self.memories, id)?;
            starts.push((memory.range().start, id));
            regions.push(uffd.register(block.name.name().as_bytes(), Arc::clone(memory))?);
        }
        starts.sort_unstable();
        self.trap = Some(Trap {
            handler,
            regions,
            starts,
        });
        Ok(())
    }

    /// Sends what the return path has room for.
    fn flush(&mut self) {
        let Some(main) = &self.main else {
            // Written for a link that is gone; recovery asks again.
            self.outbox.clear();
            return;
        };
        // A link that is broken shows when it is read, too, behind everything
        // that has arrived on it.
        if !self.outbox.is_empty() && self.outbox.flush(&main.link).is_ok_and(|all| all) {
            self.core.written(self.clock.now());
        }
    }

    /// Turns faults into requests.
    fn faults(&mut self) -> Result<(), RunError> {
        let Some(trap) = &mut self.trap else {
            return Ok(());
        };
        let now = self.clock.now();
        for fault in trap.handler.faults()? {
            let at = trap
                .starts
                .partition_point(|(start, _)| *start <= fault.address);
            let Some((start, block)) = at.checked_sub(1).map(|at| trap.starts[at]) else {
                continue;
            };
            let offset = fault.address - start;
            if self.core.fault(block, offset, now)? == Fault::Present {
                let page = self.core.blocks().block(block)?.page;
                trap.regions[block].wake(offset & !(page - 1), page)?;
            }
        }
        self.outbox.bytes.append(self.core.outbox());
        Ok(())
    }

    /// Reads a link once and handles what has arrived.
    fn inbound(&mut self, channel: Channel) -> Result<(), RunError> {
        let slot = match channel {
            Channel::Main => &mut self.main,
            Channel::Preempt => &mut self.preempt,
        };
        let Some(mut inbound) = slot.take() else {
            return Ok(());
        };
        let done = self.read(channel, &mut inbound);
        // Put back first: losing a link looks at it.
        match channel {
            Channel::Main => self.main = Some(inbound),
            Channel::Preempt => self.preempt = Some(inbound),
        }
        match done {
            Ok(true) => Ok(()),
            Ok(false) => self.ended(channel),
            Err(error) => self.lost(channel, error),
        }
    }

    /// `false` at the end of the stream.
    fn read(&mut self, channel: Channel, inbound: &mut Inbound) -> Result<bool, RunError> {
        let moved = inbound.inbox.fill(&inbound.link, inbound.need);
        let moved = moved.map_err(|error| RunError::Link {
            what: "reading",
            error,
        })?;
        match moved {
            Moved::Bytes(_) => {}
            Moved::Later => return Ok(true),
            Moved::End => return Ok(false),
        }
        loop {
            match inbound.decoder.next(inbound.inbox.unread())? {
                Step::Need(need) => {
                    inbound.need = need;
                    return Ok(true);
                }
                Step::Event { event, size } => {
                    self.event(channel, event)?;
                    inbound.inbox.consume(size);
                }
            }
        }
    }

    fn event(&mut self, channel: Channel, event: Event<'_>) -> Result<(), RunError> {
        let now = self.clock.now();
        match event {
            Event::Configuration { machine } => self.guest.machine(machine),
            Event::DeviceState { bytes, .. } => {
                self.guest.device_state(bytes).map_err(RunError::Guest)?;
            }
            Event::DescriptionBytes(bytes) => {
                self.guest.description(bytes).map_err(RunError::Guest)?;
            }
            _ => {}
        }
        let is_page = matches!(event, Event::Record(_));
        let placement = self.core.event(channel, event, now)?;
        let (block, offset, len, placed) = match placement {
            Placement::None if is_page => return Ok(()),
            // Only what is no page changes what else the core wants.
            Placement::None => return self.act(),
            Placement::Write {
                block,
                offset,
                data,
            } => {
                return Ok(memory(&self.memories, block)?.write(offset, data)?);
            }
            Placement::Clear { block, offset, len } => {
                return Ok(memory(&self.memories, block)?.discard(offset, len)?);
            }
            Placement::Copy {
                block,
                offset,
                data,
            } => {
                let region = region(&self.trap, block)?;
                (block, offset, data.len() as u64, region.copy(offset, data)?)
            }
            Placement::Zero { block, offset, len } => (
                block,
                offset,
                len,
                region(&self.trap, block)?.zero(offset, len)?,
            ),
        };
        let outcome = if placed.present > 0 {
            Placed::AlreadyPresent
        } else {
            Placed::New
        };
        Ok(self
            .core
            .placed(channel, block, offset, len, outcome, self.clock.now())?)
    }

    /// The peer has closed a link.
    fn ended(&mut self, channel: Channel) -> Result<(), RunError> {
        let slot = match channel {
            Channel::Main => &self.main,
            Channel::Preempt => &self.preempt,
        };
        let Some(inbound) = slot else { return Ok(()) };
        if let Err(error) = inbound.decoder.finish(inbound.inbox.unread()) {
            return self.lost(channel, error.into());
        }
        if self.core.end_of_stream(channel).is_err() || self.core.phase() == Phase::Paused {
            return self.lost(channel, RunError::Closed);
        }
        match channel {
            Channel::Main => self.main = None,
            Channel::Preempt => self.preempt = None,
        }
        self.act()
    }

    /// A link is of no more use: both go, and postcopy waits for new ones.
    fn lost(&mut self, channel: Channel, error: RunError) -> Result<(), RunError> {
        // What is broken at this end, a new link does not mend.
        let mendable = match &error {
            RunError::Destination(error) => error.is_peer_fault(),
            other => other.is_link(),
        };
        let lost = self.core.link_lost(channel);
        if let Some(main) = self.main.take() {
            // SHUT(1), if the core has failed.
            self.outbox.bytes.append(self.core.outbox());
            let _ = self.outbox.flush(&main.link);
            main.link.shut_down();
            self.last = Some(main.decoder);
        }
        if let Some(preempt) = self.preempt.take() {
            preempt.link.shut_down();
        }
        self.waiting = None;
        self.outbox.clear();
        if !mendable || lost.is_err() || self.core.phase() != Phase::Paused {
            return Err(error);
        }
        self.since = Instant::now();
        self.cause = Some(Box::new(error));
        Ok(())
    }

    /// Takes a connection: the first, the preempt channel, or a replacement.
    fn accept(&mut self) -> Result<(), RunError> {
        let Some(link) = self.listener.accept()? else {
            return Ok(());
        };
        match (&self.main, &self.last) {
            (None, None) => {
                let decoder = Decoder::new(self.options.stream.clone());
                self.main = Some(Inbound::new(link, decoder));
            }
            (None, Some(last)) => {
                let decoder = last.resume();
                self.core.link_restored()?;
                self.main = Some(Inbound::new(link, decoder));
            }
            // The preempt channel's decoder needs the blocks of the main one.
            (Some(_), _) => self.waiting = Some(link),
        }
        self.promote();
        Ok(())
    }

    /// Starts to read the preempt channel, once it means something.
    fn promote(&mut self) {
        if self.preempt.is_some() || self.trap.is_none() {
            return;
        }
        if let (Some(main), Some(link)) = (&self.main, self.waiting.take()) {
            self.preempt = Some(Inbound::new(link, main.decoder.preempt()));
        }
    }

    /// How long a missing link has been waited for is not too long.
    fn patience(&mut self) -> Result<(), RunError> {
        if self.main.is_some()
            || self.ending.is_some()
            || self.since.elapsed() < self.options.patience
        {
            return Ok(());
        }
        let seconds = self.options.patience.as_secs();
        Err(RunError::Abandoned {
            seconds,
            cause: self.cause.take(),
        })
    }

    /// Takes the traps away: every page is there.
    fn finish(self) -> Result<Destination, RunError> {
        if let Some(trap) = self.trap {
            for region in &trap.regions {
                region.unregister()?;
            }
            trap.handler.finish();
        }
        Ok(self.core)
    }

    /// The migration has failed; aborts the process unless nobody waits.
    fn abandon(self, release: bool) {
        if let Some(trap) = self.trap.filter(|_| release) {
            trap.handler.finish();
        }
    }
}

fn region(trap: &Option<Trap>, block: BlockId) -> Result<&Region, RunError> {
    let region = trap.as_ref().and_then(|trap| trap.regions.get(block));
    region.ok_or(RunError::Block(BlockError::Unknown))
}

fn memory(memories: &[Arc<Memory>], block: BlockId) -> Result<&Arc<Memory>, RunError> {
    memories
        .get(block)
        .ok_or(RunError::Block(BlockError::Unknown))
}
