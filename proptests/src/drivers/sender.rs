//! A source at the other end of a receiving loop: the source's core, over simulated
//! connections that break.

use retpath_codec::stream::{Item, Stream};
use retpath_codec::{BlockName, Message, Name, Qemu};
use retpath_engine::Channel;
use retpath_engine::blocks::Blocks;
use retpath_engine::source::{Config, Gather, Next, PageRun, PageSource, Source, SourcePhase};

use super::net::Net;
use crate::choices::Choices;
use crate::link::Setup;

/// Maximum number of bytes that wait to be read by the loop.
const WINDOW: usize = 1 << 18;

pub(super) struct Sender {
    pub(super) core: Source,
    pub(super) memory: Vec<Vec<u8>>,
    config: Config,
    blocks: Blocks,
    device_state: Vec<u8>,
    gather: Gather,
    path: Stream<Qemu>,
    main: Option<usize>,
    preempt: Option<usize>,
    /// Connections whose loss the loop has not noticed.
    lost: Vec<usize>,
    /// Cuts that are left.
    cuts: u64,
    /// Whether it sends pages as urgent ones that were not requested.
    is_hostile: bool,
}

impl Sender {
    pub(super) fn new(setup: Setup, cuts: u64, is_hostile: bool) -> Self {
        let blocks = setup.layout();
        let smallest = blocks.iter().map(|block| block.page).min();
        let mut config = setup.config;
        config.host_page = smallest.unwrap_or(setup.target);
        Self {
            core: Source::new(config.clone(), blocks.clone()).expect("valid setup"),
            memory: setup
                .blocks
                .into_iter()
                .map(|(_, _, bytes)| bytes)
                .collect(),
            config,
            blocks,
            device_state: setup.device_state,
            gather: Gather::new(),
            path: Stream::new(0),
            main: None,
            preempt: None,
            lost: Vec::new(),
            cuts,
            is_hostile,
        }
    }

    /// The connections in use.
    pub(super) fn links(&self) -> impl Iterator<Item = usize> + use<> {
        self.main.into_iter().chain(self.preempt)
    }

    /// One event, of those that a source and its network can cause.
    pub(super) fn event(&mut self, net: &mut Net, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..5 => {
                for _ in 0..=choices.below(3) {
                    self.send(net, Channel::Main);
                }
            }
            5 | 6 => self.send(net, Channel::Preempt),
            7..9 => self.read(net, choices.index(60)),
            9 => {
                let block = choices.index(self.memory.len());
                let at = choices.index(self.memory[block].len());
                self.change(block, at, choices.byte());
            }
            10 | 15 => self.switch(),
            11 if self.is_hostile => self.request(net.now, choices),
            11 | 12 if self.core.guest_left() => self.cut(net, choices),
            13 if choices.one_in(8) => self.cut(net, choices),
            14 => self.notice(net),
            _ => self.connect(net, choices),
        }
    }

    /// What a source does next over a network that breaks only while there are cuts left.
    pub(super) fn finish(&mut self, net: &mut Net, choices: &mut Choices<'_>) {
        self.notice(net);
        self.connect(net, choices);
        self.links().for_each(|id| net.widen(id));
        self.switch();
        self.read(net, usize::MAX);
        self.send(net, Channel::Preempt);
        self.send(net, Channel::Main);
        if self.core.guest_left() && choices.one_in(4) {
            self.cut(net, choices);
        }
    }

    /// Whether the source has nothing left to do.
    pub(super) fn is_over(&self) -> bool {
        matches!(
            self.core.phase(),
            SourcePhase::Completed | SourcePhase::Failed
        )
    }

    /// Closes every connection.
    pub(super) fn close(&mut self, net: &mut Net) {
        let all = self.links().chain(std::mem::take(&mut self.lost));
        for id in all.collect::<Vec<_>>() {
            net.connections[id].close();
        }
        (self.main, self.preempt) = (None, None);
    }

    fn connect(&mut self, net: &mut Net, choices: &mut Choices<'_>) {
        if self.main.is_some() || self.is_over() {
            return;
        }
        let Some(id) = net.connect() else { return };
        shape(net, id, choices);
        if self.core.phase() == SourcePhase::Paused {
            if choices.one_in(4) {
                let other = Source::taking_over(self.config.clone(), self.blocks.clone());
                self.core = other.expect("same configuration as the first source");
            }
            self.core.resume(net.now).expect("phase is paused");
        }
        self.main = Some(id);
    }

    fn send(&mut self, net: &mut Net, channel: Channel) {
        let id = match channel {
            Channel::Main => self.main,
            Channel::Preempt => self.preempt,
        };
        let Some(id) = id else { return };
        if net.connections[id].inbound.len() > WINDOW {
            return;
        }
        let mut out = Vec::new();
        match self.core.next(channel, net.now, &mut out) {
            Next::Urgent(run) | Next::Sweep(run) => self.write(run, &mut out),
            Next::Connect => {
                if let Some(id) = net.connect() {
                    self.core.preempt_connected(net.now).expect("asked for it");
                    self.preempt = Some(id);
                }
            }
            Next::Write | Next::Wait { .. } | Next::Stop => {}
        }
        net.connections[id].inbound.extend(out);
    }

    fn write(&mut self, run: PageRun, out: &mut Vec<u8>) {
        let block = self.blocks.block(run.block).expect("block exists");
        let len = usize::try_from(run.len).expect("fits in usize");
        let bytes = self.memory.lend(run.block, run.offset, len);
        let bytes = bytes.expect("run lies in its block");
        let zeros = self.gather.lay(&run, block.name.name(), bytes);
        self.gather.slices(bytes).for_each(|part| out.extend(part));
        self.core.written(&run, zeros);
    }

    /// Reads the return path.
    fn read(&mut self, net: &mut Net, count: usize) {
        let Some(id) = self.main else { return };
        let bytes = net.take(id, count);
        let mut input = &bytes[..];
        loop {
            let item = match self.path.next(&mut input) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(_) => return self.failed(net),
            };
            if self.core.message(item, net.now).is_err() {
                return self.failed(net);
            }
            self.path.limit_bitmap(self.core.recv_bitmap_limit());
        }
        let one = &net.connections[id];
        if one.closed && one.outbound.is_empty() {
            self.failed(net);
        }
        if self.is_over() {
            self.close(net);
        }
    }

    /// Closes the connections, which the destination has closed or cannot use.
    fn failed(&mut self, net: &mut Net) {
        self.close(net);
        self.lose();
    }

    fn change(&mut self, block: usize, at: usize, byte: u8) {
        let early = [SourcePhase::Fresh, SourcePhase::Precopy];
        if early.contains(&self.core.phase()) {
            self.memory[block][at] = byte;
            let offset = u64::try_from(at).expect("fits in u64");
            let marked = self.core.mark_dirty(block, offset, 1);
            marked.expect("guest is at the source");
        }
    }

    fn switch(&mut self) {
        if self.core.phase() == SourcePhase::Precopy && self.core.is_ready_to_switch() {
            let state = self.device_state.clone();
            self.core.switch(state).expect("phase is precopy");
        }
    }

    /// Sends a page as if it had been requested.
    fn request(&mut self, now: u64, choices: &mut Choices<'_>) {
        if self.core.phase() != SourcePhase::Postcopy {
            return;
        }
        let id = choices.index(self.blocks.len());
        let block = self.blocks.block(id).expect("block exists");
        let start = choices.below(block.len / block.page) * block.page;
        let message: Message<Name<'_>> = Message::ReqPagesId {
            start,
            len: u32::try_from(block.page).expect("fits in u32"),
            block: block.name.name(),
        };
        let item = Item::Message { offset: 0, message };
        self.core.message(item, now).expect("valid request");
    }

    /// Breaks the connections in one of several ways, while there are cuts left.
    fn cut(&mut self, net: &mut Net, choices: &mut Choices<'_>) {
        if self.cuts == 0 || self.main.is_none() {
            return;
        }
        self.cuts -= 1;
        for id in self.links().collect::<Vec<_>>() {
            let one = &mut net.connections[id];
            // Bytes in flight.
            let lost = choices.index(one.inbound.len() + 1);
            match choices.below(5) {
                0 => one.close(),
                1 => one.reset(),
                2 => {
                    one.inbound.truncate(lost);
                    one.close();
                }
                // The destination notices later.
                3 => {
                    one.inbound.truncate(lost);
                    self.lost.push(id);
                }
                _ => {
                    one.deaf = true;
                    self.lost.push(id);
                }
            }
        }
        self.lose();
    }

    /// Handles the loss of the connections.
    fn lose(&mut self) {
        (self.main, self.preempt) = (None, None);
        self.path = Stream::new(0);
        // Whether the loss is fatal depends on the phase.
        let _ = self.core.link_lost();
    }

    /// Lets the loop notice a lost connection.
    fn notice(&mut self, net: &mut Net) {
        if let Some(id) = self.lost.pop() {
            net.connections[id].close();
        }
    }
}

/// Chooses how a connection moves bytes.
pub(super) fn shape(net: &mut Net, id: usize, choices: &mut Choices<'_>) {
    let one = &mut net.connections[id];
    one.room = [1 << 16, 1 << 16, 5000, 20][choices.index(4)];
    one.piece = [usize::MAX, usize::MAX, 1 << 14, 700, 9][choices.index(5)];
    if choices.one_in(8) {
        net.buffer(id);
    }
}
