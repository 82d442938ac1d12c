//! Checks what a destination sends against what it has received.

use std::collections::{BTreeSet, VecDeque};
use std::mem;

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::{BlockName, Message};
use retpath_engine::blocks::Blocks;

use crate::wires::{Page, WireItem};

/// The PING answered once the device state is saved.
use retpath_codec::wire::value::PING_PACKAGE_LOADED;

/// What a destination has received, as sets.
#[derive(Debug)]
pub(crate) struct Destination {
    blocks: Blocks,
    /// Received pages; after LISTEN, whole host pages only.
    there: BTreeSet<Page>,
    /// Received pages of incomplete host pages.
    parts: BTreeSet<Page>,
    listens: bool,
    resumed: bool,
    link: Link,
}

/// State of one link.
#[derive(Debug, Default)]
struct Link {
    sent: usize,
    pings: Vec<u32>,
    /// Blocks whose bitmaps were requested.
    asked: VecDeque<usize>,
    /// The block whose bitmap must follow now.
    coming: Option<usize>,
    resume: bool,
    acked: bool,
    named: Option<usize>,
    wanted: BTreeSet<Page>,
    eof: bool,
    shut: bool,
}

impl Destination {
    pub(crate) fn new(blocks: &Blocks) -> Self {
        Self {
            blocks: blocks.clone(),
            there: BTreeSet::new(),
            parts: BTreeSet::new(),
            listens: false,
            resumed: false,
            link: Link::default(),
        }
    }

    /// Handles a lost link: drops incomplete host pages.
    pub(crate) fn link_lost(&mut self) {
        self.parts.clear();
        let mut pings = mem::take(&mut self.link).pings;
        // This PING concerns the device state, which outlives the link.
        pings.retain(|ping| *ping == PING_PACKAGE_LOADED);
        self.link.pings = pings;
        self.resumed = true;
    }

    /// Records an item the destination receives.
    pub(crate) fn receives(&mut self, item: &WireItem) {
        match item {
            WireItem::Page(_, page) if self.listens => self.place(*page),
            WireItem::Page(_, page) => drop(self.there.insert(*page)),
            WireItem::Discard(block, start, len) => {
                let gone = start..&(start + len);
                self.there
                    .retain(|(id, at)| id != block || !gone.contains(&at));
            }
            WireItem::Command("POSTCOPY_LISTEN") => self.listens = true,
            WireItem::Command("POSTCOPY_RESUME") => self.link.resume = true,
            WireItem::Ping(value) => self.link.pings.push(*value),
            WireItem::RequestBitmap(block) => self.link.asked.push_back(*block),
            WireItem::Eof => self.link.eof = true,
            WireItem::Command(_) | WireItem::Message(_) | WireItem::Bitmap(_) => {}
        }
    }

    /// Records a page received after LISTEN, which must be missing.
    fn place(&mut self, page: Page) {
        assert!(!self.there.contains(&page), "{page:?} was already received");
        assert!(self.parts.insert(page), "{page:?} was sent twice");
        let whole: Vec<Page> = self.host(page);
        if whole.iter().all(|page| self.parts.contains(page)) {
            for page in whole {
                self.parts.remove(&page);
                self.there.insert(page);
            }
        }
    }

    /// Returns the target pages of the host page that contains `page`.
    fn host(&self, (block, at): Page) -> Vec<Page> {
        let size = self.blocks.block(block).expect("block exists").page;
        let first = at / size * size;
        let step = usize::try_from(self.blocks.target()).expect("fits in usize");
        let parts = (first..first + size).step_by(step);
        parts.map(|at| (block, at)).collect()
    }

    /// Checks an item the destination sends.
    pub(crate) fn sends(&mut self, item: &WireItem) {
        assert!(!self.link.shut, "{item:?} after SHUT");
        match item {
            WireItem::Bitmap(bytes) => self.bitmap(bytes),
            WireItem::Message(message) => {
                assert_eq!(self.link.coming, None, "{message:?} before a bitmap");
                self.message(message);
            }
            other => panic!("{other:?} on the return path"),
        }
        self.link.sent += 1;
    }

    fn message<N: BlockName>(&mut self, message: &Message<N>) {
        let link = &mut self.link;
        match message {
            Message::Pong { value } => {
                let ping = link.pings.iter().position(|ping| ping == value);
                link.pings
                    .swap_remove(ping.expect("PONG answers a PING, once"));
            }
            Message::ReqPagesId { start, len, block } => {
                let id = self.blocks.find(block.name()).expect("block exists");
                assert_ne!(link.named, Some(id), "block name is repeated");
                link.named = Some(id);
                self.want(id, *start, (*len).into());
            }
            Message::ReqPages { start, len } => {
                let id = link
                    .named
                    .expect("an earlier request on this link named the block");
                self.want(id, *start, (*len).into());
            }
            Message::RecvBitmap { block } => {
                let id = self.blocks.find(block.name());
                assert_eq!(
                    link.asked.pop_front(),
                    id,
                    "bitmaps follow the order of requests"
                );
                link.coming = id;
            }
            Message::ResumeAck => {
                assert!(link.resume && !link.acked && link.asked.is_empty());
                link.acked = true;
            }
            Message::SwitchoverAck => assert!(link.sent == 0 && !self.resumed),
            Message::Shut { value } => {
                assert_eq!(*value, 0);
                assert!(link.eof && self.parts.is_empty());
                let all: u64 = self.blocks.iter().map(|block| block.len).sum();
                let there = u64::try_from(self.there.len()).expect("fits in u64");
                assert_eq!(there * self.blocks.target(), all);
                link.shut = true;
            }
            #[allow(unreachable_patterns, reason = "until the table has more messages")]
            _ => panic!("no law says when a destination sends {}", message.label()),
        }
    }

    /// Checks that a request is for one missing host page, once per link.
    fn want(&mut self, id: usize, start: u64, len: u64) {
        assert!(self.listens, "requested before LISTEN");
        assert!(
            self.link.acked || !self.resumed,
            "requested before RESUME_ACK"
        );
        let block = self.blocks.block(id).expect("block exists");
        assert_eq!((len, start % len), (block.page, 0));
        assert!(start + len <= block.len);
        assert!(
            !self.there.contains(&(id, start)),
            "requested page was received"
        );
        assert!(
            self.link.wanted.insert((id, start)),
            "page is requested twice"
        );
    }

    /// Checks that a bitmap marks exactly the received pages.
    fn bitmap(&mut self, bytes: &[u8]) {
        let id = self.link.coming.take().expect("bitmap follows RECV_BITMAP");
        let pages = self.blocks.target_pages(id);
        let bitmap = Bitmap::new(bytes);
        assert_eq!(u64::try_from(bytes.len()), Ok(bitmap::size(pages)));
        for page in 0..bitmap.bits() {
            let there = self.there.contains(&(id, page * self.blocks.target()));
            assert_eq!(bitmap.is_received(page), there, "page {page} of block {id}");
        }
    }
}
