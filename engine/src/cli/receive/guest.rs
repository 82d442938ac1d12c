//! The machine that is being received: memory until the end, an image then.
//!
//! The guest does not run here. Its RAM is received into memory of this process,
//! because a file that is not in memory cannot be placed page by page under
//! userfaultfd; pages of zeros take none. At the end every block is written to
//! its file, piece by piece, and the memory of each piece is given back as soon
//! as it is written. Only then is the source told that the migration is over.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::Event;
use retpath_codec::{BlockName, NameBuf};

use super::live::Live;
use super::touch::Touchers;
use crate::blocks::{Block, BlockId};
use crate::cli::signals::Signals;
use crate::destination::{Destination, Ending, Tail};
use crate::image::{Manifest, Recorder, Writer};
use crate::memory::{Backing, Memory};
use crate::run::{Control, Guest, RunError};

/// Bytes that are written at once in the end.
const PIECE: u64 = 1 << 20;

/// A machine on its way into an image.
pub(super) struct Incoming {
    writer: Option<Writer>,
    recorder: Recorder,
    memory: Vec<(NameBuf, Arc<Memory>)>,
    /// What the source has sent or will send again after the switch.
    discarded: Vec<(BlockId, Range<u64>)>,
    /// Page sizes of the blocks.
    pages: Vec<u64>,
    touches: u64,
    touchers: Touchers,
    /// Why there will be no image, although the source goes on sending. From
    /// the switch until it has sent everything, a source that loses its
    /// destination cannot go back to its guest.
    trouble: Option<String>,
    signals: Signals,
    control: Control,
    live: Live,
    /// The image, once it has its name.
    pub(super) manifest: Option<Manifest>,
    /// How the migration ended, as soon as everything is on disk.
    ending: Option<Ending>,
    pub(super) source: Source,
    preempt: bool,
}

/// How far the source is, for what an unfinished migration means for its guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// It can be told what has become of the migration.
    pub(super) hears: bool,
    /// It has switched to postcopy: its guest stands still.
    pub(super) switched: bool,
    /// It has sent everything.
    pub(super) done: bool,
    /// Target pages that are not here.
    pub(super) missing: u64,
}

impl Incoming {
    pub(super) fn new(
        writer: Writer,
        touches: u64,
        preempt: bool,
        signals: Signals,
        control: Control,
        live: Live,
    ) -> Self {
        Self {
            writer: Some(writer),
            recorder: Recorder::new(),
            memory: Vec::new(),
            discarded: Vec::new(),
            pages: Vec::new(),
            touches,
            touchers: Touchers::default(),
            trouble: None,
            signals,
            control,
            live,
            manifest: None,
            ending: None,
            source: Source::default(),
            preempt,
        }
    }

    fn writer(&mut self) -> Result<&mut Writer, String> {
        let gone = || "the image is finished already".to_owned();
        self.writer.as_mut().ok_or_else(gone)
    }

    /// There will be no image, but the source sends on.
    fn put_off(&mut self, why: String) {
        if self.trouble.is_some() {
            return;
        }
        self.live.say(&format!(
            "retpath receive: {why}; ending once the source has sent everything, so that it can \
             have its guest back (a signal ends this at once, and loses the guest)"
        ));
        self.touchers.stop();
        self.trouble = Some(why);
    }

    /// Writes all memory to the image.
    fn write_out(&mut self, core: &Destination) -> Result<(), String> {
        let target = core.blocks().target();
        let writer = self
            .writer
            .as_mut()
            .ok_or("the image is finished already")?;
        let mut piece = Vec::new();
        for (block, (id, (_, memory))) in core.blocks().iter().zip(self.memory.iter().enumerate()) {
            writer.block(block, target).map_err(|e| e.to_string())?;
            let mut at = 0;
            while at < block.len {
                let len = PIECE.min(block.len - at);
                piece.resize(usize::try_from(len).map_err(|e| e.to_string())?, 0);
                memory.read(at, &mut piece).map_err(|e| e.to_string())?;
                writer.write(id, at, &piece).map_err(|e| e.to_string())?;
                memory.discard(at, len).map_err(|e| e.to_string())?;
                at += len;
                if self.signals.came() {
                    return Err("stopped by a signal".into());
                }
            }
        }
        writer.sync().map_err(|error| error.to_string())
    }

    /// Gives the image its name, if that has not been done.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        if self.recorder.is_inside_description() {
            writer.forget_description().map_err(|e| e.to_string())?;
        }
        if self.preempt {
            self.recorder.saw_preempt();
        }
        let facts = self.recorder.facts();
        self.manifest = Some(writer.finish(facts).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Whether everything that makes an image is on disk.
    pub(super) fn is_complete(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    pub(super) fn touched(&self) -> u64 {
        self.touchers.touched()
    }

    /// Takes the live line off the terminal.
    pub(super) fn quiet(&mut self) {
        self.live.clear();
    }
}

impl Guest for Incoming {
    fn memory(&mut self, block: &Block) -> Result<Arc<Memory>, String> {
        let page = Backing::Anonymous.page_size();
        let memory = Memory::new(Backing::Anonymous, block.len.next_multiple_of(page));
        let memory = Arc::new(memory.map_err(|e| format!("RAM block {}: {e}", block.name))?);
        self.memory.push((block.name.clone(), Arc::clone(&memory)));
        self.pages.push(block.page);
        Ok(memory)
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), String> {
        if let Event::Command(Command::PostcopyRamDiscard { block, ranges }) = event {
            let mut named = self.memory.iter();
            if let Some(id) = named.position(|(name, _)| name.name() == *block) {
                let end = |start: u64, len| start.saturating_add(len);
                let ranges = ranges.iter();
                self.discarded
                    .extend(ranges.map(|one| (id, one.start..end(one.start, one.len))));
            }
        }
        match event {
            Event::Command(Command::OpenReturnPath) => self.source.hears = true,
            Event::Command(Command::Packaged { .. } | Command::PostcopyRamDiscard { .. }) => {
                self.source.switched = true;
            }
            _ => {}
        }
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        match self.recorder.event(event, writer) {
            Err(error) if self.source.switched => self.put_off(error.to_string()),
            done => return done.map_err(|error| error.to_string()),
        }
        Ok(())
    }

    fn device_state_complete(&mut self) -> Result<(), String> {
        let synced = self.writer()?.sync_device_state();
        if let Err(error) = synced {
            self.put_off(error.to_string());
        }
        match &self.trouble {
            // This source has not given its guest up before it hears from here.
            Some(trouble) if self.recorder.asks_loaded() => Err(trouble.clone()),
            _ => Ok(()),
        }
    }

    fn second_link(&mut self) {
        self.live.say(
            "retpath receive: the source has made a second connection, which is not read: if its \
             capability postcopy-preempt is on, --preempt is missing here",
        );
    }

    fn device_state_tail(&mut self) -> Result<Tail, String> {
        match &self.writer {
            Some(writer) => self.recorder.tail(writer).map_err(|e| e.to_string()),
            None => Ok(Tail::Open),
        }
    }

    fn run(&mut self) {
        let memory = self.memory.iter().map(|(_, memory)| Arc::clone(memory));
        self.touchers
            .start(memory.collect(), &self.discarded, &self.pages, self.touches);
    }

    fn complete(&mut self, core: &Destination, ending: Ending) -> Result<(), String> {
        self.source.done = true;
        self.source.missing = 0;
        self.touchers.finish();
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        self.live.writing();
        self.write_out(core)?;
        self.ending = Some(ending);
        // In precopy the description is still to come.
        if ending == Ending::Postcopy {
            self.finish()?;
        }
        Ok(())
    }

    fn may_go_back(&self) -> bool {
        self.ending.is_none()
    }

    fn progress(&mut self, core: &Destination) {
        if self.signals.came() {
            // Also before the device state is here: up to 10.1, a source that has sent it pauses
            // when its link breaks, and nobody can resume it.
            let link = !core.phase().is_recoverable();
            if self.source.switched && link {
                self.put_off("stopped by a signal".into());
            } else if self.trouble.is_none() || !link {
                self.control.stop();
            }
        }
        self.live.show(core);
        self.source.missing = core.pages().missing();
    }

    fn failed(&mut self, _: &RunError) -> bool {
        // They read, and nobody looks at what.
        self.touchers.stop();
        true
    }
}

/// Set when the touching has to end.
pub(super) type Stop = Arc<AtomicBool>;

pub(super) fn is_set(stop: &Stop) -> bool {
    stop.load(Ordering::Acquire)
}
