//! What the loop tells the machine that is being received.

use std::sync::Arc;

use retpath_codec::BlockName;
use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::Event;
use retpath_engine::bits::Bits;
use retpath_engine::blocks::{Block, BlockId};
use retpath_engine::destination::pending::Refusal;
use retpath_engine::destination::{Destination, Ending, Tail};
use retpath_engine::driver::{Content, DestinationHandler, HandlerError, RunError};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::ChannelError;
use tracing::{debug, info, warn};

use super::Incoming;
use crate::size::Human;

/// Maps the memory that `--touch` fills.
fn map(block: &Block) -> Result<Arc<Memory>, String> {
    let page = Backing::Anonymous.page_size();
    let memory = Memory::new(Backing::Anonymous, block.len.next_multiple_of(page));
    memory.map(Arc::new).map_err(|error| {
        let (name, len) = (&block.name, Human(block.len));
        format!(
            "RAM block {name} of {len}: {error}: --touch needs memory for the whole guest: receive \
             without --touch, or on a machine with more memory"
        )
    })
}

impl DestinationHandler for Incoming {
    fn memory(&mut self, block: &Block, target: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        info!(block = %block.name, bytes = block.len, page = block.page, "RAM block");
        // Before anything is written: a block can be larger than the memory of this machine.
        let memory = match self.touches {
            0 => None,
            _ => Some(map(block)?),
        };
        let added = self.writer()?.block(block, target);
        added.map_err(|error| error.to_string())?;
        let Some(memory) = memory else {
            return Ok(None);
        };
        self.memory.push((block.name.clone(), Arc::clone(&memory)));
        self.pages.push(block.page);
        self.discarded.push(Bits::new(block.len / block.page));
        Ok(Some(memory))
    }

    fn page(
        &mut self,
        block: BlockId,
        offset: u64,
        content: Content<'_>,
    ) -> Result<(), HandlerError> {
        // Without an image, pages are dropped.
        let Some(writer) = self.writer.as_mut().filter(|_| self.trouble.is_none()) else {
            return Ok(());
        };
        let stored = match content {
            Content::Data(data) => writer.write(block, offset, data),
            Content::Zero(len) => writer.zero(block, offset, len),
        };
        match stored {
            Err(error) if self.source.switched => self.put_off(error),
            stored => return Ok(stored?),
        }
        Ok(())
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        if let Event::Command(Command::PostcopyRamDiscard { block, ranges }) = event {
            let mut named = self.memory.iter();
            if let Some(id) = named.position(|(name, _)| name.name() == *block) {
                let page = self.pages[id];
                for range in ranges.iter() {
                    self.discarded[id].set_range(range.start / page, range.len / page);
                }
            }
        }
        if !matches!(
            event,
            Event::Record(_) | Event::DeviceState { .. } | Event::DescriptionBytes(_)
        ) {
            debug!(message = event.label());
        }
        match event {
            Event::Command(Command::OpenReturnPath) => self.source.has_return_path = true,
            Event::Command(Command::Packaged { .. } | Command::PostcopyRamDiscard { .. })
                if !self.source.switched =>
            {
                self.source.switched = true;
                let facts = self.facts();
                if let Err(error) = self.writer()?.make_returnable(facts) {
                    self.put_off(error);
                }
            }
            Event::Eof if self.source.switched => self.source.done = true,
            _ => {}
        }
        let Some(writer) = self.writer.as_mut().filter(|_| !self.undescribed) else {
            return Ok(());
        };
        match self.recorder.event(event, writer) {
            // Only the description follows a complete image.
            Err(error) if self.ending.is_some() => self.lose_description(&error.to_string()),
            Err(error) if self.source.switched => self.put_off(error),
            done => return Ok(done?),
        }
        Ok(())
    }

    fn device_state_complete(&mut self) -> Result<(), HandlerError> {
        if self.source.switched {
            let facts = self.facts();
            match self.writer()?.make_resumable(facts) {
                Ok(()) => self.has_device_state = true,
                Err(error) => self.put_off(error),
            }
        }
        // This source keeps its guest until the PONG that follows.
        match self.trouble.take_if(|_| self.recorder.asks_loaded()) {
            Some(trouble) => {
                self.source.keeps = true;
                Err(trouble)
            }
            None => Ok(()),
        }
    }

    fn refused(&mut self, why: &Refusal) {
        info!(%why, "a connection was dropped");
        if let Some(line) = self.refusals.handle(why) {
            self.live.say(&format!("retpath receive: {line}"));
        }
    }

    fn accept_failed(&mut self, error: &ChannelError) {
        if !std::mem::replace(&mut self.accept_failed, true) {
            info!(%error, "a connection was not accepted");
            self.live.say(&format!(
                "retpath receive: {error}; trying again until it works"
            ));
        }
    }

    fn preempt(&mut self) {
        info!("the preempt channel is open");
        self.preempt = true;
    }

    fn device_state_tail(&mut self) -> Result<Tail, HandlerError> {
        match &self.writer {
            Some(writer) => Ok(self.recorder.tail(writer)?),
            None => Ok(Tail::Open),
        }
    }

    fn run(&mut self) {
        info!("switched to postcopy");
        let memory = self.memory.iter().map(|(_, memory)| Arc::clone(memory));
        let (discarded, pages) = (&self.discarded, &self.pages);
        let started = self
            .touchers
            .start(memory.collect(), discarded, pages, self.touches);
        if let Err(error) = started {
            self.live.say(&format!(
                "retpath receive: fewer pages are touched than --touch asks for: cannot start a \
                 thread: {error}"
            ));
        }
    }

    fn complete(&mut self, core: &Destination, ending: Ending) -> Result<(), HandlerError> {
        info!(?ending, "everything has been received");
        self.source.done = true;
        self.touchers.finish();
        // Up to 8.2, a source that has sent everything cannot resume, so another process must be able
        // to finish the image without it.
        self.noted = None;
        self.note(core);
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        self.source.missing = 0;
        self.source.complete = ending == Ending::Postcopy;
        self.live.writing();
        self.seal()?;
        // In precopy the description is still to come.
        if ending == Ending::Postcopy {
            self.finish();
        }
        self.ending = Some(ending);
        Ok(())
    }

    fn may_go_back(&self) -> bool {
        self.ending.is_none()
    }

    fn given_back(&mut self) {
        info!("the source has its guest back");
        self.source.has_guest = true;
    }

    fn progress(&mut self, core: &Destination) {
        if self.signals.came() {
            // Also before the device state has arrived: up to 10.1, a source that has sent it pauses
            // when its connection breaks, and cannot be resumed.
            let link = !core.phase().is_recoverable();
            if self.source.switched && link {
                self.put_off("stopped by a signal");
            } else if self.trouble.is_none() || !link {
                self.control.stop();
            }
        }
        self.live.show(core);
        self.watch(core);
        if self.trouble.is_none() {
            // Later pages are not kept.
            self.source.missing = core.pages().missing();
        }
        self.note(core);
    }

    fn broken(&mut self, core: &Destination, error: &RunError) {
        warn!(%error, missing = core.pages().missing(), "the link broke");
        self.give_back_without_devices();
        if let Some(line) = self.outage.broken(error, core.pages().missing()) {
            self.live.say(&format!("retpath receive: {line}"));
        }
    }

    fn recovered(&mut self, core: &Destination) {
        let line = self.outage.recovered(core.pages().missing());
        self.live.say(&format!("retpath receive: {line}"));
    }

    fn failed(&mut self, _: &RunError) -> bool {
        // The touching threads discard what they read, so they may read zeros.
        self.touchers.stop();
        true
    }
}
