//! Settings, placements and actions of the destination core.

use retpath_codec::NameBuf;

use super::DEFAULT_MAX_RAM;
use crate::blocks::{BlockId, Span};

/// Settings that the stream does not contain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Whether requested pages come on a preempt channel.
    pub preempt: bool,
    /// Whether the source waits for SWITCHOVER_ACK. It is sent on OPEN_RETURN_PATH, unless
    /// the machine type is 11.1 or newer: these treat an acknowledgement that no device
    /// requires as an error.
    pub switchover_ack: bool,
    /// Whether to detect that the source waits for SWITCHOVER_ACK. With a machine type
    /// of 8.1 to 11.0 it is always sent: such a source accepts it whether it waits or
    /// not. With others it is sent once the source has nothing left to send and does
    /// not switch.
    pub detect_switchover_ack: bool,
    /// Whether a stream may end without a switch to postcopy.
    pub accept_precopy_end: bool,
    /// Target page size in bytes, if the stream does not contain it.
    pub target_page: u64,
    /// Host page size in bytes of the blocks that are not in `page_sizes`.
    pub host_page: u64,
    /// Names and host page sizes in bytes of the other blocks.
    pub page_sizes: Vec<(NameBuf, u64)>,
    /// Limit for the RAM of all blocks, in bytes.
    pub max_ram: u64,
    /// Whether SHUT(0) waits for [`Destination::confirm`](super::Destination::confirm), for
    /// an embedder that has to store what was received first.
    pub confirm_end: bool,
    /// Whether a migration waits for a new connection if the old one was lost after the
    /// source had stopped its guest, but before the device state was received.
    ///
    /// Up to QEMU 10.1 such a source can be paused, and only its destination can end that:
    /// every page is received again, and then the source is told with SHUT(1) that it may
    /// run its guest again. For machine types from 10.2 on the migration fails immediately,
    /// as it does without this setting.
    pub give_back: bool,
}

setters!(Config {
    preempt: bool, switchover_ack: bool, detect_switchover_ack: bool, accept_precopy_end: bool,
    target_page: u64, host_page: u64, page_sizes: Vec<(NameBuf, u64)>, max_ram: u64,
    confirm_end: bool, give_back: bool,
});

impl Default for Config {
    fn default() -> Self {
        Self {
            preempt: false,
            switchover_ack: false,
            detect_switchover_ack: false,
            accept_precopy_end: true,
            target_page: 4096,
            host_page: 4096,
            page_sizes: Vec::new(),
            max_ram: DEFAULT_MAX_RAM,
            confirm_end: false,
            give_back: false,
        }
    }
}

/// Whether device state in a precopy stream without footers is complete. Its length is not
/// in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// More must follow.
    Open,
    /// It may be complete or not.
    Unclear,
    /// It is complete: its description follows it.
    Whole,
}

/// The content of one or more pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// This many zero bytes.
    Zero(u64),
}

impl Content<'_> {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Zero(len) => *len,
        }
    }
}

/// Pages to store in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement<'a> {
    /// RAM block.
    pub block: BlockId,
    /// Offset in the block, in bytes.
    pub offset: u64,
    /// What to store.
    pub content: Content<'a>,
    /// Whether POSTCOPY_LISTEN has come, so that threads may wait for the pages: place
    /// whole host pages atomically (`UFFDIO_COPY`, `UFFDIO_ZEROPAGE`), then call
    /// [`placed`](super::Destination::placed).
    ///
    /// Otherwise this is one target page, to be written in place. A zero page counts as
    /// received even if its memory is not allocated; a later fault on it is
    /// [`Present`](super::PageState::Present).
    pub atomic: bool,
}

impl Placement<'_> {
    /// The range of RAM.
    pub fn span(&self) -> Span {
        Span {
            block: self.block,
            offset: self.offset,
            len: self.content.size(),
        }
    }
}

/// An action other than placing pages. Carry actions out in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Provide memory for a new block; see [`blocks`](super::Destination::blocks).
    Block {
        /// Its number.
        id: BlockId,
    },
    /// Drop the contents of a range of whole host pages: an access must fault after LISTEN.
    Discard(Span),
    /// Trap accesses to missing pages of all blocks, and read the preempt
    /// channel if there is one. No block is added after this.
    Listen,
    /// The guest may run.
    Run,
    /// The device state is complete: load or store it, then call
    /// [`device_state_saved`](super::Destination::device_state_saved). Returned once, even
    /// without device state.
    DeviceStateComplete,
    /// With [`Config::confirm_end`]: every page and the device state have been received,
    /// and nothing will be placed any more. Store them, then call
    /// [`Destination::confirm`](super::Destination::confirm). Returned once.
    Complete(Ending),
    /// The migration succeeded: write the outbox, whose last message is SHUT(0). A source
    /// that ended in precopy may still send its description: read until it closes the
    /// connection. Returned once.
    Finished(Ending),
}

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Without a switch to postcopy. Pages that were not received read as zeros; only a
    /// stream without POSTCOPY_ADVISE may leave some out.
    Precopy,
    /// After a switch to postcopy, with every page received.
    Postcopy,
}
