//! A naive destination that tracks discarded and received pages as sets.
//!
//! It panics where a QEMU destination would fail the migration.

use std::collections::BTreeSet;
use std::rc::Rc;

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Decoded, Decoder, Event, Options};
use retpath_codec::{Encode, Message, NameBuf};

use retpath_engine::Channel;
use retpath_engine::blocks::{BlockId, Blocks};

/// A target page: block and offset.
pub type Page = (BlockId, u64);

/// The destination: page sets and one decoder per channel.
pub struct Peer {
    blocks: Blocks,
    memory: Rc<Vec<Vec<u8>>>,
    /// The main decoder; `None` only while it is in use.
    main: Option<Decoder>,
    preempt: Option<Decoder>,
    /// Whether LISTEN was received.
    listening: bool,
    /// Undecoded bytes of an incomplete item, by channel.
    left: [Vec<u8>; 2],
    /// Pieces of an incomplete host page, by channel.
    half: [BTreeSet<Page>; 2],
    /// Target pages received.
    pub received: BTreeSet<Page>,
    /// Target pages that the source discarded.
    pub discarded: BTreeSet<Page>,
    /// Target pages sent after the switch with their channel, in order.
    pub sent: Vec<(Channel, Page)>,
    /// Labels of all events except records and footers.
    pub seen: Vec<&'static str>,
    /// Pages whose records named their block.
    pub named: Vec<(Channel, Page)>,
    /// Encoded return path not yet delivered.
    pub replies: Vec<u8>,
    /// Whether the main stream has ended.
    pub ended: bool,
    shut: bool,
}

impl Peer {
    /// Creates a destination that has received nothing.
    pub fn new(blocks: &Blocks, memory: &Rc<Vec<Vec<u8>>>, host_page: u64) -> Self {
        let page_sizes = blocks.iter().map(|block| (block.name.clone(), block.page));
        let options = Options::default()
            .target_page(blocks.target())
            .host_page(host_page)
            .page_sizes(page_sizes);
        Self {
            blocks: blocks.clone(),
            memory: Rc::clone(memory),
            main: Some(Decoder::new(options)),
            preempt: None,
            listening: false,
            left: Default::default(),
            half: Default::default(),
            received: BTreeSet::new(),
            discarded: BTreeSet::new(),
            sent: Vec::new(),
            seen: Vec::new(),
            named: Vec::new(),
            replies: Vec::new(),
            ended: false,
            shut: false,
        }
    }

    /// Decodes bytes of a channel, split at any point.
    pub fn feed(&mut self, channel: Channel, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.left[at(channel)]);
        input.extend(bytes);
        let main = self.main.take().expect("decoder is not in use");
        let preempt = self.preempt.take();
        let (mut decoder, other) = match channel {
            Channel::Main => (main, preempt),
            Channel::Preempt => (preempt.unwrap_or_else(|| main.preempt()), Some(main)),
        };
        let mut done = 0;
        loop {
            match decoder.next(&input[done..]).expect("valid stream") {
                Decoded::Need(_) => break,
                Decoded::Event { event, size } => {
                    self.event(channel, event);
                    done += size;
                }
            }
        }
        input.drain(..done);
        self.left[at(channel)] = input;
        (self.main, self.preempt) = match channel {
            Channel::Main => (Some(decoder), other),
            Channel::Preempt => (other, Some(decoder)),
        };
        if self.ended && !self.shut && self.is_whole() {
            self.shut = true;
            self.say(Message::Shut { value: 0 });
        }
    }

    /// Handles a lost link: drops incomplete items.
    pub fn cut(&mut self) {
        self.main = self.main.as_ref().map(Decoder::resume);
        self.preempt = None;
        self.left = Default::default();
        self.half = Default::default();
        self.replies.clear();
        self.ended = false;
        self.shut = false;
    }

    /// Whether every target page was received.
    pub fn is_whole(&self) -> bool {
        let pages = |id| self.blocks.target_pages(id);
        let all: u64 = (0..self.blocks.len()).map(pages).sum();
        u64::try_from(self.received.len()) == Ok(all)
    }

    fn target(&self) -> usize {
        usize::try_from(self.blocks.target()).expect("fits in usize")
    }

    /// Target pages not yet received.
    pub fn missing(&self) -> impl Iterator<Item = Page> {
        let target = self.blocks.target();
        let pages =
            move |id| (0..self.blocks.target_pages(id)).map(move |page| (id, page * target));
        let all = (0..self.blocks.len()).flat_map(pages);
        all.filter(|page| !self.received.contains(page))
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
            Command::PostcopyListen => self.listening = true,
            Command::Ping { value } => self.say(Message::Pong { value }),
            Command::PostcopyRamDiscard { block, ranges } => {
                let id = self.blocks.find(block).expect("block exists");
                let page = self.blocks.block(id).expect("block exists").page;
                for range in ranges.iter() {
                    self.blocks
                        .check(id, range.start, range.len, page)
                        .expect("range consists of whole host pages");
                    for offset in (range.start..range.start + range.len).step_by(self.target()) {
                        assert!(self.discarded.insert((id, offset)), "discarded twice");
                        self.received.remove(&(id, offset));
                    }
                }
            }
            Command::RecvBitmap { block } => {
                let id = self.blocks.find(block).expect("block exists");
                self.say(Message::RecvBitmap {
                    block: block.to_buf(),
                });
                let bits = self.bitmap(id);
                bitmap::encode(Bitmap::new(&bits), &mut self.replies).expect("valid bitmap");
            }
            Command::PostcopyResume => self.say(Message::ResumeAck),
            _ => {}
        }
    }

    /// Returns the received bitmap of a block in the form RECV_BITMAP carries.
    pub fn bitmap(&self, id: BlockId) -> Vec<u8> {
        let pages = self.blocks.target_pages(id);
        let mut bits = vec![0; bitmap::size(pages) as usize];
        let target = self.blocks.target();
        for page in (0..pages).filter(|page| self.received.contains(&(id, page * target))) {
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
            } => (block, offset, &[0; 4096][..self.target()], named),
            Record::Page {
                block,
                offset,
                data,
                named,
            } => (block, offset, data, named),
            _ => return,
        };
        let page = (block.index(), offset);
        let from = usize::try_from(offset).expect("fits in usize");
        assert!(
            self.memory[page.0][from..from + self.target()] == *data,
            "contents of {page:?}"
        );
        if named {
            self.named.push((channel, page));
        }
        if !self.listening {
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

    /// Assembles host pages as QEMU does: one at a time on each channel.
    fn place(&mut self, channel: Channel, page: Page) {
        let size = self.blocks.block(page.0).expect("block exists").page;
        let host = |page: Page| (page.0, page.1 / size);
        for channel in [Channel::Main, Channel::Preempt] {
            assert!(
                !self.half[at(channel)].contains(&page),
                "{page:?} was sent twice"
            );
        }
        let half = &mut self.half[at(channel)];
        if let Some(other) = half.first() {
            assert_eq!(
                host(*other),
                host(page),
                "pieces of two host pages are interleaved on one channel"
            );
        }
        half.insert(page);
        if half.len() as u64 * self.blocks.target() == size {
            self.received.extend(std::mem::take(half));
        }
    }

    /// Appends a message to the return path.
    pub fn say(&mut self, message: Message<NameBuf>) {
        message.encode(&mut self.replies).expect("valid message");
    }
}

/// Array index of a channel.
pub fn at(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Preempt => 1,
    }
}
