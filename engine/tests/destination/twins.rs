//! The core and the model, driven alike and compared after every call.

use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{BlockId, Event, ram::Record};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{Decoded, Encode, Message, Name, NameBuf, Qemu, decode};
use retpath_engine::Channel::{self, Main};
use retpath_engine::destination::{Blame, Config, Destination, Error, Phase, Placed, Placement};

use crate::model::{BLOCKS, Did, Model, Op, PAGE, PARTS};

const NAMES: [&str; 2] = ["small", "big"];

fn name(block: usize) -> Name<'static> {
    let text = NAMES.get(block).copied().unwrap_or("none");
    Name::new(text.as_bytes()).unwrap()
}

/// The core and the model, driven alike.
pub(crate) struct Twins {
    pub(crate) core: Destination,
    pub(crate) model: Model,
    now: u64,
    /// The block that REQ_PAGES goes on with.
    last: Option<usize>,
}

impl Twins {
    pub(crate) fn new(preempt: bool) -> Self {
        let big = (NameBuf::new("big").unwrap(), PARTS * PAGE);
        let core = Destination::new(Config {
            preempt,
            page_sizes: vec![big],
            ..Config::default()
        });
        Self {
            core,
            model: Model::new(preempt),
            now: 0,
            last: None,
        }
    }

    fn command(&mut self, command: &Command<Name<'_>, RangeBuf>) -> Result<Did, Error> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes).unwrap();
        match decode::<Commands>(&bytes).unwrap() {
            Decoded::Message { message, .. } => self.event(Main, Event::Command(message)),
            Decoded::Need(_) => unreachable!("a whole command"),
        }
    }

    fn event(&mut self, channel: Channel, event: Event<'_>) -> Result<Did, Error> {
        let bytes = |data: &[u8]| -> Vec<u8> {
            let chunks = data.chunks(usize::try_from(PAGE).unwrap());
            chunks
                .map(|page| {
                    assert!(page.iter().all(|byte| *byte == page[0]));
                    page[0]
                })
                .collect()
        };
        let zeros = |len: u64| vec![0; usize::try_from(len / PAGE).unwrap()];
        let placement = self.core.event(channel, event, self.now)?;
        Ok(match placement {
            Placement::None => Did::Nothing,
            Placement::Write {
                block,
                offset,
                data,
            } => Did::Write(block, offset / PAGE, bytes(data)),
            Placement::Clear { block, offset, len } => Did::Write(block, offset / PAGE, zeros(len)),
            Placement::Copy {
                block,
                offset,
                data,
            } => {
                let data = bytes(data);
                assert!(data.iter().any(|byte| *byte != 0), "zeros are not copied");
                Did::Place(block, offset / PAGE, data)
            }
            Placement::Zero { block, offset, len } => Did::Place(block, offset / PAGE, zeros(len)),
        })
    }

    fn act(&mut self, op: Op) -> Result<Did, Error> {
        self.now += 1000;
        let done = Did::Nothing;
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
                    block: BlockId::new(u32::try_from(block).unwrap()),
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
                    block: BlockId::new(u32::try_from(block).unwrap()),
                    offset: at * PAGE,
                    data: &data,
                    named: false,
                };
                self.event(channel, Event::Record(record))
            }
            Op::Zero(channel, block, at) => {
                let record = Record::Zero {
                    block: BlockId::new(u32::try_from(block).unwrap()),
                    offset: at * PAGE,
                    fill: 0,
                    named: true,
                };
                self.event(channel, Event::Record(record))
            }
            Op::Eos(channel) => self.event(channel, Event::Record(Record::Eos)),
            Op::RunOfPages(channel, block, at, len) => self
                .core
                .run_of_pages(channel, block, at * PAGE, len * PAGE)
                .map(|()| done),
            Op::Placed(channel, block, at, len) => self
                .core
                .placed(channel, block, at * PAGE, len * PAGE, Placed::New, self.now)
                .map(|()| done),
            Op::Fault(block, at) => {
                let offset = at * PAGE + self.now % PAGE;
                self.core.fault(block, offset, self.now).map(Did::Fault)
            }
            Op::Saved => self.core.device_state_saved().map(|()| done),
            Op::LinkLost(channel) => self.core.link_lost(channel).map(|()| done),
            Op::LinkRestored => self.core.link_restored().map(|()| done),
            Op::EndOfStream(channel) => self.core.end_of_stream(channel).map(|()| done),
        }
    }

    /// What the core says, in the model's words.
    fn said(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        while !self.core.outbox().is_empty() {
            bytes.append(self.core.outbox());
        }
        let mut stream = Stream::<Qemu>::new(u64::MAX);
        let mut input = bytes.as_slice();
        let mut said: Vec<String> = Vec::new();
        let find = |block: Name<'_>| (0..2).find(|at| name(*at) == block).unwrap();
        while let Some(item) = stream.next(&mut input).unwrap() {
            match item {
                Item::Bitmap { bitmap, .. } => {
                    let pages = (0..bitmap.bits()).filter(|at| bitmap.is_received(*at));
                    let pages: Vec<_> = pages.collect();
                    said.last_mut().unwrap().push_str(&format!(" {pages:?}"));
                }
                Item::Message { message, .. } => said.push(match message {
                    Message::Shut { value } => format!("SHUT {value}"),
                    Message::Pong { value } => format!("PONG {value}"),
                    Message::ReqPagesId { start, len, block } => {
                        let block = find(block);
                        assert_eq!(u64::from(len), BLOCKS[block].1 * PAGE);
                        self.last = Some(block);
                        format!("REQ ID {block} {}", start / PAGE)
                    }
                    Message::ReqPages { start, len } => {
                        let block = self.last.expect("a block has been named");
                        assert_eq!(u64::from(len), BLOCKS[block].1 * PAGE);
                        format!("REQ {block} {}", start / PAGE)
                    }
                    Message::RecvBitmap { block } => format!("RECV_BITMAP {}", find(block)),
                    Message::ResumeAck => "RESUME_ACK".into(),
                    Message::SwitchoverAck => "SWITCHOVER_ACK".into(),
                }),
            }
        }
        stream.finish().unwrap();
        said
    }

    /// Does it on both, and compares everything that can be seen.
    pub(crate) fn step(&mut self, op: Op) -> Result<(), Blame> {
        let want = self.model.apply(op);
        let got = self.act(op);
        let blame = got.as_ref().map_err(|error| error.what.blame());
        assert_eq!(blame, want.as_ref().map_err(|blame| *blame), "{got:?}");
        assert_eq!(self.core.phase(), self.model.phase);
        if self.model.phase == Phase::Paused || op == Op::LinkRestored && want.is_ok() {
            self.last = None;
        }
        assert_eq!(self.said(), std::mem::take(&mut self.model.said));
        let actions: Vec<_> = std::iter::from_fn(|| self.core.poll()).collect();
        assert_eq!(actions, std::mem::take(&mut self.model.actions));
        let pages = self.core.pages();
        for (block, (len, _)) in self.model.blocks.iter().enumerate() {
            for at in 0..*len {
                let received = self.model.memory.contains_key(&(block, at));
                assert_eq!(pages.is_received(block, at * PAGE), received);
            }
        }
        let wanted: Vec<_> = pages.requested().collect();
        let model = self.model.wanted.iter();
        assert_eq!(
            wanted,
            model.map(|(b, at)| (*b, at * PAGE)).collect::<Vec<_>>()
        );
        assert_eq!(
            pages.missing(),
            u64::try_from(self.model.missing().len()).unwrap()
        );
        want.map(|_| ())
    }
}
