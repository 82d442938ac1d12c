//! The machine that is being received: its pages go into the image as they come.
//!
//! The guest does not run here. A page that has come is in its block's file; so
//! from the switch to postcopy on another process can go on where this one
//! ended. Only `--touch` also needs memory, which is filled under userfaultfd as
//! a guest's would be. The source is told that the migration is over once the
//! image is whole, on disk and named.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::Event;
use retpath_codec::{BlockName, NameBuf};

use super::left::Left;
use super::live::Live;
use super::outage::Outage;
use super::outcome::Source;
use super::touch::Touchers;
use super::unswitched::Unswitched;
use crate::blocks::{Block, BlockId};
use crate::cli::signals::Signals;
use crate::destination::{Destination, Ending, Tail};
use crate::image::{Finished, Manifest, Recorder, Writer};
use crate::memory::{Backing, Memory};
use crate::run::{Content, Control, Guest, RunError};

/// How often to note which pages have come, for a process that goes on.
const CHECKPOINT: Duration = Duration::from_secs(1);

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
    start: Instant,
    unswitched: Unswitched,
    /// Whether all of the device state is safe, after the switch.
    has_device_state: bool,
    /// When it was last noted which pages have come.
    noted: Option<Instant>,
    /// Why there will be no image, although the source goes on sending. From
    /// the switch until it has sent everything, a source that loses its
    /// destination cannot go back to its guest.
    trouble: Option<String>,
    signals: Signals,
    control: Control,
    live: Live,
    outage: Outage,
    /// What is in the image, once it is whole.
    pub(super) manifest: Option<Manifest>,
    /// Where the image is, once it has a name.
    pub(super) finished: Option<Finished>,
    /// How the migration ended, as soon as everything is on disk.
    ending: Option<Ending>,
    /// The description that follows it could not be kept.
    undescribed: bool,
    pub(super) source: Source,
    preempt: bool,
}

/// How to receive into an image.
pub(super) struct Settings {
    /// How many pages to touch after the switch.
    pub(super) touches: u64,
    pub(super) preempt: bool,
}

impl Incoming {
    /// `left`: what another process that received the beginning knew.
    pub(super) fn new(
        writer: Writer,
        left: Option<&Left>,
        settings: Settings,
        signals: Signals,
        control: Control,
        live: Live,
        outage: Outage,
    ) -> Self {
        let Settings { touches, preempt } = settings;
        Self {
            writer: Some(writer),
            recorder: left.map_or_else(Recorder::new, |left| Recorder::resumed(&left.facts)),
            memory: Vec::new(),
            discarded: Vec::new(),
            pages: Vec::new(),
            touches,
            touchers: Touchers::default(),
            start: Instant::now(),
            unswitched: Unswitched::default(),
            has_device_state: left.is_some_and(|left| left.has_device_state),
            noted: None,
            trouble: None,
            signals,
            control,
            live,
            outage,
            manifest: None,
            finished: None,
            ending: None,
            undescribed: false,
            source: Source {
                hears: left.is_some(),
                switched: left.is_some(),
                ..Source::default()
            },
            preempt,
        }
    }

    /// Whether to take a stream of which nothing proves that it is whole.
    pub(super) fn accept_unproven_end(mut self, accept: bool) -> Self {
        self.recorder = self.recorder.accept_unproven_end(accept);
        self
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
             have its guest back (a second SIGINT or SIGTERM ends this at once; what has come is kept)"
        ));
        self.touchers.stop();
        self.trouble = Some(why);
    }

    /// What is known of the source.
    fn facts(&mut self) -> Manifest {
        if self.preempt {
            self.recorder.saw_preempt();
        }
        self.recorder.facts()
    }

    /// Without the device state there will be no image, but the guest can be
    /// given back.
    pub(super) fn give_back_without_devices(&mut self) {
        if !self.has_device_state {
            self.put_off("the link broke before the device state was received".into());
        }
    }

    /// Makes the image whole.
    fn seal(&mut self) -> Result<(), String> {
        let facts = self.facts();
        let manifest = self.writer()?.seal(facts);
        self.manifest = Some(manifest.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Gives a whole image its name, if that has not been done.
    pub(super) fn finish(&mut self) {
        if self.ending == Some(Ending::Precopy)
            && !self.undescribed
            && let Err(why) = self.add_description()
        {
            self.lose_description(&why);
        }
        if self.manifest.is_some()
            && let Some(writer) = self.writer.take()
        {
            self.finished = Some(writer.name());
        }
    }

    /// Goes on without the description: nothing needs it.
    fn lose_description(&mut self, why: &str) {
        self.undescribed = true;
        if let Some(writer) = &mut self.writer {
            // The manifest does not name it, so the file can stay.
            let _ = writer.forget_description();
        }
        self.live.say(&format!(
            "retpath receive: {why}; the image is whole, but lacks QEMU's description of the device \
             state"
        ));
    }

    /// Puts the description, which has come behind everything else, into a
    /// whole image.
    fn add_description(&mut self) -> Result<(), String> {
        let cut = self.recorder.is_inside_description();
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if cut {
            return writer.forget_description().map_err(|e| e.to_string());
        }
        match writer.has_description() {
            true => self.seal(),
            false => Ok(()),
        }
    }

    /// Ends without an image: removes what the source has, too. Gives the
    /// folder if it has to stay, because it can be the only copy of the guest.
    pub(super) fn abandon(&mut self) -> Option<PathBuf> {
        let writer = self.writer.take()?;
        let source = self.source;
        let has_guest = source.has_guest || source.keeps;
        if has_guest || !source.switched && !source.done {
            writer.discard();
            return None;
        }
        let path = writer.path().to_owned();
        drop(writer);
        path.exists().then_some(path)
    }

    /// Whether another process can go on with what this one leaves.
    pub(super) fn is_resumable(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::is_resumable)
    }

    /// Notes which pages have come, now and then.
    fn note(&mut self, core: &Destination) {
        let due = self.noted.is_none_or(|last| last.elapsed() >= CHECKPOINT);
        if !due || self.trouble.is_some() || !self.is_resumable() {
            return;
        }
        let blocks = 0..core.blocks().len();
        let received = blocks.filter_map(|id| Some(core.pages().received(id)?.words()));
        let noted = self.writer().map(|writer| writer.checkpoint(received));
        if let Ok(Err(error)) = noted {
            self.put_off(error.to_string());
        }
        self.noted = Some(Instant::now());
    }

    /// Says what a source may wait for that does not switch.
    fn watch(&mut self, core: &Destination) {
        let all = core.blocks().total_pages();
        let pages = core.stats().precopy;
        let gone_through = core.may_await_ack() && all > 0 && core.pages().missing() == 0;
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let Some(seconds) = self.unswitched.handle(now, gone_through.then_some(pages)) else {
            return;
        };
        self.live.say(&format!(
            "retpath receive: all of the guest's memory has come, and its source has gone on for \
             {seconds} s to send what the guest changes; it switches once that fits its \
             downtime-limit, or at `migrate_start_postcopy`; if it does not, its capability \
             switchover-ack is most likely on: `info migrate_capabilities` in its monitor shows \
             it; if so, `migrate_cancel` there, and give this command --switchover-ack or turn the \
             capability off"
        ));
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
    fn memory(&mut self, block: &Block, target: u64) -> Result<Option<Arc<Memory>>, String> {
        let added = self.writer()?.block(block, target);
        added.map_err(|error| error.to_string())?;
        if self.touches == 0 {
            return Ok(None);
        }
        let page = Backing::Anonymous.page_size();
        let memory = Memory::new(Backing::Anonymous, block.len.next_multiple_of(page));
        let memory = Arc::new(memory.map_err(|e| format!("RAM block {}: {e}", block.name))?);
        self.memory.push((block.name.clone(), Arc::clone(&memory)));
        self.pages.push(block.page);
        Ok(Some(memory))
    }

    fn page(&mut self, block: BlockId, offset: u64, content: Content<'_>) -> Result<(), String> {
        // What cannot be kept is not received again, either.
        let Some(writer) = self.writer.as_mut().filter(|_| self.trouble.is_none()) else {
            return Ok(());
        };
        let stored = match content {
            Content::Data(data) => writer.write(block, offset, data),
            Content::Zero(len) => writer.zero(block, offset, len),
        };
        match stored {
            Err(error) if self.source.switched => self.put_off(error.to_string()),
            stored => return stored.map_err(|error| error.to_string()),
        }
        Ok(())
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
            Event::Command(Command::Packaged { .. } | Command::PostcopyRamDiscard { .. })
                if !self.source.switched =>
            {
                self.source.switched = true;
                let facts = self.facts();
                if let Err(error) = self.writer()?.make_returnable(facts) {
                    self.put_off(error.to_string());
                }
            }
            Event::Eof if self.source.switched => self.source.done = true,
            _ => {}
        }
        let Some(writer) = self.writer.as_mut().filter(|_| !self.undescribed) else {
            return Ok(());
        };
        match self.recorder.event(event, writer) {
            // Only the description comes behind a whole image.
            Err(error) if self.ending.is_some() => self.lose_description(&error.to_string()),
            Err(error) if self.source.switched => self.put_off(error.to_string()),
            done => return done.map_err(|error| error.to_string()),
        }
        Ok(())
    }

    fn device_state_complete(&mut self) -> Result<(), String> {
        if self.source.switched {
            let facts = self.facts();
            match self.writer()?.make_resumable(facts) {
                Ok(()) => self.has_device_state = true,
                Err(error) => self.put_off(error.to_string()),
            }
        }
        match &self.trouble {
            // This source has not given its guest up before it hears from here.
            Some(trouble) if self.recorder.asks_loaded() => {
                self.source.keeps = true;
                Err(trouble.clone())
            }
            _ => Ok(()),
        }
    }

    fn preempt(&mut self) {
        self.preempt = true;
    }

    fn device_state_tail(&mut self) -> Result<Tail, String> {
        match &self.writer {
            Some(writer) => self.recorder.tail(writer).map_err(|e| e.to_string()),
            None => Ok(Tail::Open),
        }
    }

    fn run(&mut self) {
        let memory = self.memory.iter().map(|(_, memory)| Arc::clone(memory));
        let (discarded, pages) = (&self.discarded, &self.pages);
        let started = self
            .touchers
            .start(memory.collect(), discarded, pages, self.touches);
        if let Err(error) = started {
            self.live.say(&format!(
                "retpath receive: fewer pages are touched than --touch says: cannot start a \
                 thread: {error}"
            ));
        }
    }

    fn complete(&mut self, core: &Destination, ending: Ending) -> Result<(), String> {
        self.source.done = true;
        self.source.missing = 0;
        self.touchers.finish();
        // Up to 8.2, a source that has sent everything cannot resume: another process must be
        // able to finish the image without it.
        self.noted = None;
        self.note(core);
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
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
        self.source.has_guest = true;
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
        self.watch(core);
        self.source.missing = core.pages().missing();
        self.note(core);
    }

    fn broken(&mut self, core: &Destination, error: &RunError) {
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
        // They read, and nobody looks at what.
        self.touchers.stop();
        true
    }
}
