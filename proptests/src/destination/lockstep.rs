//! Drives the core and the model in lockstep and compares them after every call.

use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{BlockIndex, Event, ram::Record};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{Decoded, Encode, Message, Name, NameBuf, Qemu, decode};
use retpath_engine::Channel::{self, Main};
use retpath_engine::blocks::Span;
use retpath_engine::destination::{Blame, Config, Content, Destination, Error, Phase, Placement};

use super::model::{BLOCKS, Effect, Model, Op, PAGE, PARTS, Reply, Setup};

const NAMES: [&str; 2] = ["small", "big"];

fn name(block: usize) -> Name<'static> {
    let text = NAMES.get(block).copied().unwrap_or("none");
    Name::new(text.as_bytes()).unwrap()
}

/// Returns the fill byte of each target page.
fn fills(data: &[u8]) -> Vec<u8> {
    let pages = data.chunks(usize::try_from(PAGE).unwrap());
    let fill = |page: &[u8]| {
        assert!(
            page[1..] == page[..page.len() - 1],
            "page is not filled with one byte"
        );
        page[0]
    };
    pages.map(fill).collect()
}

/// The core and the model, driven with the same calls.
pub(super) struct Lockstep {
    pub(super) core: Destination,
    pub(super) model: Model,
    now: u64,
    /// The block of the last named request, which REQ_PAGES refers to.
    last: Option<usize>,
}

impl Lockstep {
    pub(super) fn new(setup: Setup) -> Self {
        let big = (NameBuf::new("big").unwrap(), PARTS * PAGE);
        let core = Destination::new(
            Config::default()
                .preempt(setup.preempt)
                .confirm_end(setup.confirm)
                .target_page(PAGE)
                .host_page(PAGE)
                .page_sizes(vec![big]),
        );
        Self {
            core,
            model: Model::new(setup),
            now: 0,
            last: None,
        }
    }

    fn command(&mut self, command: &Command<Name<'_>, RangeBuf>) -> Result<Effect, Error> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes).unwrap();
        match decode::<Commands>(&bytes).unwrap() {
            Decoded::Message { message, .. } => self.event(Main, Event::Command(message)),
            Decoded::Need(_) => unreachable!("the command is complete"),
        }
    }

    fn event(&mut self, channel: Channel, event: Event<'_>) -> Result<Effect, Error> {
        let zeros = |len: u64| vec![0; usize::try_from(len / PAGE).unwrap()];
        let placement = self.core.event(channel, event, self.now)?;
        let Some(Placement {
            block,
            offset,
            content,
            atomic,
        }) = placement
        else {
            return Ok(Effect::Nothing);
        };
        let fills = match content {
            Content::Data(data) => fills(data),
            Content::Zero(len) => zeros(len),
        };
        if atomic {
            let zero = matches!(content, Content::Zero(_));
            assert!(
                zero || fills.iter().any(|byte| *byte != 0),
                "zero pages must not be copied"
            );
            return Ok(Effect::Place(block, offset / PAGE, fills));
        }
        Ok(Effect::Write(block, offset / PAGE, fills))
    }

    fn act(&mut self, op: Op) -> Result<Effect, Error> {
        self.now += 1000;
        let done = Effect::Nothing;
        match op {
            Op::OpenReturnPath => self.command(&Command::OpenReturnPath),
            Op::Ping(value) => self.command(&Command::Ping { value }),
            Op::Advise => {
                let (target, summary) = (PAGE, PAGE + PARTS * PAGE);
                let sizes = Some(PageSizes { summary, target });
                self.command(&Command::PostcopyAdvise { sizes })
            }
            Op::Announce(block) => {
                let record = Record::Block {
                    block: BlockIndex::new(u32::try_from(block).unwrap()),
                    name: name(block),
                    len: BLOCKS[block].0 * PAGE,
                    page_size: None,
                    gpa: None,
                };
                self.event(Main, Event::Record(record))
            }
            Op::Discard(block, start, len) => {
                let range = Range::new(start * PAGE, len * PAGE).unwrap();
                self.command(&Command::PostcopyRamDiscard {
                    block: name(block),
                    ranges: RangeBuf::new(vec![range]).unwrap(),
                })
            }
            Op::Packaged => self.command(&Command::Packaged { size: 1 }),
            Op::Listen => self.command(&Command::PostcopyListen),
            Op::Run => self.command(&Command::PostcopyRun),
            Op::PackageEnd => self.event(Main, Event::PackageEnd),
            Op::DeviceState => self.event(Main, Event::DeviceState { id: 1, bytes: &[1] }),
            Op::EnableColo => self.command(&Command::EnableColo),
            Op::RecvBitmap(block) => self.command(&Command::RecvBitmap { block: name(block) }),
            Op::Resume => self.command(&Command::PostcopyResume),
            Op::Eof => self.event(Main, Event::Eof),
            Op::Page(channel, block, at, byte) => {
                let data = vec![byte; usize::try_from(PAGE).unwrap()];
                let record = Record::Page {
                    block: BlockIndex::new(u32::try_from(block).unwrap()),
                    offset: at * PAGE,
                    data: &data,
                    named: false,
                };
                self.event(channel, Event::Record(record))
            }
            Op::Zero(channel, block, at) => {
                let record = Record::Zero {
                    block: BlockIndex::new(u32::try_from(block).unwrap()),
                    offset: at * PAGE,
                    fill: 0,
                    named: true,
                };
                self.event(channel, Event::Record(record))
            }
            Op::Eos(channel) => self.event(channel, Event::Record(Record::Eos)),
            Op::RunOfPages(channel, block, at, len) => self
                .core
                .run_of_pages(channel, span(block, at, len), self.now)
                .map(|()| done),
            Op::Placed(channel, block, at, len) => self
                .core
                .placed(channel, span(block, at, len), 0, self.now)
                .map(|()| done),
            Op::Fault(block, at) => {
                let offset = at * PAGE + self.now % PAGE;
                self.core.fault(block, offset, self.now).map(Effect::Fault)
            }
            Op::Saved => self.core.device_state_saved().map(|()| done),
            Op::LinkLost(channel) => self.core.link_lost(channel).map(|()| done),
            Op::LinkRestored => self.core.link_restored().map(|()| done),
            Op::EndOfStream(channel) => self.core.end_of_stream(channel).map(|()| done),
            Op::Confirm => self.core.confirm().map(|()| done),
            Op::Abort => {
                self.core.abort();
                Ok(done)
            }
        }
    }

    /// Returns the core's messages in the model's form.
    fn replies(&mut self) -> Vec<Reply> {
        let mut bytes = Vec::new();
        while !self.core.outbox().is_empty() {
            bytes.append(self.core.outbox());
        }
        let mut stream = Stream::<Qemu>::new(u64::MAX);
        let mut input = bytes.as_slice();
        let mut replies = Vec::new();
        let find = |block: Name<'_>| (0..2).find(|at| name(*at) == block).unwrap();
        while let Some(item) = stream.next(&mut input).unwrap() {
            replies.push(match item {
                Item::Bitmap { bitmap, .. } => {
                    let pages = (0..bitmap.bits()).map(|at| bitmap.is_received(at));
                    let Some(Reply::Bitmap(_, received)) = replies.last_mut() else {
                        panic!("bitmap without an announcement");
                    };
                    received.extend(pages);
                    continue;
                }
                Item::Message { message, .. } => match message {
                    Message::Shut { value } => Reply::Shut(value),
                    Message::Pong { value } => Reply::Pong(value),
                    Message::ReqPagesId { start, len, block } => {
                        let block = find(block);
                        self.last = Some(block);
                        request(block, start, len, true)
                    }
                    Message::ReqPages { start, len } => {
                        let block = self.last.expect("an earlier request named the block");
                        request(block, start, len, false)
                    }
                    Message::RecvBitmap { block } => Reply::Bitmap(find(block), Vec::new()),
                    Message::ResumeAck => Reply::ResumeAck,
                    Message::SwitchoverAck => Reply::SwitchoverAck,
                    #[allow(unreachable_patterns, reason = "until the table has more messages")]
                    other => panic!("the model's destination does not send {other:?}"),
                },
            });
        }
        stream.finish().unwrap();
        // Bitmaps are padded to whole words.
        for reply in &mut replies {
            if let Reply::Bitmap(block, received) = reply {
                let pages = usize::try_from(BLOCKS[*block].0).unwrap();
                assert!(received.drain(pages..).all(|bit| !bit));
            }
        }
        replies
    }

    /// Applies a call to both, and compares all observable state.
    pub(super) fn step(&mut self, op: Op) -> Result<(), Blame> {
        let want = self.model.apply(op);
        let got = self.act(op);
        let blame = got.as_ref().map_err(|error| error.kind.blame());
        assert_eq!(blame, want.as_ref().map_err(|blame| *blame), "{got:?}");
        assert_eq!(self.core.phase(), self.model.phase);
        if self.model.phase == Phase::Paused || op == Op::LinkRestored && want.is_ok() {
            self.last = None;
        }
        assert_eq!(self.replies(), std::mem::take(&mut self.model.replies));
        let actions: Vec<_> = std::iter::from_fn(|| self.core.poll()).collect();
        assert_eq!(actions, std::mem::take(&mut self.model.actions));
        let pages = self.core.pages();
        for (block, memory) in self.model.memory.iter().enumerate() {
            for (at, page) in (0..).zip(memory) {
                assert_eq!(pages.is_received(block, at * PAGE), page.is_some());
            }
        }
        let wanted = self.model.wanted.iter();
        let requested = (0..BLOCKS.len()).flat_map(|block| {
            let all = span(block, 0, BLOCKS[block].0);
            pages.requested_in(all).map(move |offset| (block, offset))
        });
        assert!(requested.eq(wanted.map(|(block, at)| (*block, at * PAGE))));
        let missing = self.model.missing().count();
        assert_eq!(pages.missing(), u64::try_from(missing).unwrap());
        want.map(|_| ())
    }
}

/// A range in pages.
fn span(block: usize, at: u64, len: u64) -> Span {
    Span {
        block,
        offset: at * PAGE,
        len: len * PAGE,
    }
}

fn request(block: usize, start: u64, len: u32, named: bool) -> Reply {
    assert_eq!(u64::from(len), BLOCKS[block].1 * PAGE);
    let at = start / PAGE;
    Reply::Request { block, at, named }
}
