//! The machine that is being received: pages are written to the image as they arrive.
//!
//! The guest does not run here. Received pages are in their block's file, so after the switch to
//! postcopy another process can continue where this one ended. Only `--touch` also needs memory,
//! which is filled under userfaultfd as a guest's would be. The source is told that the migration is
//! over once the image is complete and on disk; in postcopy, also named.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retpath_codec::NameBuf;

use super::live::Live;
use super::notices::{Outage, Refusals, Unswitched};
use super::outcome::Source;
use super::resume::Unfinished;
use super::touch::Touchers;
use crate::signals::Signals;
use retpath_engine::bits::Bits;
use retpath_engine::destination::{Destination, Ending};
use retpath_engine::driver::{Control, HandlerError};
use retpath_engine::memory::Memory;
use retpath_image::{Finished, Manifest, Recorder, Writer};

mod handler;

/// Interval between checkpoints of the received bitmaps, for `--continue`.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// A machine that is received into an image.
pub(super) struct Incoming {
    writer: Option<Writer>,
    recorder: Recorder,
    memory: Vec<(NameBuf, Arc<Memory>)>,
    /// The pages of each block that the source sends after the switch.
    discarded: Vec<Bits>,
    /// Page sizes of the blocks.
    pages: Vec<u64>,
    touches: u64,
    touchers: Touchers,
    start: Instant,
    unswitched: Unswitched,
    /// Whether the device state is complete and on disk, after the switch.
    has_device_state: bool,
    /// Time of the last checkpoint.
    noted: Option<Instant>,
    /// Why there will be no image; the migration continues. From the switch until it has sent
    /// everything, a source that loses its destination cannot run its guest again.
    trouble: Option<HandlerError>,
    signals: Signals,
    control: Control,
    live: Live,
    outage: Outage,
    refusals: Refusals,
    /// Whether a connection could not be accepted.
    accept_failed: bool,
    /// The image's manifest, once it is complete.
    pub(super) manifest: Option<Manifest>,
    /// Path of the image, once it has its name.
    pub(super) finished: Option<Finished>,
    /// How the migration ended, as soon as everything is on disk.
    ending: Option<Ending>,
    /// The description that follows the device state could not be kept.
    undescribed: bool,
    pub(super) source: Source,
    preempt: bool,
}

impl Incoming {
    /// `touches` is the number of pages to touch after the switch. `left` is the state of an earlier
    /// process that received the beginning.
    pub(super) fn new(
        writer: Writer,
        left: Option<&Unfinished>,
        (touches, preempt): (u64, bool),
        signals: Signals,
        control: Control,
        live: Live,
        outage: Outage,
    ) -> Self {
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
            refusals: Refusals::default(),
            accept_failed: false,
            manifest: None,
            finished: None,
            ending: None,
            undescribed: false,
            source: Source {
                has_return_path: left.is_some(),
                switched: left.is_some(),
                ..Source::default()
            },
            preempt,
        }
    }

    /// Sets whether to accept a stream that does not mark its end.
    pub(super) fn accept_unproven_end(mut self, accept: bool) -> Self {
        self.recorder = self.recorder.accept_unproven_end(accept);
        self
    }

    fn writer(&mut self) -> Result<&mut Writer, String> {
        let gone = || "the image is already finished".to_owned();
        self.writer.as_mut().ok_or_else(gone)
    }

    /// Records that there will be no image, and lets the source send the rest.
    fn put_off(&mut self, why: impl Into<HandlerError>) {
        let why = why.into();
        if self.trouble.is_some() {
            return;
        }
        self.live.say(&format!(
            "retpath receive: {why}; exiting once the source has sent everything, so that it can \
             run its guest again (a second SIGINT or SIGTERM exits at once; the pages received so \
             far are kept)"
        ));
        self.touchers.stop();
        self.trouble = Some(why);
    }

    /// The facts about the source that go into the manifest.
    fn facts(&mut self) -> Manifest {
        if self.preempt {
            self.recorder.saw_preempt();
        }
        self.recorder.facts()
    }

    /// Gives up the image if the device state is missing; the guest can be given back.
    pub(super) fn give_back_without_devices(&mut self) {
        if !self.has_device_state {
            self.put_off("the link broke before the device state was received");
        }
    }

    /// Completes the image.
    fn seal(&mut self) -> Result<(), String> {
        let facts = self.facts();
        let manifest = self.writer()?.seal(facts);
        self.manifest = Some(manifest.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Gives a complete image its name, if that has not been done.
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

    /// Continues without the description, which nothing needs. Its file stays, because the manifest
    /// may already name it.
    fn lose_description(&mut self, why: &str) {
        self.undescribed = true;
        self.live.say(&format!(
            "retpath receive: {why}; the image is complete, but QEMU's description of the device \
             state may be missing"
        ));
    }

    /// Adds the description, which follows everything else, to a complete image.
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

    /// Ends without an image: removes data that the source still has. Returns the folder if it stays
    /// because it may hold the only copy of the guest.
    pub(super) fn abandon(&mut self) -> Option<PathBuf> {
        let writer = self.writer.take()?;
        let source = self.source;
        // In precopy, a source with a return path runs its guest on when the connection closes.
        let runs_on = !source.switched && (source.has_return_path || !source.done);
        if source.keeps || runs_on {
            writer.discard();
            return None;
        }
        // Also in precopy: the source believes that the migration is over, and its user may have
        // ended it.
        let path = writer.path().to_owned();
        writer.keep();
        Some(path)
    }

    /// Whether another process can continue this migration.
    pub(super) fn is_resumable(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::is_resumable)
    }

    /// Checkpoints the received bitmaps, once per [`CHECKPOINT`].
    fn note(&mut self, core: &Destination) {
        let due = self.noted.is_none_or(|last| last.elapsed() >= CHECKPOINT);
        if !due || self.trouble.is_some() || !self.is_resumable() {
            return;
        }
        let blocks = 0..core.blocks().len();
        let received = blocks.filter_map(|id| core.pages().received(id));
        let noted = self.writer().map(|writer| writer.checkpoint(received));
        if let Ok(Err(error)) = noted {
            self.put_off(error);
        }
        self.noted = Some(Instant::now());
    }

    /// Reports a source that does not switch, with the likely cause.
    fn watch(&mut self, core: &Destination) {
        let all = core.blocks().total_pages();
        let pages = core.stats().precopy;
        let gone_through = core.may_await_ack() && all > 0 && core.pages().missing() == 0;
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let Some(seconds) = self.unswitched.handle(now, gone_through.then_some(pages)) else {
            return;
        };
        self.live.say(&format!(
            "retpath receive: all of the guest's memory has been received, and the source has been \
             sending changed pages for {seconds} s; it switches once the rest fits its \
             downtime-limit, or at `migrate_start_postcopy`; if it does not, its capability \
             switchover-ack is most likely on (`info migrate_capabilities` in its monitor shows \
             it): then run `migrate_cancel` there, and pass --switchover-ack here or turn the \
             capability off"
        ));
    }

    /// Whether everything of the image is on disk.
    pub(super) fn is_complete(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    pub(super) fn touched(&self) -> u64 {
        self.touchers.touched()
    }

    /// Removes the live line.
    pub(super) fn quiet(&mut self) {
        self.live.clear();
    }
}
