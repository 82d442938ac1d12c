//! Both cores, joined in memory and cranked by hand: a small migration whose
//! link is cut at every byte of either direction, and delivered in any split.
//!
//! The model is the source's memory: in the end the destination must hold it,
//! every page placed exactly once. No sockets, no clock, no threads.

use std::collections::VecDeque;

use retpath_codec::forward::{self, Decoder, Step};
use retpath_codec::stream::Stream;
use retpath_codec::{BlockName, NameBuf, Qemu};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, BlockId, Blocks};
use retpath_engine::destination::{self, Action, Destination, Phase, Placed, Placement};
use retpath_engine::source::{self, Gather, Next, PageRun, Preempt, Source};

/// Target page size: the smallest there is, to keep the streams short.
const PAGE: u64 = 1024;
/// Host page size of the second block.
const LARGE: u64 = 4 * PAGE;

/// A machine of two blocks: one of target pages, one of larger host pages.
fn machine() -> (Blocks, Vec<Vec<u8>>) {
    let mut blocks = Blocks::new(PAGE).expect("1 KiB");
    let mut memory = Vec::new();
    for (name, pages, page) in [("small", 6, PAGE), ("large", 8, LARGE)] {
        let name = NameBuf::new(name).expect("a good name");
        let len = pages * PAGE;
        blocks.add(Block { name, len, page }).expect("a good block");
        // Every third page is zero, and the large block's second host page.
        let byte = |at: u64| match at / PAGE {
            page if page % 3 == 0 || page >= 6 => 0,
            page => (page * 37 + at % 251) as u8 | 1,
        };
        memory.push((0..len).map(byte).collect());
    }
    (blocks, memory)
}

/// Where the link is cut: after this many bytes have gone this way.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Never,
    Forward(usize),
    Back(usize),
}

/// How the migration went.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Complete {
        forward: usize,
        back: usize,
    },
    /// The link broke before the guest could run: it is still at the source.
    GuestStayed,
}

struct Simulation {
    source: Source,
    destination: Destination,
    memory: Vec<Vec<u8>>,
    /// What the destination holds, page by page.
    held: Vec<Vec<Option<Vec<u8>>>>,
    forward: [VecDeque<u8>; 2],
    back: VecDeque<u8>,
    /// Delivered, and not decoded yet.
    inbox: [Vec<u8>; 2],
    main: Decoder,
    preempt: Option<Decoder>,
    stream: Stream<Qemu>,
    sent_forward: usize,
    sent_back: usize,
    cut: Cut,
    now: u64,
    preempt_wanted: bool,
}

impl Simulation {
    fn new(preempt: Option<Preempt>, cut: Cut) -> Self {
        let (blocks, memory) = machine();
        let mut config = source::Config::new("simulated");
        config.host_page = PAGE;
        config.preempt = preempt;
        config.run = 2 * PAGE;
        let large = vec![(NameBuf::new("large").expect("a good name"), LARGE)];
        let destination = Destination::new(destination::Config {
            preempt: preempt.is_some(),
            target_page: PAGE,
            host_page: PAGE,
            page_sizes: large.clone(),
            ..Default::default()
        });
        let options = forward::Options {
            target_page: PAGE,
            host_page: PAGE,
            page_sizes: large,
            ..Default::default()
        };
        Self {
            source: Source::new(config, blocks).expect("a good configuration"),
            destination,
            memory,
            held: Vec::new(),
            forward: Default::default(),
            back: VecDeque::new(),
            inbox: Default::default(),
            main: Decoder::new(options),
            preempt: None,
            stream: Stream::new(0),
            sent_forward: 0,
            sent_back: 0,
            cut,
            now: 0,
            preempt_wanted: preempt.is_some(),
        }
    }

    /// Runs to the end, `piece` bytes at a time in each direction.
    fn run(mut self, piece: usize) -> End {
        for _ in 0..100_000 {
            self.now += 1_000;
            if !self.send() {
                return End::GuestStayed;
            }
            if !self.deliver(piece) {
                return End::GuestStayed;
            }
            self.faults();
            let ends = (self.destination.phase(), self.source.phase());
            if ends == (Phase::Finished, source::Phase::Completed) {
                self.compare();
                let (forward, back) = (self.sent_forward, self.sent_back);
                return End::Complete { forward, back };
            }
        }
        panic!(
            "stuck: source {:?}, destination {:?}",
            self.source.phase(),
            self.destination.phase()
        );
    }

    /// The source's turn. `false` if the migration is over without the guest.
    fn send(&mut self) -> bool {
        if self.source.phase() == source::Phase::Precopy && self.source.is_ready_to_switch() {
            self.source.switch(Vec::new()).expect("in precopy");
        }
        for channel in [Channel::Preempt, Channel::Main] {
            let pipe = usize::from(channel == Channel::Preempt);
            // What is unsent stands in front: a source waits for its socket.
            if self.forward[pipe].len() > 64 {
                continue;
            }
            let mut out = Vec::new();
            match self.source.next(channel, self.now, &mut out) {
                Next::Urgent(run) | Next::Sweep(run) => self.lay(&run, &mut out),
                Next::Connect => self.source.preempt_connected().expect("asked for"),
                Next::Write | Next::Wait { .. } | Next::Stop => {}
            }
            self.forward[pipe].extend(out);
        }
        self.source.phase() != source::Phase::Failed
    }

    fn lay(&mut self, run: &PageRun, out: &mut Vec<u8>) {
        let block = self.source.blocks().block(run.block).expect("its own");
        let range = usize::try_from(run.offset).unwrap()..usize::try_from(run.end()).unwrap();
        let bytes = &self.memory[run.block][range];
        let mut gather = Gather::new();
        let zeros = gather.lay(run, block.name.name(), bytes);
        for slice in gather.slices(bytes) {
            out.extend(slice);
        }
        self.source.written(run, zeros);
    }

    /// Moves bytes, or cuts the link. `false` if that ends the migration.
    fn deliver(&mut self, piece: usize) -> bool {
        for channel in [Channel::Preempt, Channel::Main] {
            let pipe = usize::from(channel == Channel::Preempt);
            if channel == Channel::Preempt && !self.listens() {
                continue;
            }
            let mut size = piece.min(self.forward[pipe].len());
            if let Cut::Forward(at) = self.cut {
                size = size.min(at - self.sent_forward);
            }
            let bytes: Vec<u8> = self.forward[pipe].drain(..size).collect();
            self.sent_forward += size;
            self.inbox[pipe].extend(bytes);
            if !self.decode(channel) {
                return false;
            }
            if matches!(self.cut, Cut::Forward(at) if at == self.sent_forward) {
                return self.break_link();
            }
        }
        self.back.extend(self.destination.outbox().drain(..));
        let mut size = piece.min(self.back.len());
        if let Cut::Back(at) = self.cut {
            size = size.min(at - self.sent_back);
        }
        let bytes: Vec<u8> = self.back.drain(..size).collect();
        self.sent_back += size;
        let mut input = &bytes[..];
        while let Some(item) = self.stream.next(&mut input).expect("our own codec") {
            self.source
                .message(item, self.now)
                .expect("our own destination");
            self.stream.limit_bitmap(self.source.recv_bitmap_limit());
        }
        if matches!(self.cut, Cut::Back(at) if at == self.sent_back) {
            return self.break_link();
        }
        true
    }

    fn listens(&self) -> bool {
        matches!(self.destination.phase(), Phase::Listening | Phase::Running)
    }

    fn decode(&mut self, channel: Channel) -> bool {
        let pipe = usize::from(channel == Channel::Preempt);
        let inbox = std::mem::take(&mut self.inbox[pipe]);
        let mut at = 0;
        loop {
            let decoder = match channel {
                Channel::Main => &mut self.main,
                Channel::Preempt => self.preempt.get_or_insert_with(|| self.main.preempt()),
            };
            let step = decoder.next(&inbox[at..]).expect("our own codec");
            let Step::Event { event, size } = step else {
                break;
            };
            at += size;
            let placement = self.destination.event(channel, event, self.now);
            let placed = match placement.expect("our own source") {
                Placement::None => None,
                Placement::Write {
                    block,
                    offset,
                    data,
                } => {
                    hold(&mut self.held, block, offset, data);
                    None
                }
                Placement::Clear { block, offset, len } => {
                    hold(
                        &mut self.held,
                        block,
                        offset,
                        &vec![0; usize::try_from(len).unwrap()],
                    );
                    None
                }
                Placement::Copy {
                    block,
                    offset,
                    data,
                } => {
                    place(&mut self.held, block, offset, data);
                    Some((block, offset, data.len() as u64))
                }
                Placement::Zero { block, offset, len } => {
                    place(
                        &mut self.held,
                        block,
                        offset,
                        &vec![0; usize::try_from(len).unwrap()],
                    );
                    Some((block, offset, len))
                }
            };
            if let Some((block, offset, len)) = placed {
                let done =
                    self.destination
                        .placed(channel, block, offset, len, Placed::New, self.now);
                done.expect("handed out");
            }
            self.act();
        }
        self.inbox[pipe] = inbox[at..].to_vec();
        self.destination.phase() != Phase::Failed
    }

    fn act(&mut self) {
        while let Some(action) = self.destination.poll() {
            match action {
                Action::Block { id } => {
                    let block = self.destination.blocks().block(id).expect("announced");
                    let pages = usize::try_from(block.len / PAGE).unwrap();
                    self.held.push(vec![None; pages]);
                }
                Action::Discard { block, start, len } => {
                    for page in start / PAGE..(start + len) / PAGE {
                        self.held[block][usize::try_from(page).unwrap()] = None;
                    }
                }
                Action::DeviceStateComplete => {
                    self.destination.device_state_saved().expect("asked for");
                }
                Action::Listen | Action::Run | Action::Complete(_) | Action::Finished(_) => {}
            }
        }
    }

    /// The guest touches a page here and there.
    fn faults(&mut self) {
        if !self.listens() {
            return;
        }
        let turn = self.now / 1_000;
        let (block, pages) = if turn.is_multiple_of(2) {
            (0, 6)
        } else {
            (1, 8)
        };
        let offset = turn * 5 % pages * PAGE;
        self.destination
            .fault(block, offset, self.now)
            .expect("inside");
    }

    /// Breaks both directions, and joins the cores again if that is possible.
    fn break_link(&mut self) -> bool {
        self.cut = Cut::Never;
        for pipe in &mut self.forward {
            pipe.clear();
        }
        self.back.clear();
        self.inbox = Default::default();
        let source = self.source.link_lost();
        let lost = self.destination.link_lost(Channel::Main);
        if self.preempt_wanted {
            let _ = self.destination.link_lost(Channel::Preempt);
        }
        self.destination.outbox().clear();
        if self.source.phase() == source::Phase::Completed {
            assert_eq!(self.destination.phase(), Phase::Finished, "SHUT comes last");
            return true;
        }
        if lost.is_err() || source.is_err() {
            // Nobody may run the guest twice: the destination has not, and
            // the source knows whether it might have.
            assert!(!matches!(
                self.destination.phase(),
                Phase::Running | Phase::Paused
            ));
            return false;
        }
        if self.source.phase() != source::Phase::Paused || self.destination.phase() == Phase::Failed
        {
            return false;
        }
        self.destination
            .link_restored()
            .expect("paused, or finished");
        self.source.resume().expect("paused");
        self.main = self.main.resume();
        self.preempt = None;
        self.stream = Stream::new(self.source.recv_bitmap_limit());
        true
    }

    fn compare(&self) {
        for (block, (held, want)) in self.held.iter().zip(&self.memory).enumerate() {
            let pages = want.chunks(usize::try_from(PAGE).unwrap());
            for (page, (held, want)) in held.iter().zip(pages).enumerate() {
                assert_eq!(held.as_deref(), Some(want), "block {block}, page {page}");
            }
        }
    }
}

/// Before LISTEN pages may be written again and again.
fn hold(held: &mut [Vec<Option<Vec<u8>>>], block: BlockId, offset: u64, data: &[u8]) {
    let first = usize::try_from(offset / PAGE).unwrap();
    for (at, page) in data.chunks(usize::try_from(PAGE).unwrap()).enumerate() {
        held[block][first + at] = Some(page.to_vec());
    }
}

/// After LISTEN every page is placed once.
fn place(held: &mut [Vec<Option<Vec<u8>>>], block: BlockId, offset: u64, data: &[u8]) {
    let first = usize::try_from(offset / PAGE).unwrap();
    for at in 0..data.len() / usize::try_from(PAGE).unwrap() {
        assert_eq!(
            held[block][first + at],
            None,
            "block {block}, page {}: twice",
            first + at
        );
    }
    hold(held, block, offset, data);
}

const CHANNELS: [Option<Preempt>; 3] = [None, Some(Preempt::Early), Some(Preempt::Late)];

#[test]
fn arrives_whole_in_any_split() {
    for preempt in CHANNELS {
        for piece in [1, 2, 3, 7, 13, 64, 1000, 1033, 65536] {
            let end = Simulation::new(preempt, Cut::Never).run(piece);
            assert!(
                matches!(end, End::Complete { .. }),
                "{preempt:?}, {piece}: {end:?}"
            );
        }
    }
}

/// Cuts at every byte; says how often the guest stayed where it was.
fn cut_everywhere(preempt: Option<Preempt>, piece: usize) {
    let whole = Simulation::new(preempt, Cut::Never).run(piece);
    let End::Complete { forward, back } = whole else {
        panic!("{whole:?}")
    };
    let mut ends = [0, 0];
    let cuts = (0..forward)
        .map(Cut::Forward)
        .chain((0..back).map(Cut::Back));
    for cut in cuts {
        match Simulation::new(preempt, cut).run(piece) {
            End::Complete { .. } => ends[0] += 1,
            End::GuestStayed => ends[1] += 1,
        }
    }
    assert!(
        ends[0] > forward / 2 && ends[1] > 0,
        "{ends:?}: most cuts come after the switch"
    );
}

#[test]
fn survives_a_cut_at_every_byte() {
    cut_everywhere(None, 509);
}

#[test]
fn survives_a_cut_at_every_byte_with_an_early_preempt_channel() {
    cut_everywhere(Some(Preempt::Early), 509);
}

#[test]
fn survives_a_cut_at_every_byte_with_a_late_preempt_channel() {
    cut_everywhere(Some(Preempt::Late), 509);
}
