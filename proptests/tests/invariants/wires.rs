//! Decodes the three wires of one link into items.

use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::{Decoded, Decoder, Event, ram::Record};
use retpath_codec::stream::{ItemBuf, Stream};
use retpath_codec::{BlockName, Message, NameBuf, Qemu};
use retpath_engine::blocks::Blocks;
use retpath_proptests::link::Wire;

/// A target page: block and byte offset.
pub(crate) type Page = (usize, u64);

/// An item on a wire.
#[derive(Clone, Debug)]
pub(crate) enum WireItem {
    /// A page, on the main channel or on the preempt channel.
    Page(Wire, Page),
    /// A range of a block is discarded.
    Discard(usize, u64, u64),
    /// A command without a value.
    Command(&'static str),
    /// PING.
    Ping(u32),
    /// RECV_BITMAP of a block, as a command on the main channel.
    RequestBitmap(usize),
    /// EOF.
    Eof,
    /// A message of the return path.
    Message(Message<NameBuf>),
    /// A bitmap.
    Bitmap(Vec<u8>),
}

/// Decoders of the three wires, observed at one end of the link.
#[derive(Debug)]
pub(crate) struct Wires {
    blocks: Blocks,
    main: Decoder,
    preempt: Option<Decoder>,
    back: Stream<Qemu>,
    /// Undecoded bytes of an incomplete item, by channel.
    left: [Vec<u8>; 2],
}

impl Wires {
    /// Starts decoding the first link of a migration.
    pub(crate) fn new(blocks: &Blocks, main: Decoder) -> Self {
        Self {
            blocks: blocks.clone(),
            main,
            preempt: None,
            back: Stream::new(u64::MAX),
            left: Default::default(),
        }
    }

    /// Starts decoding the next link.
    pub(crate) fn next_link(&mut self) {
        *self = Self::new(&self.blocks, self.main.resume());
    }

    /// Decodes bytes of a wire, including any left over before them.
    pub(crate) fn read(&mut self, wire: Wire, bytes: &[u8]) -> Vec<WireItem> {
        match wire {
            Wire::Main => {
                let left = &mut self.left[0];
                left.extend(bytes);
                forward(&self.blocks, &mut self.main, left, wire)
            }
            Wire::Preempt => {
                let left = &mut self.left[1];
                left.extend(bytes);
                let main = &self.main;
                let preempt = self.preempt.get_or_insert_with(|| main.preempt());
                forward(&self.blocks, preempt, left, wire)
            }
            Wire::Back => self.back(bytes),
        }
    }

    fn back(&mut self, mut bytes: &[u8]) -> Vec<WireItem> {
        let mut all = Vec::new();
        while let Some(item) = self.back.next_owned(&mut bytes).expect("valid return path") {
            all.push(match item {
                ItemBuf::Message { message, .. } => WireItem::Message(message),
                ItemBuf::Bitmap { bytes, .. } => WireItem::Bitmap(bytes),
            });
        }
        all
    }
}

fn forward(
    blocks: &Blocks,
    decoder: &mut Decoder,
    left: &mut Vec<u8>,
    wire: Wire,
) -> Vec<WireItem> {
    let mut all = Vec::new();
    let mut done = 0;
    while let Decoded::Event { event, size } = decoder.next(&left[done..]).expect("valid stream") {
        done += size;
        push_items(blocks, wire, &event, &mut all);
    }
    left.drain(..done);
    all
}

fn push_items(blocks: &Blocks, wire: Wire, event: &Event<'_>, all: &mut Vec<WireItem>) {
    match event {
        Event::Record(Record::Zero { block, offset, .. } | Record::Page { block, offset, .. }) => {
            all.push(WireItem::Page(wire, (block.index(), *offset)));
        }
        Event::Command(Command::PostcopyRamDiscard { block, ranges }) => {
            let id = blocks.find(*block).expect("block exists");
            let ranges = ranges.iter();
            all.extend(ranges.map(|range| WireItem::Discard(id, range.start, range.len)));
        }
        Event::Command(Command::Ping { value }) => all.push(WireItem::Ping(*value)),
        Event::Command(Command::RecvBitmap { block }) => {
            all.push(WireItem::RequestBitmap(
                blocks.find(block.name()).expect("block exists"),
            ));
        }
        Event::Command(command) => all.push(WireItem::Command(command.label())),
        Event::Eof => all.push(WireItem::Eof),
        _ => {}
    }
}
