//! Memory: traps, faults, and pages on their way into place.

use std::sync::Arc;

use retpath_codec::BlockName;
use retpath_codec::forward::Event;
use retpath_codec::forward::ram::Record;

use super::super::RunError;
use super::sweep::{Run, Scatter};
use super::{Content, Receiving};
use crate::Channel;
use crate::blocks::{BlockError, BlockId};
use crate::destination::{Fault, Placed, Placement};
use crate::memory::Memory;
use crate::uffd::{self, Handler, Region, Uffd};

/// The userfaultfd and what is registered with it.
pub(super) struct Trap {
    pub(super) handler: Handler,
    /// By block; `None` for blocks without memory.
    pub(super) regions: Vec<Option<Region>>,
    /// Whether nothing is registered any more.
    pub(super) released: bool,
    /// First address of each block, in order of addresses.
    starts: Vec<(u64, BlockId)>,
}

impl Receiving<'_> {
    /// Traps accesses to missing memory from now on, if any block has memory.
    pub(super) fn listen(&mut self) -> Result<(), RunError> {
        if self.memories.iter().all(Option::is_none) {
            return Ok(());
        }
        let uffd = Uffd::open().map_err(uffd::Error::from)?;
        let mut trap = Trap {
            handler: uffd.handler(),
            regions: Vec::new(),
            released: false,
            starts: Vec::new(),
        };
        let done = self.register(&uffd, &mut trap);
        // Kept on failure, too: `Guest::failed` decides whether the handler may end early.
        self.trap = Some(trap);
        done
    }

    fn register(&self, uffd: &Uffd, trap: &mut Trap) -> Result<(), RunError> {
        for (id, block) in self.core.blocks().iter().enumerate() {
            let Some(memory) = self.memory(id) else {
                trap.regions.push(None);
                continue;
            };
            let region = uffd.register(block.name.name().as_bytes(), Arc::clone(memory))?;
            trap.starts.push((memory.range().start, id));
            trap.regions.push(Some(region));
        }
        trap.starts.sort_unstable();
        Ok(())
    }

    /// Turns faults into requests.
    pub(super) fn faults(&mut self) -> Result<(), RunError> {
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
                // Wakes who waits; and zeros that came before LISTEN have
                // left nothing there, so a mere wake would fault again.
                if let Some(region) = &trap.regions[block] {
                    region.zero(offset & !(page - 1), page)?;
                }
            }
        }
        self.outbox.bytes.append(self.core.outbox());
        Ok(())
    }

    /// Shows an event to the core, and does what it says with memory.
    pub(super) fn event(
        &mut self,
        channel: Channel,
        event: Event<'_>,
        now: u64,
    ) -> Result<(), RunError> {
        let is_page = matches!(
            event,
            Event::Record(Record::Page { .. } | Record::Zero { .. } | Record::Eos)
        );
        if channel == Channel::Main && !is_page {
            self.guest.event(&event).map_err(RunError::Guest)?;
        }
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
        let is_record = matches!(event, Event::Record(_));
        let (block, offset, content, is_live) = match self.core.event(channel, event, now)? {
            Placement::None if is_record => return Ok(()),
            // Only what is no page changes what else the core wants.
            Placement::None => return self.act(),
            Placement::Write {
                block,
                offset,
                data,
            } => (block, offset, Content::Data(data), false),
            Placement::Clear { block, offset, len } => (block, offset, Content::Zero(len), false),
            Placement::Copy {
                block,
                offset,
                data,
            } => (block, offset, Content::Data(data), true),
            Placement::Zero { block, offset, len } => (block, offset, Content::Zero(len), true),
        };
        self.guest
            .page(block, offset, content)
            .map_err(RunError::Guest)?;
        let memory = self.memories.get(block).and_then(Option::as_ref);
        if !is_live {
            return memory.map_or(Ok(()), |memory| fill(memory, offset, content));
        }
        let len = content.len();
        let placed = place(&self.trap, memory, block, offset, content)?;
        self.placed(channel, block, offset, len, placed)
    }

    /// Places a row of pages that the decoder has not seen.
    pub(super) fn place_run(
        &mut self,
        channel: Channel,
        run: &Run,
        scatter: &Scatter,
        now: u64,
    ) -> Result<(), RunError> {
        if run.count == 0 {
            return Ok(());
        }
        let content = Content::Data(scatter.pages(run.first, run.count));
        let (block, offset, len) = (run.block, run.offset, content.len());
        self.core.run_of_pages(channel, block, offset, len)?;
        self.core.arrived(channel, now);
        self.guest
            .page(block, offset, content)
            .map_err(RunError::Guest)?;
        let placed = place(&self.trap, self.memory(block), block, offset, content)?;
        self.placed(channel, block, offset, len, placed)
    }

    fn placed(
        &mut self,
        channel: Channel,
        block: BlockId,
        offset: u64,
        len: u64,
        placed: Placed,
    ) -> Result<(), RunError> {
        let now = self.clock.now();
        Ok(self.core.placed(channel, block, offset, len, placed, now)?)
    }
}

/// Places whole host pages in trapped memory, and wakes the threads that wait for them.
fn place(
    trap: &Option<Trap>,
    memory: Option<&Arc<Memory>>,
    block: BlockId,
    offset: u64,
    content: Content<'_>,
) -> Result<Placed, RunError> {
    if memory.is_none() {
        return Ok(Placed::New);
    }
    let region = trap
        .as_ref()
        .and_then(|trap| trap.regions.get(block)?.as_ref());
    let region = region.ok_or(RunError::Block(BlockError::Unknown))?;
    let placement = match content {
        Content::Data(data) => region.copy(offset, data)?,
        Content::Zero(len) => region.zero(offset, len)?,
    };
    Ok(match placement.present {
        0 => Placed::New,
        bytes => Placed::Present(bytes),
    })
}

/// Fills memory before LISTEN.
fn fill(memory: &Memory, offset: u64, content: Content<'_>) -> Result<(), RunError> {
    match content {
        Content::Data(data) => Ok(memory.write(offset, data)?),
        Content::Zero(len) => clear(memory, offset, len),
    }
}

/// Makes memory read as zeros before LISTEN.
fn clear(memory: &Memory, offset: u64, len: u64) -> Result<(), RunError> {
    let page = memory.page_size();
    if offset.is_multiple_of(page) && len.is_multiple_of(page) {
        return Ok(memory.discard(offset, len)?);
    }
    // A part of a huge page cannot be given back.
    const ZEROS: [u8; 4096] = [0; 4096];
    for at in (offset..offset.saturating_add(len)).step_by(ZEROS.len()) {
        let left = usize::try_from(offset + len - at).unwrap_or(usize::MAX);
        memory.write(at, &ZEROS[..left.min(ZEROS.len())])?;
    }
    Ok(())
}
