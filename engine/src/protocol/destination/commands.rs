//! The commands of the forward stream.
//!
//! Mirrors `savevm.c:loadvm_process_command` and the handlers it calls.

use retpath_codec::command::{Command, RangeList, Ranges};
use retpath_codec::{Message, Name};

use super::{
    Action, Channel, Destination, Device, Flaw, MAX_PONGS, PING_LOADED, Phase, Place, Turn, What,
};
use crate::blocks::BlockId;
use crate::release::Release;
use retpath_codec::forward::Subsection;

/// By how many `ram` sections without a page must outnumber those with one before
/// the source counts as waiting for SWITCHOVER_ACK. Other sources were not seen to
/// send empty ones; a waiting source sends hundreds per second.
const EMPTY_PIECES: u32 = 64;

type AnyCommand<'a> = Command<Name<'a>, Ranges<'a>>;

impl Destination {
    pub(super) fn command(
        &mut self,
        command: AnyCommand<'_>,
        what: &'static str,
    ) -> Result<(), Flaw> {
        if self.phase == Phase::Recovering {
            return match command {
                Command::Ping { value } => Ok(self.ping(value)?),
                Command::RecvBitmap { block } => self.recv_bitmap(block),
                Command::PostcopyResume => self.resume(),
                _ => Err(What::OutOfTurn { what }.into()),
            };
        }
        match command {
            Command::OpenReturnPath => self.open_return_path(),
            Command::Ping { value } => self.ping(value)?,
            Command::PostcopyAdvise { sizes: None } => {
                // Dirty bitmaps are postcopied, RAM is not.
                let what = "postcopy of dirty bitmaps alone";
                return Err(What::Unsupported { what }.into());
            }
            Command::PostcopyAdvise { sizes: Some(sizes) } => {
                if !self.blocks.is_empty() {
                    return Err(What::OutOfTurn { what }.into());
                }
                self.turn(Turn::Advise, what)?;
                self.target = sizes.target;
                self.advice = Some(sizes);
            }
            Command::PostcopyRamDiscard { block, ranges } => {
                self.check_summary()?;
                self.turn(Turn::Discard, what)?;
                self.discard(block, &ranges)?;
            }
            Command::Packaged { .. } => {
                let legal = matches!(self.phase, Phase::Advised | Phase::Discarding);
                if !legal || self.in_package || self.device != Device::Arriving {
                    return Err(What::OutOfTurn { what }.into());
                }
                self.in_package = true;
            }
            Command::PostcopyListen => self.listen(what)?,
            Command::PostcopyRun => {
                self.turn(Turn::Run, what)?;
                self.actions.push_back(Action::Run);
                // The last command of its package: should the link break
                // before the package's end is seen, nothing is missing.
                if self.in_package {
                    self.device_state_complete();
                }
            }
            Command::SwitchoverStart if self.phase.is_precopy() => {}
            Command::EnableColo => {
                return Err(What::Unsupported { what }.into());
            }
            Command::SwitchoverStart | Command::PostcopyResume | Command::RecvBitmap { .. } => {
                return Err(What::OutOfTurn { what }.into());
            }
        }
        Ok(())
    }

    /// A second one changes nothing, as in QEMU.
    fn open_return_path(&mut self) {
        if !self.return_path && self.config.switchover_ack {
            self.acknowledge();
        }
        self.return_path = true;
    }

    /// Whether the source may be waiting for a SWITCHOVER_ACK in precopy that has not
    /// been sent.
    pub fn may_await_ack(&self) -> bool {
        let possible = self.config.detect_switchover_ack && !self.acknowledged;
        possible && self.return_path && self.phase.is_precopy()
    }

    fn acknowledge(&mut self) {
        self.requests.say(&Message::SwitchoverAck);
        self.acknowledged = true;
    }

    /// Handles the end of a `ram` section in precopy. With nothing left to send, every
    /// release switches, unless it waits for SWITCHOVER_ACK: then it sends empty
    /// sections (`migration.c:migration_iteration_run`).
    pub(super) fn piece_ended(&mut self) {
        let pages = self.stats.precopy;
        self.empty_pieces = match std::mem::replace(&mut self.piece, pages) == pages {
            true => self.empty_pieces.saturating_add(1),
            false => self.empty_pieces.saturating_sub(1),
        };
        let waits = self.return_path && self.empty_pieces >= EMPTY_PIECES;
        if waits && self.config.detect_switchover_ack && !self.acknowledged {
            self.acknowledge();
        }
    }

    fn ping(&mut self, value: u32) -> Result<(), What> {
        if !self.return_path {
            return Err(What::NoReturnPath { what: "PING" });
        }
        // It asks for the device state, not for the connection.
        if value == PING_LOADED && self.listened && self.device != Device::Saved {
            if self.held >= MAX_PONGS {
                return Err(What::Flood);
            }
            self.held += 1;
            return Ok(());
        }
        self.requests.pong(value)
    }

    /// Answers the PINGs that waited for the device state.
    pub(super) fn release_pongs(&mut self) {
        for _ in 0..std::mem::take(&mut self.held) {
            self.requests.say(&Message::Pong { value: PING_LOADED });
        }
    }

    /// Compares the page sizes with those of POSTCOPY_ADVISE, now that all
    /// blocks are known.
    fn check_summary(&self) -> Result<(), What> {
        let ours = self.blocks.page_summary();
        match self.advice {
            Some(advice) if advice.summary != ours => {
                let theirs = advice.summary;
                Err(What::PageSummary { ours, theirs })
            }
            _ => Ok(()),
        }
    }

    fn discard(&mut self, name: Name<'_>, ranges: &Ranges<'_>) -> Result<(), Flaw> {
        let id = self.named(name)?;
        let page = self.blocks.block(id).map_err(What::Block)?.page;
        for range in ranges.iter() {
            self.blocks
                .check(id, range.start, range.len, page)
                .map_err(|error| self.at(id, range.start, What::Block(error)))?;
        }
        for range in ranges.iter() {
            self.stats.discarded += self.pages.discard(id, range.start, range.len);
            self.actions.push_back(Action::Discard {
                block: id,
                start: range.start,
                len: range.len,
            });
        }
        Ok(())
    }

    fn listen(&mut self, what: &'static str) -> Result<(), Flaw> {
        if !self.return_path {
            return Err(What::NoReturnPath { what }.into());
        }
        self.check_summary()?;
        for id in 0..self.blocks.len() {
            if let Some(offset) = self.pages.torn(id) {
                return Err(self.at(id, offset, What::Torn));
            }
        }
        self.turn(Turn::Listen, what)?;
        self.listened = true;
        self.unplug();
        self.actions.push_back(Action::Listen);
        Ok(())
    }

    pub(super) fn package_end(&mut self) -> Result<(), What> {
        if !self.in_package || !self.listened {
            let what = "the end of a package without POSTCOPY_LISTEN";
            return Err(What::OutOfTurn { what });
        }
        self.in_package = false;
        self.device_state_complete();
        Ok(())
    }

    /// All device state there will be is here.
    pub(super) fn device_state_complete(&mut self) {
        if self.device == Device::Arriving {
            self.device = Device::Complete;
            self.actions.push_back(Action::DeviceStateComplete);
        }
    }

    /// The machine type. From 11.1 on, a source waits for devices that ask for
    /// it, each of which answers for itself; there are none here.
    pub(super) fn machine(&mut self, name: &[u8]) {
        let release = Release::of(name);
        if self.config.detect_switchover_ack {
            self.config.switchover_ack |= release.is_some_and(Release::takes_ack);
            self.config.detect_switchover_ack = release.is_none_or(Release::waits_for_one_ack);
        }
        self.config.switchover_ack &= release.is_none_or(Release::waits_for_one_ack);
        self.config.give_back &= release.is_none_or(Release::may_pause_at_switch);
    }

    pub(super) fn subsection(&mut self, subsection: &Subsection<'_>) -> Result<(), What> {
        if let Subsection::TargetPageBits(bits) = *subsection {
            if !self.blocks.is_empty() {
                let what = "the configuration";
                return Err(What::OutOfTurn { what });
            }
            // A size that is none is refused with the first block.
            self.target = 1_u64.checked_shl(bits).unwrap_or(0);
        }
        Ok(())
    }

    /// The number of a block that a command names.
    pub(super) fn named(&self, name: Name<'_>) -> Result<BlockId, Flaw> {
        self.blocks.find(name).ok_or_else(|| Flaw {
            what: What::UnknownBlock,
            place: Some(Place {
                block: name.to_buf(),
                offset: None,
            }),
        })
    }

    /// The device state is where a crash cannot reach it, or in the devices:
    /// the source may give up its guest.
    ///
    /// # Errors
    ///
    /// [`What::NothingToSave`] before [`Action::DeviceStateComplete`].
    pub fn device_state_saved(&mut self) -> Result<(), super::Error> {
        match self.device {
            Device::Arriving | Device::Lost => {
                return Err(self.give_up(None, What::NothingToSave.into()));
            }
            Device::Complete => self.device = Device::Saved,
            Device::Saved => return Ok(()),
        }
        // Without a link they go out after POSTCOPY_RESUME.
        if self.phase.is_live() {
            self.release_pongs();
        }
        self.settle()
            .map_err(|flaw| self.give_up(Some(Channel::Main), flaw))
    }
}
