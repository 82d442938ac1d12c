//! Messages of the return path, and the latency of faults.
//!
//! A host page is requested at most once on each connection: the `requested` bit of
//! [`Pages`] guards the first request, and after a recovery a cursor passes over these bits
//! once. REQ_PAGES_ID is for the first request of a connection and whenever the block
//! changes, REQ_PAGES for the others (`migration.c:migrate_send_rp_req_pages`).
//!
//! The outbox grows with requested pages, with PONGs (at most [`MAX_PONGS`]) and with
//! received bitmaps.

use std::collections::HashMap;

use retpath_codec::{BlockName, Encode, Message, Name, bitmap};

use super::error::Cause;
use super::phase::OVER;
use super::{Destination, Error, ErrorKind, MAX_PONGS, MAX_TIMED, PageState, Phase};
use crate::bits::Bits;
use crate::blocks::{Block, BlockId, Blocks, Span};
use crate::pages::Pages;
use crate::stats::{FaultLatency, Stats};

/// Size up to which repeated requests fill the outbox at once, in bytes.
const REPEAT_CHUNK: usize = 16 * 1024;

/// The error about too many PINGs.
pub(super) const FLOOD: &str = "the source sends PINGs faster than it reads PONGs";

/// A host page: its block and offset.
type Page = (BlockId, u64);

/// The sending end of the return path.
#[derive(Debug, Default)]
pub(super) struct Requests {
    out: Vec<u8>,
    /// Number of PONGs since [`Requests::written`].
    pongs: usize,
    /// The block of the last request on this connection.
    last: Option<BlockId>,
    /// The page from which on pending requests have to be repeated.
    repeat: Option<Page>,
    /// Whether SHUT, the last message, has been sent.
    shut: bool,
    waits: HashMap<Page, Wait>,
    /// Requests since [`Requests::written`].
    unwritten: Vec<Page>,
}

/// The times of a fault that waits for its page.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: u64,
    written: Option<u64>,
}

impl Requests {
    /// Appends a message, unless SHUT has been sent.
    pub(super) fn say(&mut self, message: &Message<Name<'_>>) {
        if self.shut {
            return;
        }
        message
            .encode(&mut self.out)
            .expect("ranges lie inside their block, and names have been checked");
    }

    /// Answers a PING.
    pub(super) fn pong(&mut self, value: u32) -> Result<(), ErrorKind> {
        if self.pongs >= MAX_PONGS {
            return Err(ErrorKind::Violation(FLOOD));
        }
        self.pongs += 1;
        self.say(&Message::Pong { value });
        Ok(())
    }

    /// Sends SHUT, the last message.
    pub(super) fn shut(&mut self, value: u32) {
        self.repeat = None;
        self.say(&Message::Shut { value });
        self.shut = true;
    }

    /// Sends a block's received bitmap.
    pub(super) fn bitmap(&mut self, block: &Block, received: &Bits) {
        self.say(&Message::RecvBitmap {
            block: block.name.name(),
        });
        bitmap::encode_words(&received.words(), &mut self.out)
            .expect("a block has at least one page");
    }

    /// Requests a host page, unless the repetition will request it.
    pub(super) fn request(&mut self, id: BlockId, block: &Block, offset: u64, stats: &mut Stats) {
        if self.repeat.is_some_and(|cursor| (id, offset) >= cursor) {
            return;
        }
        self.send_request(id, block, offset, stats);
    }

    fn send_request(&mut self, id: BlockId, block: &Block, offset: u64, stats: &mut Stats) {
        let len = u32::try_from(block.page).expect("larger pages are refused with their block");
        let (start, block) = (offset, block.name.name());
        if self.last.replace(id) == Some(id) {
            self.say(&Message::ReqPages { start, len });
        } else {
            self.say(&Message::ReqPagesId { start, len, block });
        }
        stats.requests += 1;
        if self.waits.contains_key(&(id, offset)) && self.unwritten.len() < MAX_TIMED {
            self.unwritten.push((id, offset));
        }
    }

    /// Requests all pending pages once, as the outbox is drained.
    pub(super) fn repeat_all(&mut self) {
        self.repeat = Some((0, 0));
    }

    /// The outbox, filled up with requests that have to be repeated.
    pub(super) fn outbox(
        &mut self,
        blocks: &Blocks,
        pages: &Pages,
        stats: &mut Stats,
    ) -> &mut Vec<u8> {
        while self.out.len() < REPEAT_CHUNK {
            let Some((id, offset)) = self.repeat else {
                break;
            };
            let Ok(block) = blocks.block(id) else {
                self.repeat = None;
                break;
            };
            let rest = Span {
                block: id,
                offset,
                len: block.len - offset,
            };
            match pages.first_requested_in(rest) {
                Some(page) => {
                    self.repeat = Some((id, page + block.page));
                    self.send_request(id, block, page, stats);
                    stats.requests_repeated += 1;
                }
                None => self.repeat = Some((id + 1, 0)),
            }
        }
        &mut self.out
    }

    /// Drops the state of the connection, and everything that is not sent.
    pub(super) fn forget_link(&mut self) {
        self.out.clear();
        self.pongs = 0;
        self.last = None;
        self.repeat = None;
        self.shut = false;
        self.unwritten.clear();
        for wait in self.waits.values_mut() {
            wait.written = None;
        }
    }

    /// Starts to time a fault.
    pub(super) fn wait(&mut self, id: BlockId, offset: u64, now: u64) {
        if self.waits.len() < MAX_TIMED {
            let (since, written) = (now, None);
            self.waits.insert((id, offset), Wait { since, written });
        }
    }

    /// Records that the outbox has been written.
    pub(super) fn written(&mut self, now: u64) {
        self.pongs = 0;
        for page in self.unwritten.drain(..) {
            if let Some(wait) = self.waits.get_mut(&page) {
                wait.written = Some(now);
            }
        }
    }

    /// Records the latency of a page that was waited for.
    pub(super) fn served(
        &mut self,
        page: Page,
        complete: u64,
        now: u64,
        latency: &mut FaultLatency,
    ) {
        let Some(wait) = self.waits.remove(&page) else {
            return;
        };
        latency.total.record(now.saturating_sub(wait.since));
        if let Some(written) = wait.written {
            latency.request.record(written.saturating_sub(wait.since));
            latency.transfer.record(complete.saturating_sub(written));
        }
        latency.placement.record(now.saturating_sub(complete));
    }
}

impl Destination {
    /// Handles a thread's access to a missing page at `offset`. Returns whether the page is
    /// requested by this call, was requested before (the placement will wake the thread),
    /// or is present.
    ///
    /// If it is present, wake the thread. If the kernel has no page there, the page was
    /// zero before LISTEN or is unplugged: place it as zeros. While the connection is down,
    /// requests wait until it is restored.
    ///
    /// # Errors
    ///
    /// An error of the caller if there is no such page, before POSTCOPY_LISTEN, and if the
    /// page will never be received because the migration has failed.
    pub fn fault(&mut self, block: BlockId, offset: u64, now: u64) -> Result<PageState, Error> {
        self.guard(None, |core| core.touch(block, offset, now))
    }

    fn touch(&mut self, id: BlockId, offset: u64, now: u64) -> Result<PageState, Cause> {
        let refuse = |what| Err(self.at(id, offset, ErrorKind::Misuse(what)));
        let block = match self.blocks.block(id) {
            Ok(block) if offset < block.len => block,
            _ => return refuse("no such page"),
        };
        let start = offset - offset % block.page;
        if !self.listening {
            return refuse("pages cannot be requested before POSTCOPY_LISTEN");
        }
        if self.phase == Phase::Failed && !self.pages.is_received(id, start) {
            return refuse(OVER);
        }
        let page = Span {
            block: id,
            offset: start,
            len: block.page,
        };
        let fault = self.pages.fault(id, start);
        match fault {
            PageState::Present => self.stats.faults_present += 1,
            PageState::Requested => self.stats.faults_pending += 1,
            PageState::Missing => {
                self.stats.faults += 1;
                self.requests.wait(id, start, now);
                // A page that is being placed needs no request. If the connection is lost first,
                // the page is requested after the recovery.
                if self.phase.is_live() && !self.is_placing(page) {
                    self.requests.request(id, block, start, &mut self.stats);
                }
            }
        }
        Ok(fault)
    }
}
