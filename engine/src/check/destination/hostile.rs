//! A source that keeps no rule, and a caller that keeps hardly any: events of
//! any kind with any values, calls in any order. There is no model; what must
//! hold is what [`crate::destination`] promises.

use std::collections::{BTreeSet, HashSet};

use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{BlockId, Event, Subsection, ram::Record};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{BlockName, Decoded, Encode, Message, Name, Qemu, decode};

use crate::Channel::{self, Main, Preempt};
use crate::check::Choices;
use crate::destination::{Action, Blame, Config, Destination, Error, Phase, Placed, Placement};

const NAMES: [&[u8]; 4] = [b"pc.ram", b"rom", b"huge", b"\xff"];

/// Sizes that pages may have, and some that none may have.
const SIZES: [u64; 8] = [4096, 4096, 4096, 1024, 65536, 0, 1, 1 << 32];

/// Most RAM of a test, in bytes.
const RAM: u64 = 1 << 20;

/// A page: its block, and its offset in it.
type Page = (usize, u64);

struct Watch {
    core: Destination,
    now: u64,
    preempt: bool,
    confirm_end: bool,
    /// Whether everything was said to be here.
    complete: bool,
    /// Phases that have been reached.
    seen: HashSet<Phase>,
    /// Host pages handed out and not placed, with their channel.
    handed: BTreeSet<(Page, bool)>,
    placed: BTreeSet<Page>,
    /// The return path of this link, as the source sees it.
    path: Stream<Qemu>,
    asked: BTreeSet<Page>,
    named: Option<usize>,
}

/// Nothing that a source or a caller does breaks a promise. Says which phases
/// were reached.
pub fn hostile(choices: &mut Choices<'_>) -> HashSet<Phase> {
    let mut watch = Watch::new(choices);
    if choices.one_in(2) {
        watch.start(choices);
    }
    for _ in 0..500 {
        watch.step(choices);
        if choices.is_empty() {
            break;
        }
    }
    watch.seen
}

fn name(choices: &mut Choices<'_>) -> Name<'static> {
    let bytes = NAMES[choices.index(NAMES.len())];
    Name::new(bytes).expect("a name")
}

/// A place in a block: a page's, mostly.
fn offset(choices: &mut Choices<'_>) -> u64 {
    match choices.below(16) {
        0 => choices.any(),
        1 => choices.below(RAM),
        _ => choices.below(16) * 4096,
    }
}

fn length(choices: &mut Choices<'_>) -> u64 {
    match choices.below(8) {
        0 => choices.any(),
        1 => choices.below(3) * 1024,
        2 => 65536,
        _ => choices.below(5) * 4096,
    }
}

fn channel(choices: &mut Choices<'_>) -> Channel {
    if choices.one_in(3) { Preempt } else { Main }
}

impl Watch {
    fn new(choices: &mut Choices<'_>) -> Self {
        let target_page = if choices.one_in(8) {
            SIZES[choices.index(SIZES.len())]
        } else {
            4096
        };
        let mut page_sizes = Vec::new();
        for _ in 0..choices.below(3) {
            let page = SIZES[choices.index(SIZES.len())];
            page_sizes.push((name(choices).to_buf(), page));
        }
        let preempt = choices.one_in(2);
        let config = Config {
            preempt,
            switchover_ack: choices.one_in(2),
            accept_precopy_end: choices.one_in(2),
            target_page,
            host_page: if choices.one_in(8) { 65536 } else { 4096 },
            page_sizes,
            max_ram: RAM,
            confirm_end: choices.one_in(2),
        };
        let confirm_end = config.confirm_end;
        Self {
            core: Destination::new(config),
            now: 0,
            preempt,
            confirm_end,
            complete: false,
            seen: HashSet::new(),
            handed: BTreeSet::new(),
            placed: BTreeSet::new(),
            path: Stream::new(u64::MAX),
            asked: BTreeSet::new(),
            named: None,
        }
    }

    /// Most of the way to the switch, so that not every test stops before it.
    fn start(&mut self, choices: &mut Choices<'_>) {
        let sizes = PageSizes {
            summary: if choices.one_in(3) { 0x11000 } else { 4096 },
            target: 4096,
        };
        let _ = self.command(Command::OpenReturnPath);
        let _ = self.command(Command::PostcopyAdvise { sizes: Some(sizes) });
        for number in 0..1 + choices.below(3) {
            let len = (1 + choices.below(8)) * 65536;
            let _ = self.block(number, NAMES[number as usize % 4], len, None);
        }
        for _ in 0..choices.below(4) {
            let event = record(choices, &[7; 4096]);
            let _ = self.event(Main, event);
        }
        for block in NAMES.iter().take(choices.index(3)) {
            let ranges = vec![Range {
                start: 0,
                len: 65536,
            }];
            let _ = self.command(Command::PostcopyRamDiscard {
                block: Name::new(block).expect("a name"),
                ranges: RangeBuf::new(ranges).expect("a range"),
            });
        }
        for command in [
            Command::Packaged { size: 10 },
            Command::PostcopyListen,
            Command::PostcopyRun,
        ] {
            if choices.one_in(8) {
                return;
            }
            let _ = self.command(command);
        }
        let _ = self.event(Main, Event::PackageEnd);
    }

    /// What a good source and a good caller do next.
    fn mend(&mut self, choices: &mut Choices<'_>) -> Result<(), Error> {
        match self.core.phase() {
            Phase::Paused => {
                self.forget(Main);
                self.forget(Preempt);
                self.core.link_lost(Main)?;
                self.core.link_lost(Preempt)?;
                self.core.link_restored()
            }
            Phase::Recovering => {
                let names: Vec<_> = self.core.blocks().iter().map(|b| b.name.clone()).collect();
                for name in &names {
                    let block = name.name();
                    self.command(Command::RecvBitmap { block })?;
                }
                self.command(Command::PostcopyResume)
            }
            Phase::Listening => self.command(Command::PostcopyRun),
            Phase::Running => {
                self.place_all();
                let all = choices.one_in(2);
                while let Some((block, offset)) = self.core.pages().first_missing() {
                    let number = u32::try_from(block).expect("few blocks");
                    let page = Record::Zero {
                        block: BlockId::new(number),
                        offset,
                        fill: 0,
                        named: true,
                    };
                    self.event(Main, Event::Record(page))?;
                    self.place_all();
                    if !all && choices.one_in(4) {
                        return Ok(());
                    }
                    if self.core.pages().first_missing() == Some((block, offset)) {
                        // The rest of a host page.
                        return self.rest_of_page(block, offset);
                    }
                }
                self.event(Main, Event::Eof)?;
                self.core.device_state_saved()?;
                self.act_all();
                if self.complete {
                    self.core.confirm()?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The further target pages of a host page whose first one has been sent.
    fn rest_of_page(&mut self, block: usize, first: u64) -> Result<(), Error> {
        let number = u32::try_from(block).expect("few blocks");
        let target = self.core.blocks().target();
        let page = self.core.blocks().block(block).expect("is known").page;
        for part in 1..page / target {
            let page = Record::Zero {
                block: BlockId::new(number),
                offset: first + part * target,
                fill: 0,
                named: false,
            };
            self.event(Main, Event::Record(page))?;
        }
        Ok(())
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        self.now += choices.below(1000);
        let was = self.core.phase();
        let got = self.call(choices);
        let phase = self.core.phase();
        self.seen.extend([was, phase]);
        if let Err(error) = &got {
            assert!(error.to_string().len() > 20, "{error}");
            if error.what.blame() == Blame::Caller {
                assert_eq!(phase, was, "{error}");
            }
        }
        if was == Phase::Failed {
            assert_eq!(phase, was);
        }
        if was == Phase::Finished && phase != was {
            assert_eq!(phase, Phase::Recovering, "{got:?}");
        }
        let lost = phase == Phase::Paused || phase == Phase::Recovering && was != phase;
        if lost {
            self.path = Stream::new(u64::MAX);
            self.asked.clear();
            self.named = None;
        }
        if choices.one_in(2) || lost {
            self.listen();
        }
        self.act_all();
        if choices.one_in(3) {
            self.place_all();
        }
        let pages = self.core.pages();
        assert!(pages.memory() <= 1 << 20, "{} bytes", pages.memory());
    }

    fn call(&mut self, choices: &mut Choices<'_>) -> Result<(), Error> {
        let block = choices.index(3);
        match choices.below(40) {
            33..40 => self.mend(choices),
            32 if choices.one_in(4) => {
                self.core.abort();
                assert!(self.core.phase().is_over());
                Ok(())
            }
            32 => {
                let early = !self.complete && self.confirm_end;
                let got = self.core.confirm();
                assert!(got.is_err() || !early, "nothing was complete");
                got
            }
            0 => self.core.device_state_saved(),
            1 => {
                let channel = channel(choices);
                self.forget(channel);
                self.core.link_lost(channel)
            }
            2 => self.core.link_restored(),
            3 => {
                let channel = channel(choices);
                let over = channel == Main && self.core.phase() != Phase::Finished;
                let got = self.core.end_of_stream(channel);
                if over && self.core.phase() == Phase::Paused || got.is_err() {
                    self.forget(channel);
                }
                got
            }
            4..8 => {
                let (offset, now) = (offset(choices), self.now);
                self.core.fault(block, offset, now).map(drop)
            }
            8 | 9 => {
                let (channel, offset, len) = (channel(choices), offset(choices), length(choices));
                self.run(channel, block, offset, len)
            }
            10 => {
                let (channel, offset, len) = (channel(choices), offset(choices), length(choices));
                self.placed(channel, block, offset, len)
            }
            11 => {
                self.core.arrived(channel(choices), self.now);
                self.core.written(self.now);
                Ok(())
            }
            12..20 => {
                let command = command(choices);
                self.command(command)
            }
            20 | 21 => {
                let (number, len) = (choices.below(4), length(choices));
                let page = SIZES[choices.index(SIZES.len())];
                let page = choices.one_in(2).then_some(page);
                let name = NAMES[choices.index(NAMES.len())];
                self.block(number, name, len, page)
            }
            22 => {
                let event = match choices.below(8) {
                    0 => Event::Header,
                    1 => Event::Configuration { machine: b"pc" },
                    2 => {
                        let bits = u32::try_from(choices.below(80)).expect("small");
                        Event::Subsection(Subsection::TargetPageBits(bits))
                    }
                    3 => Event::Footer { id: 1 },
                    4 => Event::DeviceState { id: 7, bytes: &[1] },
                    5 => Event::Description { size: 2 },
                    6 => Event::DescriptionBytes(b"{}"),
                    _ => Event::PackageEnd,
                };
                let channel = channel(choices);
                self.event(channel, event)
            }
            23 if choices.one_in(3) => self.event(Main, Event::Eof),
            _ => {
                let size = match choices.below(32) {
                    0 => 0,
                    1 => 4095,
                    2 => 65536,
                    _ => 4096,
                };
                let data = vec![choices.byte(); size];
                let event = record(choices, &data);
                let channel = channel(choices);
                self.event(channel, event)
            }
        }
    }

    fn command(&mut self, command: Command<Name<'_>, RangeBuf>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes).expect("made of sound parts");
        let Ok(Decoded::Message { message, .. }) = decode::<Commands>(&bytes) else {
            panic!("{command:?} is encoded as {bytes:02x?}");
        };
        self.event(Main, Event::Command(message))
    }

    fn block(
        &mut self,
        number: u64,
        name: &[u8],
        len: u64,
        page_size: Option<u64>,
    ) -> Result<(), Error> {
        let record = Record::Block {
            block: BlockId::new(u32::try_from(number).expect("small")),
            name: Name::new(name).expect("a name"),
            len,
            page_size,
            gpa: None,
        };
        self.event(Main, Event::Record(record))
    }

    fn event(&mut self, channel: Channel, event: Event<'_>) -> Result<(), Error> {
        let preempt = channel == Preempt;
        let (block, offset, len, live) = match self.core.event(channel, event, self.now)? {
            Placement::None => {
                self.seen.insert(self.core.phase());
                return Ok(());
            }
            Placement::Write {
                block,
                offset,
                data,
            } => (block, offset, data.len() as u64, false),
            Placement::Clear { block, offset, len } => (block, offset, len, false),
            Placement::Copy {
                block,
                offset,
                data,
            } => (block, offset, data.len() as u64, true),
            Placement::Zero { block, offset, len } => (block, offset, len, true),
        };
        self.inside(block, offset, len, live);
        if live {
            assert!(self.preempt || !preempt);
            self.hand(block, offset, len, preempt);
        } else {
            assert!(self.core.phase().is_precopy() && !preempt);
        }
        Ok(())
    }

    /// A range to be placed consists of whole pages of its block.
    fn inside(&self, block: usize, offset: u64, len: u64, live: bool) {
        let blocks = self.core.blocks();
        let page = match blocks.block(block) {
            Ok(block) if live => block.page,
            Ok(_) => blocks.target(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(blocks.check(block, offset, len, page), Ok(()));
    }

    /// Pages are handed out once.
    fn hand(&mut self, block: usize, offset: u64, len: u64, preempt: bool) {
        let page = self.core.blocks().block(block).expect("is inside").page;
        let step = usize::try_from(page).expect("a small page");
        for at in (offset..offset + len).step_by(step) {
            let page = (block, at);
            assert!(!self.placed.contains(&page), "{page:?} is placed again");
            assert!(!self.handed.contains(&(page, false)), "{page:?}");
            assert!(!self.handed.contains(&(page, true)), "{page:?}");
            self.handed.insert((page, preempt));
        }
    }

    fn run(&mut self, channel: Channel, block: usize, offset: u64, len: u64) -> Result<(), Error> {
        self.core.run_of_pages(channel, block, offset, len)?;
        self.inside(block, offset, len, true);
        self.hand(block, offset, len, channel == Preempt);
        Ok(())
    }

    fn placed(
        &mut self,
        channel: Channel,
        block: usize,
        offset: u64,
        len: u64,
    ) -> Result<(), Error> {
        let outcome = if self.now.is_multiple_of(7) {
            Placed::AlreadyPresent
        } else {
            Placed::New
        };
        let got = self
            .core
            .placed(channel, block, offset, len, outcome, self.now);
        // An error of the peer is about what is missing besides.
        if got.as_ref().is_err_and(|e| e.what.blame() == Blame::Caller) {
            return got;
        }
        let page = self
            .core
            .blocks()
            .block(block)
            .expect("was handed out")
            .page;
        let step = usize::try_from(page).expect("a small page");
        for at in (offset..offset + len).step_by(step) {
            let known = self.handed.remove(&((block, at), channel == Preempt));
            assert!(known, "{at:#x} was never handed out");
            self.placed.insert((block, at));
        }
        got
    }

    fn place_all(&mut self) {
        for ((block, at), preempt) in self.handed.clone() {
            let page = self
                .core
                .blocks()
                .block(block)
                .expect("was handed out")
                .page;
            let channel = if preempt { Preempt } else { Main };
            // Only from the start of a run, in order.
            let _ = self.placed(channel, block, at, page);
        }
    }

    /// What is on its way on a channel is lost with it.
    fn forget(&mut self, channel: Channel) {
        self.handed
            .retain(|(_, preempt)| *preempt != (channel == Preempt));
    }

    fn act_all(&mut self) {
        while let Some(action) = self.core.poll() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Block { id } => assert!(self.core.blocks().block(id).is_ok()),
            Action::Discard { block, start, len } => self.inside(block, start, len, true),
            Action::Listen | Action::Run | Action::DeviceStateComplete => {}
            Action::Complete(_) => {
                assert!(self.confirm_end && !self.complete);
                self.complete = true;
            }
            Action::Finished(_) => {
                assert!(!self.core.phase().is_live());
                assert_eq!(self.complete, self.confirm_end);
            }
        }
    }

    /// What goes out is a return path whose requests lie inside their blocks.
    fn listen(&mut self) {
        let mut bytes = Vec::new();
        while !self.core.outbox().is_empty() {
            bytes.append(self.core.outbox());
        }
        let mut input = bytes.as_slice();
        while let Some(item) = self.path.next(&mut input).expect("a return path") {
            let (block, start, len) = match item {
                Item::Message {
                    message: Message::ReqPagesId { start, len, block },
                    ..
                } => (self.core.blocks().find(block), start, len),
                Item::Message {
                    message: Message::ReqPages { start, len },
                    ..
                } => (self.named, start, len),
                _ => continue,
            };
            let id = block.expect("a block that is known");
            self.named = Some(id);
            let page = self.core.blocks().block(id).expect("is known").page;
            assert_eq!(u64::from(len), page);
            let inside = self.core.blocks().check(id, start, page, page);
            assert_eq!(inside, Ok(()));
            assert!(
                self.asked.insert((id, start)),
                "{start:#x} is asked for twice"
            );
        }
        assert_eq!(self.path.finish(), Ok(()));
    }
}

fn record<'a>(choices: &mut Choices<'_>, data: &'a [u8]) -> Event<'a> {
    let block = BlockId::new(u32::try_from(choices.below(4)).expect("small"));
    let (offset, named) = (offset(choices), choices.one_in(2));
    Event::Record(match choices.below(24) {
        0 => Record::Eos,
        1 => Record::Hook,
        2 => Record::MultifdFlush,
        3 => Record::MemSize { total: offset },
        4 => Record::Xbzrle {
            block,
            offset,
            data,
            named,
        },
        5 => Record::Compressed {
            block,
            offset,
            data,
            named,
        },
        6..12 => Record::Zero {
            block,
            offset,
            fill: if choices.one_in(4) { choices.byte() } else { 0 },
            named,
        },
        _ => Record::Page {
            block,
            offset,
            data,
            named,
        },
    })
}

fn command(choices: &mut Choices<'_>) -> Command<Name<'static>, RangeBuf> {
    let block = name(choices);
    match choices.below(16) {
        0 => Command::OpenReturnPath,
        1 => Command::Ping {
            value: if choices.one_in(2) { 0x42 } else { 1 },
        },
        2 => Command::PostcopyAdvise {
            sizes: (!choices.one_in(8)).then(|| PageSizes {
                summary: choices.any(),
                target: SIZES[choices.index(SIZES.len())],
            }),
        },
        3 => Command::PostcopyListen,
        4 => Command::PostcopyRun,
        5..9 => {
            let mut ranges = Vec::new();
            for _ in 0..1 + choices.below(3) {
                let (start, len) = (offset(choices), length(choices));
                ranges.extend(Range::new(start, len));
            }
            match RangeBuf::new(ranges) {
                Ok(ranges) => Command::PostcopyRamDiscard { block, ranges },
                Err(_) => Command::OpenReturnPath,
            }
        }
        9 => Command::Packaged { size: 0 },
        10 => Command::EnableColo,
        11 => Command::PostcopyResume,
        12 => Command::SwitchoverStart,
        _ => Command::RecvBitmap { block },
    }
}
