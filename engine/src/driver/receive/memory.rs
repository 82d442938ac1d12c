//! Guest memory: the embedder's mappings, and the userfaultfd that traps accesses to
//! pages that are missing.

use std::sync::Arc;

use retpath_codec::BlockName;

use super::super::RunError;
use super::{Content, DestinationHandler};
use crate::blocks::{BlockError, BlockId, Blocks, Span};
use crate::destination::{Destination, PageState, Placement};
use crate::memory::Memory;
use crate::uffd::{self, FailurePolicy, Handler, Region, Uffd};

/// The memory of all blocks.
#[derive(Default)]
pub(super) struct GuestMemory {
    /// By block; `None` where the embedder gave none.
    blocks: Vec<Option<Arc<Memory>>>,
    trap: Option<Trap>,
}

/// The userfaultfd, and what is registered with it.
struct Trap {
    handler: Handler,
    /// By block; `None` for blocks without memory, and once it is not registered any more.
    regions: Vec<Option<Region>>,
    /// The first address of each block, in order of addresses.
    starts: Vec<(u64, BlockId)>,
}

impl GuestMemory {
    /// Asks the embedder for the memory of the next block.
    pub(super) fn add(
        &mut self,
        id: BlockId,
        blocks: &Blocks,
        handler: &mut dyn DestinationHandler,
    ) -> Result<(), RunError> {
        let block = blocks.block(id)?;
        let memory = handler
            .memory(block, blocks.target())
            .map_err(RunError::Handler)?;
        if let Some(memory) = &memory {
            if memory.len() < block.len {
                return Err(RunError::TooSmall {
                    name: block.name.clone(),
                    have: memory.len(),
                    need: block.len,
                });
            }
            // A transparent huge page would fill in pages that were never received.
            memory.nohugepage()?;
        }
        self.blocks.push(memory);
        Ok(())
    }

    fn of(&self, block: BlockId) -> Option<&Arc<Memory>> {
        self.blocks.get(block)?.as_ref()
    }

    /// Drops the contents of a range of whole host pages.
    pub(super) fn discard(&self, span: Span) -> Result<(), RunError> {
        match self.of(span.block) {
            Some(memory) => Ok(memory.discard(span.offset, span.len)?),
            None => Ok(()),
        }
    }

    /// Traps accesses to missing pages from now on, if any block has memory.
    pub(super) fn trap(&mut self, blocks: &Blocks, policy: FailurePolicy) -> Result<(), RunError> {
        if self.blocks.iter().all(Option::is_none) {
            return Ok(());
        }
        let uffd = Uffd::open().map_err(uffd::Error::from)?;
        // Kept on failure, too: `DestinationHandler::failed` decides whether the handler may
        // end early.
        let trap = self.trap.insert(Trap {
            handler: uffd.handler().on_failure(policy),
            regions: Vec::new(),
            starts: Vec::new(),
        });
        for (id, (block, memory)) in blocks.iter().zip(&self.blocks).enumerate() {
            let Some(memory) = memory else {
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

    /// The descriptor on which faults arrive.
    pub(super) fn handler(&self) -> Option<&Handler> {
        self.trap.as_ref().map(|trap| &trap.handler)
    }

    /// Reads faults, and requests their pages.
    pub(super) fn faults(&mut self, core: &mut Destination, now: u64) -> Result<(), RunError> {
        let Some(trap) = &mut self.trap else {
            return Ok(());
        };
        for fault in trap.handler.faults()? {
            let starts = &trap.starts;
            let at = starts.partition_point(|(start, _)| *start <= fault.address);
            let Some((start, block)) = at.checked_sub(1).map(|at| starts[at]) else {
                continue;
            };
            let offset = fault.address - start;
            if core.fault(block, offset, now)? != PageState::Present {
                continue;
            }
            // Wakes the waiting threads. Zero pages that came before LISTEN have no memory: a
            // mere wake would fault again.
            let page = core.blocks().block(block)?.page;
            if let Some(Some(region)) = trap.regions.get(block) {
                region.zero(offset & !(page - 1), page)?;
            }
        }
        Ok(())
    }

    /// Stores pages; after LISTEN, wakes the threads that wait for them. Returns how many
    /// bytes of them were present before.
    pub(super) fn store(&self, pages: &Placement<'_>) -> Result<u64, RunError> {
        let Some(memory) = self.of(pages.block) else {
            return Ok(0);
        };
        match (pages.atomic, pages.content) {
            (false, Content::Data(data)) => memory.write(pages.offset, data)?,
            (false, Content::Zero(len)) => clear(memory, pages.offset, len)?,
            (true, content) => {
                let trap = self.trap.as_ref();
                let region = trap.and_then(|trap| trap.regions.get(pages.block)?.as_ref());
                let region = region.ok_or(RunError::Block(BlockError::Unknown))?;
                let filled = match content {
                    Content::Data(data) => region.copy(pages.offset, data)?,
                    Content::Zero(len) => region.zero(pages.offset, len)?,
                };
                return Ok(filled.present);
            }
        }
        Ok(0)
    }

    /// Stops trapping accesses: every page is here.
    pub(super) fn release(&mut self) -> Result<(), RunError> {
        let regions = self.trap.as_mut().map(|trap| &mut trap.regions[..]);
        Ok(Region::unregister_all(regions.unwrap_or_default())?)
    }

    /// Ends the fault handler while memory is incomplete: the failure policy applies.
    pub(super) fn fail(self, error: &RunError) {
        if let Some(trap) = self.trap {
            trap.handler.fail(error);
        }
    }

    /// Ends without aborting the process: no thread waits for a page.
    pub(super) fn finish(self) {
        if let Some(trap) = self.trap {
            trap.handler.finish();
        }
    }
}

/// Makes memory read as zeros before LISTEN.
fn clear(memory: &Memory, offset: u64, len: u64) -> Result<(), RunError> {
    let page = memory.page_size();
    if offset.is_multiple_of(page) && len.is_multiple_of(page) {
        return Ok(memory.discard(offset, len)?);
    }
    // A part of a huge page cannot be discarded.
    const ZEROS: [u8; 4096] = [0; 4096];
    for at in (offset..offset.saturating_add(len)).step_by(ZEROS.len()) {
        let left = usize::try_from(offset + len - at).unwrap_or(usize::MAX);
        memory.write(at, &ZEROS[..left.min(ZEROS.len())])?;
    }
    Ok(())
}
