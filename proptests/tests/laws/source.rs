//! What a source may say, given what it has heard.

use std::collections::{BTreeMap, BTreeSet};

use retpath_codec::bitmap::Bitmap;
use retpath_codec::{BlockName, Message};
use retpath_engine::blocks::Blocks;
use retpath_proptests::link::Wire;

use crate::wires::{Page, Said};

/// What a source has heard and said, as sets.
#[derive(Debug)]
pub(crate) struct Source {
    blocks: Blocks,
    /// Pages that are to be sent over this link after the switch.
    due: BTreeSet<Page>,
    /// Host pages that were asked for.
    wanted: BTreeSet<Page>,
    /// The block that was named last.
    named: Option<usize>,
    switched: bool,
    resumed: bool,
    link: Link,
}

/// What belongs to one link.
#[derive(Debug, Default)]
struct Link {
    /// Blocks whose bitmaps it has asked for.
    asked: usize,
    coming: Option<usize>,
    /// What the bitmaps say is there.
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

    pub(crate) fn breaks(&mut self) {
        self.due.clear();
        self.link = Link::default();
        self.resumed = true;
    }

    /// It hears something.
    pub(crate) fn hears(&mut self, said: &Said) {
        match said {
            Said::Bitmap(bytes) => {
                let id = self.link.coming.take().expect("behind its RECV_BITMAP");
                self.link.bitmaps.insert(id, bytes.clone());
            }
            Said::Message(Message::RecvBitmap { block }) => {
                self.link.coming = self.blocks.find(block.name());
            }
            Said::Message(Message::ResumeAck) => self.link.acked = true,
            Said::Message(Message::ReqPagesId { start, block, .. }) => {
                self.named = self.blocks.find(block.name());
                self.want(*start);
            }
            Said::Message(Message::ReqPages { start, .. }) => self.want(*start),
            _ => {}
        }
    }

    fn want(&mut self, start: u64) {
        let id = self.named.expect("named before");
        self.wanted.insert((id, start));
    }

    /// It says something.
    pub(crate) fn says(&mut self, said: &Said) {
        assert!(
            !self.link.eof || matches!(said, Said::Page(Wire::Preempt, _)),
            "{said:?} after EOF"
        );
        match said {
            Said::Page(wire, page) => self.page(*wire, *page),
            Said::Discard(block, start, len) => {
                assert!(!self.switched && !self.resumed);
                let step = usize::try_from(self.blocks.target()).expect("small");
                let pages = (*start..start + len).step_by(step);
                for at in pages {
                    assert!(self.due.insert((*block, at)), "{at} is discarded twice");
                }
            }
            Said::Ask(block) => {
                assert!(self.resumed && !self.link.resume);
                assert_eq!(*block, self.link.asked, "each block, in order");
                self.link.asked += 1;
            }
            Said::Command("POSTCOPY_LISTEN") => self.switched = true,
            Said::Command("POSTCOPY_RESUME") => self.resume(),
            Said::Eof => {
                assert!(self.switched);
                assert!(self.due.is_empty(), "not sent: {:?}", self.due);
                self.link.eof = true;
            }
            Said::Command(_) | Said::Ping(_) => {}
            Said::Message(_) | Said::Bitmap(_) => panic!("{said:?} on a channel"),
        }
    }

    /// After the switch, only what is due, and each page once; on the preempt
    /// channel only what was asked for.
    fn page(&mut self, wire: Wire, page: Page) {
        if !self.switched {
            return assert_eq!(wire, Wire::Main);
        }
        assert!(self.link.acked || !self.resumed, "before RESUME_ACK");
        assert!(self.due.remove(&page), "{page:?} is not due");
        if wire == Wire::Preempt {
            let size = self.blocks.block(page.0).expect("a block").page;
            let host = (page.0, page.1 / size * size);
            assert!(self.wanted.contains(&host), "{page:?} was not asked for");
        }
    }

    /// When all bitmaps have come, what they do not claim is due.
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
