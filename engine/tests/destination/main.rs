//! The destination core against a model of it, call by call: long random
//! sequences of legal and illegal calls, and whole migrations with the link cut
//! anywhere. Every failure names its seed.

mod model;

use model::{BLOCKS, Did, Model, Op, PAGE, PARTS};
use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{BlockId, Event, ram::Record};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{Decoded, Encode, Message, Name, NameBuf, Qemu, decode};
use retpath_engine::Channel::{self, Main, Preempt};
use retpath_engine::destination::{Blame, Config, Destination, Error, Phase, Placed, Placement};

const NAMES: [&str; 2] = ["small", "big"];

fn name(block: usize) -> Name<'static> {
    let text = NAMES.get(block).copied().unwrap_or("none");
    Name::new(text.as_bytes()).unwrap()
}

/// splitmix64: small pseudo-random numbers, the same ones every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let count = u64::try_from(from.len()).unwrap();
        let at = usize::try_from(self.next().checked_rem(count)?).unwrap();
        Some(from[at])
    }
}

/// The core and the model, driven alike.
struct Twins {
    core: Destination,
    model: Model,
    now: u64,
    /// The block that REQ_PAGES goes on with.
    last: Option<usize>,
}

impl Twins {
    fn new(preempt: bool) -> Self {
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
                let (target, summary) = (PAGE, PAGE | PARTS * PAGE);
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
    fn step(&mut self, op: Op) -> Result<(), Blame> {
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

    fn anything(&self, random: &mut Random) -> Op {
        let channel = random.pick(&[Main, Main, Preempt]).unwrap();
        let block = usize::try_from(random.below(2)).unwrap();
        let at = random.below(BLOCKS[block].0 + 1);
        let byte = u8::try_from(random.below(255) + 1).unwrap();
        match random.below(30) {
            0 => Op::OpenReturnPath,
            1 => Op::Ping(4),
            2 => Op::Ping(0x42),
            3 => Op::Advise,
            4 => Op::Announce(block),
            5 => Op::Discard(block, at, random.below(8) + 1),
            6 => Op::Packaged,
            7 => Op::Listen,
            8 => Op::Run,
            9 => Op::PackageEnd,
            10 => Op::DeviceState,
            11 => Op::EnableColo,
            12 => Op::RecvBitmap(block),
            13 => Op::Resume,
            14 => Op::Eof,
            15 => Op::Zero(channel, block, at),
            16 => Op::Eos(channel),
            17 => Op::RunOfPages(channel, block, at, random.below(9)),
            18 => Op::Placed(channel, block, at, random.below(9)),
            19 | 20 => Op::Fault(block, at),
            21 => Op::Saved,
            22 => Op::LinkLost(channel),
            23 => Op::LinkRestored,
            24 => Op::EndOfStream(channel),
            _ => Op::Page(channel, block, at, byte),
        }
    }
}

impl Twins {
    /// Everything up to the switch; what is in memory differs by the seed.
    fn switch(&mut self, random: &mut Random) {
        let script = [
            Op::OpenReturnPath,
            Op::Ping(1),
            Op::Advise,
            Op::Announce(0),
            Op::Announce(1),
        ];
        for op in script {
            self.step(op).unwrap();
        }
        for _ in 0..random.below(20) {
            let block = usize::try_from(random.below(2)).unwrap();
            let at = random.below(BLOCKS[block].0);
            let byte = u8::try_from(random.below(255) + 1).unwrap();
            self.step(Op::Page(Main, block, at, byte)).unwrap();
        }
        for (block, (len, page)) in BLOCKS.into_iter().enumerate() {
            for at in (0..len).step_by(usize::try_from(page).unwrap()) {
                let half = (at..at + page).any(|at| !self.model.memory.contains_key(&(block, at)));
                if half || random.one_in(4) {
                    self.step(Op::Discard(block, at, page)).unwrap();
                }
            }
        }
        let script = [
            Op::Packaged,
            Op::Listen,
            Op::DeviceState,
            Op::Ping(3),
            Op::Ping(0x42),
            Op::Run,
            Op::PackageEnd,
        ];
        for op in script {
            self.step(op).unwrap();
        }
    }

    /// Something that brings a migration forward, most of the time.
    fn likely(&self, random: &mut Random, cut: u64) -> Op {
        let model = &self.model;
        let channel = random.pick(&[Main, Preempt]).unwrap();
        let lane = usize::from(channel == Preempt);
        let byte = u8::try_from(random.below(255) + 1).unwrap();
        let missing = random.pick(&model.missing());
        match random.below(16) {
            0 if cut > 0 && random.one_in(cut) => Op::LinkLost(channel),
            0 => Op::Ping(4),
            1 => Op::Saved,
            2 => Op::Eof,
            3 if random.one_in(8) => Op::EndOfStream(Preempt),
            3..=5 => match model.phase {
                Phase::Paused if random.one_in(2) => Op::LinkLost(channel),
                Phase::Paused => Op::LinkRestored,
                _ if random.one_in(2) => Op::Resume,
                _ => Op::RecvBitmap(usize::try_from(random.below(2)).unwrap()),
            },
            6 | 7 => match missing {
                Some((block, at)) => Op::Fault(block, at),
                None => Op::Fault(0, 0),
            },
            8..=11 => match model.placing[lane].iter().next() {
                Some((block, at, bytes)) => {
                    let page = BLOCKS[*block].1;
                    let len = u64::try_from(bytes.len()).unwrap();
                    let part = (1 + random.below(len / page)) * page;
                    Op::Placed(channel, *block, *at, part)
                }
                None => Op::Ping(5),
            },
            12 => match missing {
                Some((block, at)) => {
                    let page = BLOCKS[block].1;
                    let len = page * (1 + random.below(2));
                    Op::RunOfPages(channel, block, at / page * page, len)
                }
                None => Op::DeviceState,
            },
            _ => {
                // Go on with a half page rather than begin another.
                let page = match &model.half[lane] {
                    Some((block, host, parts)) => {
                        let all = *host..*host + BLOCKS[*block].1;
                        let left: Vec<_> = all.filter(|at| !parts.contains_key(at)).collect();
                        random.pick(&left).map(|at| (*block, at))
                    }
                    None => missing,
                };
                match page {
                    Some((block, at)) if random.one_in(2) => Op::Page(channel, block, at, byte),
                    Some((block, at)) => Op::Zero(channel, block, at),
                    None => Op::Eof,
                }
            }
        }
    }

    /// A likely call that is legal, if one turns up.
    fn legal(&self, random: &mut Random, cut: u64) -> Op {
        let mut op = self.likely(random, cut);
        for _ in 0..1000 {
            if self.model.clone().apply(op).is_ok() {
                break;
            }
            op = self.likely(random, cut);
        }
        op
    }

    /// Goes on with legal calls until the migration has finished; says how
    /// many it took.
    fn finish(&mut self, random: &mut Random, cut: u64) -> usize {
        for calls in 0..20_000 {
            if self.model.phase == Phase::Finished {
                return calls;
            }
            let op = self.legal(random, cut);
            self.step(op).unwrap();
        }
        panic!("it does not end: {:?}", self.model);
    }
}

/// Runs `test` with many seeds, and names the one that fails.
fn seeds(count: u64, test: impl Fn(&mut Random) + std::panic::RefUnwindSafe) {
    for seed in 0..count {
        let run = std::panic::catch_unwind(|| test(&mut Random(seed)));
        if let Err(panic) = run {
            eprintln!("the seed is {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn agrees_with_the_model_on_every_sequence_of_calls() {
    seeds(200, |random| {
        let mut twins = Twins::new(random.one_in(2));
        if !random.one_in(4) {
            twins.switch(random);
        }
        for _ in 0..400 {
            let op = match random.below(10) {
                0 => twins.anything(random),
                1 => twins.likely(random, 2),
                _ => twins.legal(random, 4),
            };
            let _ = twins.step(op);
            if twins.model.phase == Phase::Failed && random.one_in(10) {
                break;
            }
        }
    });
}

#[test]
fn agrees_with_the_model_from_the_first_call_on() {
    seeds(1000, |random| {
        let mut twins = Twins::new(random.one_in(2));
        for _ in 0..60 {
            let mut op = twins.anything(random);
            // Mostly something that does not end it.
            for _ in 0..4 {
                let mut after = twins.model.clone();
                if after.apply(op).is_ok() && !after.phase.is_over() {
                    break;
                }
                op = twins.anything(random);
            }
            let _ = twins.step(op);
        }
    });
}

#[test]
fn finishes_every_migration_however_often_it_is_cut() {
    seeds(150, |random| {
        let mut twins = Twins::new(random.one_in(2));
        twins.switch(random);
        twins.finish(random, 3);
        assert_eq!(twins.core.pages().missing(), 0);
        assert_eq!(twins.core.stats().duplicates, 0);
        // The source may not have seen the end.
        twins.step(Op::LinkLost(Main)).unwrap();
        twins.step(Op::LinkRestored).unwrap();
        twins.finish(random, 3);
    });
}

#[test]
fn recovers_from_a_cut_after_every_call() {
    seeds(4, |random| {
        let start = random.0;
        let preempt = start % 2 == 0;
        let mut twins = Twins::new(preempt);
        twins.switch(random);
        let calls = twins.finish(random, 0);
        for cut in 0..=calls {
            let random = &mut Random(start);
            let mut twins = Twins::new(preempt);
            twins.switch(random);
            for _ in 0..cut {
                let op = twins.legal(random, 0);
                twins.step(op).unwrap();
            }
            twins.step(Op::LinkLost(Main)).unwrap();
            twins.step(Op::LinkLost(Preempt)).unwrap();
            twins.step(Op::LinkRestored).unwrap();
            twins.finish(random, 0);
        }
    });
}
