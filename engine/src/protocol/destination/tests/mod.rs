//! Tests of the core. [`Dest`] acts for the caller and for the source.

mod accounts;
mod acknowledge;
mod blocks;
mod ending;
mod order;
mod pages;
mod recovery;
mod requests;
mod virtio_mem;
mod words;

use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{self, Event, ram::Record};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{Decoded, Encode, Message, Name, NameBuf, Qemu, decode};

use super::*;

pub(super) const KIB: u64 = 1024;
pub(super) const PAGE: u64 = 4 * KIB;
pub(super) const HUGE: u64 = 64 * KIB;

pub(super) use crate::Channel::{Main, Preempt};
pub(super) use crate::blocks::{BlockId, Span};

/// A destination under test.
pub(super) struct Dest {
    pub(super) core: Destination,
    pub(super) now: u64,
}

/// A placement that outlives the core's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Did {
    Nothing,
    Write(BlockId, u64, u8),
    Clear(BlockId, u64),
    Copy(BlockId, u64, Vec<u8>),
    Zero(BlockId, u64, u64),
}

pub(super) fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

pub(super) fn names(text: &str) -> NameBuf {
    NameBuf::new(text).unwrap()
}

/// One byte for each target page of `data`.
pub(super) fn summary(data: &[u8]) -> Vec<u8> {
    let page = usize::try_from(PAGE).unwrap();
    data.chunks(page)
        .map(|part| {
            assert!(part.iter().all(|byte| *byte == part[0]));
            part[0]
        })
        .collect()
}

impl Dest {
    pub(super) fn new(config: Config) -> Self {
        Self {
            core: Destination::new(config),
            now: 1_000_000,
        }
    }

    /// A destination with one block of `pages` small pages, in phase advised.
    pub(super) fn advised(pages: u64) -> Self {
        let mut dest = Self::new(Config::default());
        dest.advise(&[("ram", pages * PAGE)], PAGE);
        dest
    }

    /// The same after the switch, with every page missing.
    pub(super) fn running(pages: u64) -> Self {
        let mut dest = Self::advised(pages);
        dest.switch();
        dest
    }

    /// A destination with a block `ram` of small pages and a block `huge` of pages of
    /// [`HUGE`] bytes, `huge_pages` of them, after the switch.
    pub(super) fn huge(huge_pages: u64, preempt: bool) -> Self {
        let mut dest = Self::new(Config {
            preempt,
            page_sizes: vec![(names("huge"), HUGE)],
            ..Config::default()
        });
        dest.advise(
            &[("ram", 16 * PAGE), ("huge", huge_pages * HUGE)],
            PAGE | HUGE,
        );
        dest.switch();
        dest
    }

    pub(super) fn event(&mut self, channel: Channel, event: Event<'_>) -> Result<Did, Error> {
        self.now += 1000;
        let placement = self.core.event(channel, event, self.now)?;
        let Some(Placement {
            block,
            offset,
            content,
            atomic,
        }) = placement
        else {
            return Ok(Did::Nothing);
        };
        Ok(match (atomic, content) {
            (false, Content::Data(data)) => Did::Write(block, offset, summary(data)[0]),
            (false, Content::Zero(_)) => Did::Clear(block, offset),
            (true, Content::Data(data)) => Did::Copy(block, offset, summary(data)),
            (true, Content::Zero(len)) => Did::Zero(block, offset, len),
        })
    }

    pub(super) fn command(&mut self, command: &Command<Name<'_>, RangeBuf>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes).unwrap();
        match decode::<Commands>(&bytes).unwrap() {
            Decoded::Message { message, .. } => {
                self.event(Main, Event::Command(message)).map(|_| ())
            }
            Decoded::Need(_) => panic!("a whole command"),
        }
    }

    pub(super) fn ping(&mut self, value: u32) -> Result<(), Error> {
        self.command(&Command::Ping { value })
    }

    pub(super) fn block(&mut self, text: &str, len: u64) -> Result<Did, Error> {
        let number = u32::try_from(self.core.blocks().len()).unwrap();
        let block = Record::Block {
            block: forward::BlockIndex::new(number),
            name: name(text),
            len,
            page_size: None,
            gpa: None,
        };
        self.event(Main, Event::Record(block))
    }

    /// Receives everything up to the block list.
    pub(super) fn advise(&mut self, blocks: &[(&str, u64)], summary: u64) {
        self.event(Main, Event::Header).unwrap();
        self.command(&Command::OpenReturnPath).unwrap();
        let sizes = Some(PageSizes {
            summary,
            target: PAGE,
        });
        self.command(&Command::PostcopyAdvise { sizes }).unwrap();
        for (name, len) in blocks {
            self.block(name, *len).unwrap();
        }
        let actions = self.actions();
        assert_eq!(actions.len(), blocks.len(), "{actions:?}");
        self.said();
    }

    pub(super) fn discard(&mut self, block: &str, ranges: &[(u64, u64)]) -> Result<(), Error> {
        let ranges = ranges
            .iter()
            .map(|(start, len)| Range::new(*start, *len).unwrap());
        self.command(&Command::PostcopyRamDiscard {
            block: name(block),
            ranges: RangeBuf::new(ranges.collect()).unwrap(),
        })
    }

    pub(super) fn package(&mut self, pings: &[u32]) -> Result<(), Error> {
        self.command(&Command::Packaged { size: 100 })?;
        self.command(&Command::PostcopyListen)?;
        let bytes = &[1, 2, 3];
        self.event(Main, Event::DeviceState { id: 7, bytes })?;
        for value in pings {
            self.ping(*value)?;
        }
        self.command(&Command::PostcopyRun)?;
        self.event(Main, Event::PackageEnd).map(|_| ())
    }

    /// Switches to postcopy, and saves the device state.
    pub(super) fn switch(&mut self) {
        self.package(&[]).unwrap();
        assert_eq!(
            self.actions(),
            [Action::Listen, Action::Run, Action::DeviceStateComplete]
        );
        self.core.device_state_saved().unwrap();
        assert_eq!(self.core.phase(), Phase::Running);
    }

    pub(super) fn page_on(
        &mut self,
        channel: Channel,
        block: BlockId,
        offset: u64,
        byte: u8,
    ) -> Result<Did, Error> {
        let data = vec![byte; usize::try_from(PAGE).unwrap()];
        let block = forward::BlockIndex::new(u32::try_from(block).unwrap());
        let record = Record::Page {
            block,
            offset,
            data: &data,
            named: false,
        };
        self.event(channel, Event::Record(record))
    }

    pub(super) fn page(&mut self, block: BlockId, offset: u64, byte: u8) -> Result<Did, Error> {
        self.page_on(Main, block, offset, byte)
    }

    pub(super) fn zero(&mut self, block: BlockId, offset: u64) -> Result<Did, Error> {
        let block = forward::BlockIndex::new(u32::try_from(block).unwrap());
        let record = Record::Zero {
            block,
            offset,
            fill: 0,
            named: false,
        };
        self.event(Main, Event::Record(record))
    }

    /// Receives pages that are not shown as events.
    pub(super) fn run(
        &mut self,
        channel: Channel,
        block: BlockId,
        offset: u64,
        len: u64,
    ) -> Result<(), Error> {
        let span = Span { block, offset, len };
        self.core.run_of_pages(channel, span, self.now)
    }

    pub(super) fn placed(
        &mut self,
        channel: Channel,
        block: BlockId,
        offset: u64,
        len: u64,
    ) -> Result<(), Error> {
        self.now += 1000;
        let span = Span { block, offset, len };
        self.core.placed(channel, span, 0, self.now)
    }

    /// Receives and places a whole small page.
    pub(super) fn serve(&mut self, block: BlockId, offset: u64) {
        self.page(block, offset, 1).unwrap();
        self.placed(Main, block, offset, PAGE).unwrap();
    }

    pub(super) fn fault(&mut self, block: BlockId, offset: u64) -> PageState {
        self.now += 1000;
        self.core.fault(block, offset, self.now).unwrap()
    }

    pub(super) fn eof(&mut self) -> Result<Did, Error> {
        self.event(Main, Event::Eof)
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.core.poll()).collect()
    }

    /// Drains the outbox, and returns its messages.
    pub(super) fn said(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        while !self.core.outbox().is_empty() {
            bytes.append(self.core.outbox());
        }
        let mut stream = Stream::<Qemu>::new(u64::MAX);
        let mut input = bytes.as_slice();
        let mut said = Vec::new();
        while let Some(item) = stream.next(&mut input).unwrap() {
            said.push(match item {
                Item::Message { message, .. } => words(&message),
                Item::Bitmap { bitmap, .. } => {
                    let received = (0..bitmap.bits()).filter(|at| bitmap.is_received(*at));
                    format!("{:?}", received.collect::<Vec<_>>())
                }
            });
        }
        stream.finish().unwrap();
        said
    }
}

fn words(message: &Message<Name<'_>>) -> String {
    match message {
        Message::Shut { value } => format!("SHUT {value}"),
        Message::Pong { value } => format!("PONG {value:#x}"),
        Message::ReqPagesId { start, len, block } => format!("{block} {start:#x}+{len:#x}"),
        Message::ReqPages { start, len } => format!("{start:#x}+{len:#x}"),
        Message::RecvBitmap { block } => format!("RECV_BITMAP {block}"),
        bare => bare.label().into(),
    }
}

/// The kind of error of a call that must fail.
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    let error = result.unwrap_err();
    assert_eq!(error.is_peer_fault(), error.kind.blame() == Blame::Peer);
    error.kind
}
