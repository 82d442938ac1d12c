//! The commands of the forward stream.
//!
//! Mirrors `savevm.c:loadvm_process_command` and the handlers it calls.

use retpath_codec::command::{Command, RangeList, Ranges};
use retpath_codec::forward::Subsection;
use retpath_codec::wire::value::PING_PACKAGE_LOADED;
use retpath_codec::{Message, Name};

use super::requests::FLOOD;
use super::{
    Action, Cause, Channel, Destination, Device, ErrorKind, MAX_PONGS, MainStream, Phase,
    ReturnPath,
};
use crate::blocks::{BlockError, BlockId, Span};
use crate::release::Release;

/// Number of `ram` sections without pages, minus those with pages, from which on the
/// source counts as waiting for SWITCHOVER_ACK. Other sources were not seen to send empty
/// sections; a waiting source sends hundreds per second.
const EMPTY_PIECES: u32 = 64;

impl Destination {
    pub(super) fn command(
        &mut self,
        command: Command<Name<'_>, Ranges<'_>>,
        what: &'static str,
    ) -> Result<(), Cause> {
        if self.phase == Phase::Recovering {
            return match command {
                Command::Ping { value } => Ok(self.ping(value)?),
                Command::RecvBitmap { block } => self.recv_bitmap(block),
                Command::PostcopyResume => self.resume(),
                _ => Err(ErrorKind::OutOfTurn { what }.into()),
            };
        }
        match command {
            Command::OpenReturnPath => self.open_return_path(),
            Command::Ping { value } => self.ping(value)?,
            Command::PostcopyAdvise { sizes: None } => {
                // Postcopy of dirty bitmaps, not of RAM.
                let what = "postcopy of dirty bitmaps alone";
                return Err(ErrorKind::Unsupported { what }.into());
            }
            Command::PostcopyAdvise { sizes: Some(sizes) } => {
                if !self.blocks.is_empty() {
                    return Err(ErrorKind::OutOfTurn { what }.into());
                }
                self.advance(Phase::Advised, what)?;
                self.config.target_page = sizes.target;
                self.advice = Some(sizes);
            }
            Command::PostcopyRamDiscard { block, ranges } => {
                self.check_summary()?;
                self.advance(Phase::Discarding, what)?;
                self.discard(block, &ranges)?;
            }
            Command::Packaged { .. } => {
                let legal = matches!(self.phase, Phase::Advised | Phase::Discarding);
                if !legal || self.main != MainStream::Open || self.device != Device::Arriving {
                    return Err(ErrorKind::OutOfTurn { what }.into());
                }
                self.main = MainStream::Package;
            }
            Command::PostcopyListen => self.listen(what)?,
            Command::PostcopyRun => {
                self.advance(Phase::Running, what)?;
                self.actions.push_back(Action::Run);
                // The last command of its package: the device state is complete even if the
                // connection is lost before the end of the package.
                if self.main == MainStream::Package {
                    self.device_state_complete();
                }
            }
            Command::SwitchoverStart if self.phase.is_precopy() => {}
            Command::EnableColo => {
                return Err(ErrorKind::Unsupported { what }.into());
            }
            Command::SwitchoverStart | Command::PostcopyResume | Command::RecvBitmap { .. } => {
                return Err(ErrorKind::OutOfTurn { what }.into());
            }
        }
        Ok(())
    }

    /// Handles OPEN_RETURN_PATH. As in QEMU, a repetition has no effect.
    fn open_return_path(&mut self) {
        if self.has_return_path() {
            return;
        }
        self.return_path = ReturnPath::Open;
        if self.config.switchover_ack {
            self.acknowledge();
        }
    }

    /// Whether the source may be waiting for a SWITCHOVER_ACK in precopy that has not
    /// been sent.
    pub fn may_await_ack(&self) -> bool {
        self.config.detect_switchover_ack
            && self.return_path == ReturnPath::Open
            && self.phase.is_precopy()
    }

    fn acknowledge(&mut self) {
        self.requests.say(&Message::SwitchoverAck);
        self.return_path = ReturnPath::Acknowledged;
    }

    /// Handles the end of a `ram` section. With nothing left to send in precopy, every
    /// release switches, unless it waits for SWITCHOVER_ACK: then it sends empty
    /// sections (`migration.c:migration_iteration_run`).
    pub(super) fn piece_ended(&mut self) {
        if !self.may_await_ack() {
            return;
        }
        let pages = self.stats.precopy;
        self.empty_pieces = match std::mem::replace(&mut self.piece, pages) == pages {
            true => self.empty_pieces.saturating_add(1),
            false => self.empty_pieces.saturating_sub(1),
        };
        if self.empty_pieces >= EMPTY_PIECES {
            self.acknowledge();
        }
    }

    fn ping(&mut self, value: u32) -> Result<(), ErrorKind> {
        if !self.has_return_path() {
            return Err(ErrorKind::NoReturnPath { what: "PING" });
        }
        // This value asks whether the device state is loaded.
        if value == PING_PACKAGE_LOADED && self.listening && self.device != Device::Saved {
            if self.held >= MAX_PONGS {
                return Err(ErrorKind::Violation(FLOOD));
            }
            self.held += 1;
            return Ok(());
        }
        self.requests.pong(value)
    }

    /// Answers the PINGs that wait for the device state.
    pub(super) fn release_pongs(&mut self) {
        let value = PING_PACKAGE_LOADED;
        for _ in 0..std::mem::take(&mut self.held) {
            self.requests.say(&Message::Pong { value });
        }
    }

    /// Compares the page sizes with those of POSTCOPY_ADVISE, once all blocks are known.
    fn check_summary(&self) -> Result<(), ErrorKind> {
        let ours = self.blocks.page_summary();
        match self.advice {
            Some(advice) if advice.summary != ours => {
                let theirs = advice.summary;
                Err(ErrorKind::PageSummary { ours, theirs })
            }
            _ => Ok(()),
        }
    }

    fn discard(&mut self, name: Name<'_>, ranges: &Ranges<'_>) -> Result<(), Cause> {
        let id = self.named(name)?;
        let page = self.blocks.block(id)?.page;
        let spans = ranges.iter().map(|range| Span {
            block: id,
            offset: range.start,
            len: range.len,
        });
        for span in spans.clone() {
            self.check(span, page)?;
        }
        for span in spans {
            self.stats.discarded += self.pages.discard(span);
            self.actions.push_back(Action::Discard(span));
        }
        Ok(())
    }

    fn listen(&mut self, what: &'static str) -> Result<(), Cause> {
        if !self.has_return_path() {
            return Err(ErrorKind::NoReturnPath { what }.into());
        }
        self.check_summary()?;
        for id in 0..self.blocks.len() {
            if let Some(offset) = self.pages.torn(id) {
                let what = "the host page was only partly received or discarded";
                return Err(self.at(id, offset, ErrorKind::Violation(what)));
            }
        }
        self.advance(Phase::Listening, what)?;
        self.listening = true;
        self.unplug();
        self.actions.push_back(Action::Listen);
        Ok(())
    }

    pub(super) fn package_end(&mut self) -> Result<(), ErrorKind> {
        if self.main != MainStream::Package || !self.listening {
            let what = "the end of a package without POSTCOPY_LISTEN";
            return Err(ErrorKind::OutOfTurn { what });
        }
        self.main = MainStream::Open;
        self.device_state_complete();
        Ok(())
    }

    /// Handles the end of the device state.
    pub(super) fn device_state_complete(&mut self) {
        if self.device == Device::Arriving {
            self.device = Device::Complete;
            self.actions.push_back(Action::DeviceStateComplete);
        }
    }

    /// Handles the machine type. From 11.1 on, a source waits for an acknowledgement of each
    /// device that requires one; there are none here.
    pub(super) fn machine(&mut self, name: &[u8]) {
        let release = Release::of(name);
        if self.config.detect_switchover_ack {
            self.config.switchover_ack |= release.is_some_and(Release::takes_ack);
            self.config.detect_switchover_ack = release.is_none_or(Release::waits_for_one_ack);
        }
        self.config.switchover_ack &= release.is_none_or(Release::waits_for_one_ack);
        self.config.give_back &= release.is_none_or(Release::may_pause_at_switch);
    }

    pub(super) fn subsection(&mut self, subsection: &Subsection<'_>) -> Result<(), ErrorKind> {
        if let Subsection::TargetPageBits(bits) = *subsection {
            if !self.blocks.is_empty() {
                let what = "the configuration";
                return Err(ErrorKind::OutOfTurn { what });
            }
            // An invalid size is refused with the first block.
            self.config.target_page = 1_u64.checked_shl(bits).unwrap_or(0);
        }
        Ok(())
    }

    /// The block that a command names.
    pub(super) fn named(&self, name: Name<'_>) -> Result<BlockId, Cause> {
        self.blocks
            .find(name)
            .ok_or_else(|| Cause::in_block(name, BlockError::Unknown))
    }

    /// Reports that the device state is loaded, or stored where a crash cannot lose it:
    /// the source may give up its guest.
    ///
    /// # Errors
    ///
    /// Called before [`Action::DeviceStateComplete`].
    pub fn device_state_saved(&mut self) -> Result<(), super::Error> {
        match self.device {
            Device::Arriving | Device::Lost => {
                let kind = ErrorKind::Misuse("the device state is not complete");
                return Err(self.give_up(None, kind.into()));
            }
            Device::Complete => self.device = Device::Saved,
            Device::Saved => return Ok(()),
        }
        // Without a connection they are sent after POSTCOPY_RESUME.
        if self.phase.is_live() {
            self.release_pongs();
        }
        self.guard(Some(Channel::Main), Self::settle)
    }
}
