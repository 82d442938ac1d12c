//! Memory: traps, faults, and pages on their way into place.

use std::sync::Arc;

use retpath_codec::BlockName;
use retpath_codec::forward::Event;
use retpath_codec::forward::ram::Record;

use super::super::RunError;
use super::sweep::{Run, Scatter};
use super::{Receiving, memory};
use crate::Channel;
use crate::blocks::{BlockError, BlockId};
use crate::destination::{Fault, Placed, Placement};
use crate::memory::Memory;
use crate::uffd::{self, Handler, Region, Uffd};

/// The userfaultfd and what is registered with it.
pub(super) struct Trap {
    pub(super) handler: Handler,
    pub(super) regions: Vec<Region>,
    /// Whether nothing is registered any more.
    pub(super) released: bool,
    /// First address of each block, in order of addresses.
    starts: Vec<(u64, BlockId)>,
}

impl Receiving<'_> {
    /// Traps accesses to missing memory from now on.
    pub(super) fn listen(&mut self) -> Result<(), RunError> {
        let uffd = Uffd::open().map_err(uffd::Error::from)?;
        // Owned by the loop before anything is registered: if a later block cannot be, the guest
        // is asked whether the handler may end, as for any other failure.
        let trap = self.trap.insert(Trap {
            handler: uffd.handler(),
            regions: Vec::new(),
            released: false,
            starts: Vec::new(),
        });
        for (id, block) in self.core.blocks().iter().enumerate() {
            let memory = memory(&self.memories, id)?;
            let region = uffd.register(block.name.name().as_bytes(), Arc::clone(memory))?;
            trap.starts.push((memory.range().start, id));
            trap.regions.push(region);
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
                trap.regions[block].zero(offset & !(page - 1), page)?;
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
        let placement = self.core.event(channel, event, now)?;
        let (block, offset, len, placed) = match placement {
            Placement::None if is_record => return Ok(()),
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
                return clear(memory(&self.memories, block)?, offset, len);
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
        let pages = scatter.pages(run.first, run.count);
        let (block, offset, len) = (run.block, run.offset, pages.len() as u64);
        self.core.run_of_pages(channel, block, offset, len)?;
        self.core.arrived(channel, now);
        let placed = region(&self.trap, block)?.copy(offset, pages)?;
        self.placed(channel, block, offset, len, placed)
    }

    fn placed(
        &mut self,
        channel: Channel,
        block: BlockId,
        offset: u64,
        len: u64,
        placement: uffd::Placement,
    ) -> Result<(), RunError> {
        let outcome = match placement.present {
            0 => Placed::New,
            bytes => Placed::Present(bytes),
        };
        Ok(self
            .core
            .placed(channel, block, offset, len, outcome, self.clock.now())?)
    }
}

fn region(trap: &Option<Trap>, block: BlockId) -> Result<&Region, RunError> {
    let region = trap.as_ref().and_then(|trap| trap.regions.get(block));
    region.ok_or(RunError::Block(BlockError::Unknown))
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
