//! Drives the source core with a hostile destination and a careless caller.
//!
//! Messages and bitmaps have any content, and calls come in any order. There is
//! no model: the harness checks the guarantees of [`retpath_engine::source`], and
//! that the emitted stream stays valid.

mod generate;

use std::collections::{BTreeSet, HashSet};

use retpath_codec::BlockName;
use retpath_codec::command::{Command, RangeList};
use retpath_codec::forward::{Decoded, Decoder, Event, Options, ram::Record};

use super::peer::at;
use super::{TARGET, blocks_of};
use crate::choices::Choices;
use retpath_engine::Channel;
use retpath_engine::blocks::Blocks;
use retpath_engine::source::{Config, Error, Gather, Next, PageRun, Preempt, Source, SourcePhase};

/// A target page: its block, and its offset in it.
type Page = (usize, u64);

const STEP: usize = 1024;

struct Harness {
    source: Source,
    config: Config,
    blocks: Blocks,
    now: u64,
    gather: Gather,
    /// The main decoder of the stream; `None` only while it is in use.
    main: Option<Decoder>,
    preempt: Option<Decoder>,
    /// Undecoded bytes of an incomplete item, by channel.
    left: [Vec<u8>; 2],
    received: BTreeSet<Page>,
    /// Target pages handed out over the current link after the switch.
    sent: BTreeSet<Page>,
    ended: bool,
    /// Phases reached.
    seen: HashSet<SourcePhase>,
}

/// Checks that no destination or caller input violates a guarantee, and returns
/// the phases reached.
pub fn hostile(choices: &mut Choices<'_>) -> HashSet<SourcePhase> {
    let mut harness = Harness::new(choices);
    for _ in 0..600 {
        harness.step(choices);
        if choices.is_empty() {
            break;
        }
    }
    harness.seen
}

impl Harness {
    fn new(choices: &mut Choices<'_>) -> Self {
        let mut sizes = Vec::new();
        for _ in 0..1 + choices.below(3) {
            let page = TARGET << [0, 0, 1, 2, 4][choices.index(5)];
            sizes.push((1 + choices.below(80 * TARGET / page), page));
        }
        let blocks = blocks_of(TARGET, &sizes);
        let config = Config::new("pc")
            .page_bits(choices.one_in(2))
            .footers(!choices.one_in(4))
            .section(if choices.one_in(4) { u32::MAX } else { 1 })
            .host_page(TARGET << choices.below(2))
            .preempt([None, Some(Preempt::Late), Some(Preempt::Early)][choices.index(3)])
            .bandwidth([0, 0, 1 << 30, 1, u64::MAX][choices.index(5)])
            .switchover_start(choices.one_in(2))
            .switchover_ack(choices.one_in(2))
            .ping_loaded(choices.one_in(2))
            .outer_pings(choices.one_in(2))
            .run(TARGET + choices.below(1 << 15));
        let page_sizes = blocks.iter().map(|block| (block.name.clone(), block.page));
        let options = Options::default()
            .page_sizes(page_sizes)
            .target_page(TARGET)
            .host_page(config.host_page);
        Self {
            source: Source::new(config.clone(), blocks.clone()).expect("valid configuration"),
            config,
            blocks,
            now: 0,
            gather: Gather::new(),
            main: Some(Decoder::new(options)),
            preempt: None,
            left: Default::default(),
            received: BTreeSet::new(),
            sent: BTreeSet::new(),
            ended: false,
            seen: HashSet::from([SourcePhase::Fresh]),
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        self.now = match choices.below(64) {
            0 => u64::MAX,
            1 => choices.any(),
            step => self.now.saturating_add(step * 300_000),
        };
        let was = self.source.phase();
        let got = self.call(choices);
        let phase = self.source.phase();
        if phase != was {
            self.seen.insert(phase);
        }
        if let Err(error) = &got {
            // Unit tests compare the texts; here, formatting must not panic for any value.
            let _ = error.to_string();
            match error {
                Error::Refused { .. } | Error::Malformed(_) => {
                    let dead = phase == SourcePhase::Paused || phase.is_over();
                    assert!(dead || was == SourcePhase::Fresh, "{error} while {was}");
                }
                Error::Phase { .. } | Error::Blocks(_) => assert_eq!(phase, was),
                _ => {}
            }
        }
        if was.is_over() {
            assert_eq!(phase, was, "{got:?}");
        }
        if phase == SourcePhase::Paused && was != phase {
            self.forget_link();
        }
        let total: u64 = self.blocks.iter().map(|block| block.len).sum();
        assert!(self.source.remaining() <= total);
        assert!(self.source.waiting() <= total / self.blocks.target());
        assert!(self.source.memory() <= 1 << 20);
        if phase == SourcePhase::Completed {
            assert!(self.source.guest_left());
            assert_eq!(self.source.remaining(), 0);
        }
    }

    fn next(&mut self, channel: Channel, choices: &mut Choices<'_>) {
        let mut out = Vec::new();
        let next = self.source.next(channel, self.now, &mut out);
        self.read(channel, &out);
        match next {
            Next::Urgent(run) | Next::Sweep(run) => {
                assert_eq!(run.channel, channel);
                self.run(run);
                let zeros = match choices.below(4) {
                    0 => choices.any(),
                    _ => run.len / run.page,
                };
                self.source.written(&run, zeros);
            }
            Next::Connect if choices.one_in(2) => {
                let connected = self.source.preempt_connected(self.now);
                assert_eq!(connected, Ok(()), "Next::Connect was returned");
            }
            Next::Wait { until: Some(until) } => assert!(until > self.now || until == u64::MAX),
            Next::Write => assert!(!out.is_empty()),
            Next::Connect | Next::Wait { until: None } | Next::Stop => {}
        }
    }

    /// Checks that a run consists of whole target pages of its block that were not
    /// yet sent over this link.
    fn run(&mut self, run: PageRun) {
        let target = self.blocks.target();
        let inside = self.blocks.check(run.block, run.offset, run.len, target);
        assert!(inside.is_ok(), "{run:?}");
        assert!(run.len <= self.config.run.max(target), "{run:?}");
        if self.source.guest_left() {
            for offset in run.offsets() {
                let new = self.sent.insert((run.block, offset));
                assert!(new, "{offset:#x} of {run:?} is sent twice");
            }
        }
        let block = self.blocks.block(run.block).expect("block exists");
        let name = block.name.clone();
        self.gather.lay_known(&run, name.name(), |_| true);
        let bytes: Vec<u8> = self.gather.slices(&[]).flatten().copied().collect();
        self.read(run.channel, &bytes);
    }

    /// Decodes what the source wrote.
    fn read(&mut self, channel: Channel, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut input = std::mem::take(&mut self.left[at(channel)]);
        input.extend_from_slice(bytes);
        let main = self.main.take().expect("decoder is not in use");
        let preempt = self.preempt.take();
        let (mut decoder, other) = match channel {
            Channel::Main => (main, preempt),
            Channel::Preempt => (preempt.unwrap_or_else(|| main.preempt()), Some(main)),
        };
        let mut done = 0;
        loop {
            match decoder.next(&input[done..]) {
                Ok(Decoded::Need(_)) => break,
                Ok(Decoded::Event { event, size }) => {
                    done += size;
                    self.event(&event);
                }
                Err(error) => panic!("{channel}: {error} in {input:02x?}"),
            }
        }
        input.drain(..done);
        self.left[at(channel)] = input;
        (self.main, self.preempt) = match channel {
            Channel::Main => (Some(decoder), other),
            Channel::Preempt => (other, Some(decoder)),
        };
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Record(Record::Zero { block, offset, .. }) => {
                self.received.insert((block.index(), *offset));
            }
            Event::Command(Command::PostcopyRamDiscard { block, ranges }) => {
                let id = self.blocks.find(*block).expect("block exists");
                for range in ranges.iter() {
                    for at in (range.start..range.start + range.len).step_by(STEP) {
                        self.received.remove(&(id, at));
                    }
                }
            }
            Event::Eof => self.ended = true,
            _ => {}
        }
    }

    /// Lets another source take over, if the phase allows it.
    fn replace_source(&mut self) {
        if self.source.phase() == SourcePhase::Paused {
            let other = Source::taking_over(self.config.clone(), self.blocks.clone());
            self.source = other.expect("same configuration as the first source");
        }
    }

    fn forget_link(&mut self) {
        self.main = self.main.as_ref().map(Decoder::resume);
        self.preempt = None;
        self.left = Default::default();
        self.sent.clear();
        self.ended = false;
    }
}
