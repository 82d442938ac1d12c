//! A destination that knows nothing but sets: what it was told to forget, what
//! it has received. It panics where a QEMU destination would stop.

use std::collections::{BTreeSet, HashSet};

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Decoder, Event, Options, Step};
use retpath_codec::{Encode, Message, NameBuf};

use crate::Channel;
use crate::blocks::{BlockId, Blocks};

/// A target page: block and offset.
pub(super) type Page = (BlockId, u64);

pub(super) struct Peer {
    blocks: Blocks,
    memory: Vec<Vec<u8>>,
    main: Decoder,
    preempt: Option<Decoder>,
    /// Bytes of each channel that are no whole item yet.
    left: [Vec<u8>; 2],
    /// Parts of a host page, by channel.
    half: [BTreeSet<Page>; 2],
    pub(super) received: HashSet<Page>,
    pub(super) discarded: HashSet<Page>,
    /// Target pages sent after the switch, and where, in order.
    pub(super) sent: Vec<(Channel, Page)>,
    /// Labels of everything but records and footers.
    pub(super) seen: Vec<&'static str>,
    /// Pages whose records named their block.
    pub(super) named: Vec<(Channel, Page)>,
    /// What it has to say.
    pub(super) replies: Vec<u8>,
    pub(super) ended: bool,
    shut: bool,
}

impl Peer {
    pub(super) fn new(blocks: &Blocks, memory: &[Vec<u8>]) -> Self {
        let page_sizes = blocks.iter().map(|block| (block.name.clone(), block.page));
        let options = Options {
            target_page: blocks.target(),
            page_sizes: page_sizes.collect(),
            ..Options::default()
        };
        Self {
            blocks: blocks.clone(),
            memory: memory.to_vec(),
            main: Decoder::new(options),
            preempt: None,
            left: Default::default(),
            half: Default::default(),
            received: HashSet::new(),
            discarded: HashSet::new(),
            sent: Vec::new(),
            seen: Vec::new(),
            named: Vec::new(),
            replies: Vec::new(),
            ended: false,
            shut: false,
        }
    }

    /// Takes bytes of a channel, in any split.
    pub(super) fn feed(&mut self, channel: Channel, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.left[at(channel)]);
        input.extend(bytes);
        let mut decoder = match channel {
            Channel::Main => self.main.clone(),
            Channel::Preempt => self.preempt.take().unwrap_or_else(|| self.main.preempt()),
        };
        let mut done = 0;
        loop {
            match decoder
                .next(&input[done..])
                .expect("a stream that is accepted")
            {
                Step::Need(_) => break,
                Step::Event { event, size } => {
                    self.event(channel, event);
                    done += size;
                }
            }
        }
        input.drain(..done);
        self.left[at(channel)] = input;
        match channel {
            Channel::Main => self.main = decoder,
            Channel::Preempt => self.preempt = Some(decoder),
        }
        if self.ended && !self.shut && self.received == self.all() {
            self.shut = true;
            self.say(Message::Shut { value: 0 });
        }
    }

    /// The link is gone: incomplete things are thrown away.
    pub(super) fn cut(&mut self) {
        self.main = self.main.resume();
        self.preempt = None;
        self.left = Default::default();
        self.half = Default::default();
        self.replies.clear();
        self.ended = false;
        self.shut = false;
    }

    /// Every target page of every block.
    pub(super) fn all(&self) -> HashSet<Page> {
        let pages = |id| (0..self.blocks.target_pages(id)).map(move |page| (id, page * 4096));
        (0..self.blocks.len()).flat_map(pages).collect()
    }

    fn event(&mut self, channel: Channel, event: Event<'_>) {
        match event {
            Event::Record(record) => return self.record(channel, record),
            Event::Footer { .. } => return,
            _ => self.seen.push(event.label()),
        }
        match event {
            Event::Command(command) => self.command(command),
            Event::Eof => self.ended = true,
            _ => {}
        }
    }

    fn command<R: RangeList>(&mut self, command: Command<retpath_codec::Name<'_>, R>) {
        match command {
            Command::Ping { value } => self.say(Message::Pong { value }),
            Command::PostcopyRamDiscard { block, ranges } => {
                let id = self.blocks.find(block).expect("a known block");
                let page = self.blocks.block(id).expect("a known block").page;
                for range in ranges.iter() {
                    self.blocks
                        .check(id, range.start, range.len, page)
                        .expect("whole host pages");
                    for offset in (range.start..range.start + range.len).step_by(4096) {
                        assert!(self.discarded.insert((id, offset)), "discarded twice");
                        self.received.remove(&(id, offset));
                    }
                }
            }
            Command::RecvBitmap { block } => {
                let id = self.blocks.find(block).expect("a known block");
                self.say(Message::RecvBitmap {
                    block: block.to_buf(),
                });
                let bits = self.bitmap(id);
                bitmap::encode(Bitmap::new(&bits), &mut self.replies).expect("a good bitmap");
            }
            Command::PostcopyResume => self.say(Message::ResumeAck),
            _ => {}
        }
    }

    pub(super) fn bitmap(&self, id: BlockId) -> Vec<u8> {
        let pages = self.blocks.target_pages(id);
        let mut bits = vec![0; bitmap::size(pages) as usize];
        for page in (0..pages).filter(|page| self.received.contains(&(id, page * 4096))) {
            bits[page as usize / 8] |= 1 << (page % 8);
        }
        bits
    }

    fn record(&mut self, channel: Channel, record: Record<'_>) {
        let (block, offset, data, named) = match record {
            Record::Zero {
                block,
                offset,
                named,
                ..
            } => (block, offset, &[0; 4096][..], named),
            Record::Page {
                block,
                offset,
                data,
                named,
            } => (block, offset, data, named),
            _ => return,
        };
        let page = (block.index(), offset);
        let from = usize::try_from(offset).expect("a small block");
        assert!(
            self.memory[page.0][from..from + 4096] == *data,
            "contents of {page:?}"
        );
        if named {
            self.named.push((channel, page));
        }
        if !self.main.is_listening() {
            self.received.insert(page);
            return;
        }
        self.sent.push((channel, page));
        assert!(
            !self.received.contains(&page),
            "{page:?} was received already"
        );
        self.place(channel, page);
    }

    /// Puts host pages together, as QEMU does: one at a time on each channel.
    fn place(&mut self, channel: Channel, page: Page) {
        let size = self.blocks.block(page.0).expect("a known block").page;
        let host = |page: Page| (page.0, page.1 / size);
        for channel in [Channel::Main, Channel::Preempt] {
            assert!(
                !self.half[at(channel)].contains(&page),
                "{page:?} comes twice"
            );
        }
        let half = &mut self.half[at(channel)];
        if let Some(other) = half.first() {
            assert_eq!(
                host(*other),
                host(page),
                "host pages are mixed on one channel"
            );
        }
        half.insert(page);
        if half.len() as u64 * 4096 == size {
            self.received.extend(std::mem::take(half));
        }
    }

    pub(super) fn say(&mut self, message: Message<NameBuf>) {
        message.encode(&mut self.replies).expect("a good message");
    }
}

pub(super) fn at(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Preempt => 1,
    }
}
