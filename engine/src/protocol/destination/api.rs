//! What goes into the destination core and comes out of it, besides calls.

use retpath_codec::NameBuf;

use super::DEFAULT_MAX_RAM;
use crate::blocks::BlockId;

/// What the stream does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether urgent pages come on a channel of their own.
    pub preempt: bool,
    /// Whether the source waits for SWITCHOVER_ACK. It goes out with
    /// OPEN_RETURN_PATH, unless the machine type is one of 11.1 or newer: with
    /// those an answer that no device has asked for is an error.
    pub switchover_ack: bool,
    /// Whether to detect that the source waits for SWITCHOVER_ACK. With a machine type
    /// of 8.1 to 11.0 it is always sent: such a source accepts it whether it waits or
    /// not. With others it is sent once the source has nothing left to send and does
    /// not switch.
    pub detect_switchover_ack: bool,
    /// Whether a stream may end without a switch to postcopy.
    pub accept_precopy_end: bool,
    /// Target page size in bytes, if the stream does not say it.
    pub target_page: u64,
    /// Host page size in bytes of the blocks that are not in `page_sizes`.
    pub host_page: u64,
    /// Host page sizes in bytes of blocks with other pages.
    pub page_sizes: Vec<(NameBuf, u64)>,
    /// Limit for the RAM of all blocks, in bytes.
    pub max_ram: u64,
    /// Whether SHUT(0) waits for [`Destination::confirm`](super::Destination::confirm):
    /// where what has been received must be put somewhere first.
    pub confirm_end: bool,
    /// Whether a migration whose link broke after the source had stopped its
    /// guest, but before the device state was here, waits for a new link. Up to
    /// QEMU 10.1 such a source can be paused, and only its destination can end
    /// that: every page is received again, and then the source is told, with
    /// SHUT(1), that it has its guest back. From machine types of 10.2 on the
    /// migration fails at once, as it does without this setting.
    pub give_back: bool,
}

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

/// What the end of what has come of the device state looks like, in a precopy
/// stream without footers: nothing in front of it says how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// More must come.
    Open,
    /// This may be all, or not.
    Unclear,
    /// This is all: the description of it has come behind it.
    Whole,
}

/// What has to be done with memory now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement<'a> {
    /// Nothing.
    None,
    /// Before LISTEN: write `data`, one target page.
    Write {
        /// RAM block.
        block: BlockId,
        /// Offset in it, in bytes.
        offset: u64,
        /// What to write.
        data: &'a [u8],
    },
    /// Before LISTEN: the target page must read as zeros. It counts as
    /// received: if the memory is not there, a later fault on it is
    /// [`Present`](super::Fault::Present).
    Clear {
        /// RAM block.
        block: BlockId,
        /// Offset in it, in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Place one host page (`UFFDIO_COPY`), then call [`placed`](super::Destination::placed).
    Copy {
        /// RAM block.
        block: BlockId,
        /// Offset in it, in bytes.
        offset: u64,
        /// The host page.
        data: &'a [u8],
    },
    /// Place one host page of zeros (`UFFDIO_ZEROPAGE`, or a copy of zeros),
    /// then call [`placed`](super::Destination::placed).
    Zero {
        /// RAM block.
        block: BlockId,
        /// Offset in it, in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
}

/// What a placement found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// Nothing: the pages are in place now.
    New,
    /// Pages of so many bytes (`EEXIST`): they were left as they are, and the
    /// others are in place now.
    Present(u64),
}

/// What has to be done besides placing pages, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A new block: provide its memory; see [`blocks`](super::Destination::blocks).
    Block {
        /// Its number.
        id: BlockId,
    },
    /// Forget the contents of a range of whole host pages: an access must
    /// fault after LISTEN.
    Discard {
        /// RAM block.
        block: BlockId,
        /// Start in it, in bytes.
        start: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Trap accesses to missing pages of all blocks, and read the preempt
    /// channel if there is one. No block is added after this.
    Listen,
    /// The guest may run.
    Run,
    /// The device state is complete: make it safe, then call
    /// [`device_state_saved`](super::Destination::device_state_saved). Comes once, device state or not.
    DeviceStateComplete,
    /// With [`Config::confirm_end`]: every page and the device state are here,
    /// and nothing will be placed any more. Make it safe, then call
    /// [`Destination::confirm`](super::Destination::confirm). Comes once.
    Complete(Ending),
    /// Success; write the outbox, whose last message is SHUT(0). A source that
    /// ended in precopy may still be sending its description: read on until it
    /// closes the connection. Comes once.
    Finished(Ending),
}

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Without a switch. Pages that never came read as zeros; only a stream
    /// without POSTCOPY_ADVISE may leave some out.
    Precopy,
    /// After a switch, with every page received.
    Postcopy,
}
