//! Checks what a source sends against what it has received.

use std::collections::{BTreeMap, BTreeSet};

use retpath_codec::bitmap::Bitmap;
use retpath_codec::{BlockName, Message};
use retpath_engine::blocks::Blocks;
use retpath_proptests::link::Wire;

use crate::wires::{Page, WireItem};

/// What a source has sent and received, as sets.
#[derive(Debug)]
pub(crate) struct Source {
    blocks: Blocks,
    /// Pages to be sent over this link after the switch.
    due: BTreeSet<Page>,
    /// Host pages requested.
    wanted: BTreeSet<Page>,
    /// The block named by the last request.
    named: Option<usize>,
    switched: bool,
    resumed: bool,
    link: Link,
}

/// State of one link.
#[derive(Debug, Default)]
struct Link {
    /// Number of blocks whose bitmaps the source requested.
    asked: usize,
    coming: Option<usize>,
    /// Bitmaps received, by block.
    bitmaps: BTreeMap<usize, Vec<u8>>,
    resume: bool,
    acked: bool,
    eof: bool,
}

impl Source {
    pub(crate) fn new(blocks: &Blocks) -> Self {
        Self {
            blocks: blocks.clone(),
            due: BTreeSet::new(),
            wanted: BTreeSet::new(),
            named: None,
            switched: false,
            resumed: false,
            link: Link::default(),
        }
    }

    pub(crate) fn link_lost(&mut self) {
        self.due.clear();
        self.link = Link::default();
        self.resumed = true;
    }

    /// Records an item the source receives.
    pub(crate) fn receives(&mut self, item: &WireItem) {
        match item {
            WireItem::Bitmap(bytes) => {
                let id = self.link.coming.take().expect("bitmap follows RECV_BITMAP");
                self.link.bitmaps.insert(id, bytes.clone());
            }
            WireItem::Message(Message::RecvBitmap { block }) => {
                self.link.coming = self.blocks.find(block.name());
            }
            WireItem::Message(Message::ResumeAck) => self.link.acked = true,
            WireItem::Message(Message::ReqPagesId { start, block, .. }) => {
                self.named = self.blocks.find(block.name());
                self.want(*start);
            }
            WireItem::Message(Message::ReqPages { start, .. }) => self.want(*start),
            _ => {}
        }
    }

    fn want(&mut self, start: u64) {
        let id = self.named.expect("an earlier request named the block");
        self.wanted.insert((id, start));
    }

    /// Checks an item the source sends.
    pub(crate) fn sends(&mut self, item: &WireItem) {
        assert!(
            !self.link.eof || matches!(item, WireItem::Page(Wire::Preempt, _)),
            "{item:?} after EOF"
        );
        match item {
            WireItem::Page(wire, page) => self.page(*wire, *page),
            WireItem::Discard(block, start, len) => {
                assert!(!self.switched && !self.resumed);
                let step = usize::try_from(self.blocks.target()).expect("fits in usize");
                let pages = (*start..start + len).step_by(step);
                for at in pages {
                    assert!(self.due.insert((*block, at)), "{at} is discarded twice");
                }
            }
            WireItem::RequestBitmap(block) => {
                assert!(self.resumed && !self.link.resume);
                assert_eq!(
                    *block, self.link.asked,
                    "bitmaps are requested in block order"
                );
                self.link.asked += 1;
            }
            WireItem::Command("POSTCOPY_LISTEN") => self.switched = true,
            WireItem::Command("POSTCOPY_RESUME") => self.resume(),
            WireItem::Eof => {
                assert!(self.switched);
                assert!(self.due.is_empty(), "not sent: {:?}", self.due);
                self.link.eof = true;
            }
            WireItem::Command(_) | WireItem::Ping(_) => {}
            WireItem::Message(_) | WireItem::Bitmap(_) => panic!("{item:?} on a forward channel"),
        }
    }

    /// Checks that after the switch each due page is sent once, and only requested
    /// pages use the preempt channel.
    fn page(&mut self, wire: Wire, page: Page) {
        if !self.switched {
            return assert_eq!(wire, Wire::Main);
        }
        assert!(
            self.link.acked || !self.resumed,
            "page sent before RESUME_ACK"
        );
        assert!(self.due.remove(&page), "{page:?} is not due");
        if wire == Wire::Preempt {
            let size = self.blocks.block(page.0).expect("block exists").page;
            let host = (page.0, page.1 / size * size);
            assert!(self.wanted.contains(&host), "{page:?} was not requested");
        }
    }

    /// Marks the pages missing from the bitmaps as due once every bitmap arrived.
    fn resume(&mut self) {
        assert_eq!(self.link.asked, self.blocks.len());
        assert_eq!(self.link.bitmaps.len(), self.blocks.len());
        self.link.resume = true;
        for (id, bytes) in &self.link.bitmaps {
            let bitmap = Bitmap::new(bytes);
            let missing =
                (0..self.blocks.target_pages(*id)).filter(|page| !bitmap.is_received(*page));
            let target = self.blocks.target();
            self.due.extend(missing.map(|page| (*id, page * target)));
        }
    }
}
