//! Connects a source, its memory and its destination through in-memory buffers.

use std::rc::Rc;

use retpath_codec::stream::Stream;
use retpath_codec::{BlockName, Encode, Message, NameBuf, Qemu};

use retpath_engine::Channel;
use retpath_engine::blocks::{BlockId, Blocks};

use super::peer::{Peer, at};
use crate::choices::Choices;
use retpath_engine::source::{
    Config, Error, Gather, Next, PageRun, PageSource, Source, SourcePhase,
};

/// A migration in progress.
pub struct Rig {
    /// The core under test.
    pub source: Source,
    /// Its destination.
    pub peer: Peer,
    /// The time in nanoseconds.
    pub now: u64,
    /// Bytes written but not yet delivered, by channel.
    pub flight: [Vec<u8>; 2],
    config: Config,
    blocks: Blocks,
    memory: Rc<Vec<Vec<u8>>>,
    gather: Gather,
    stream: Stream<Qemu>,
}

impl Rig {
    /// Creates blocks of the given (number, size) of host pages.
    pub fn new(config: Config, sizes: &[(u64, u64)]) -> Self {
        Self::of(config, super::blocks(sizes))
    }

    /// Fills memory: every fifth target page is zero, and all others differ.
    pub fn of(config: Config, blocks: Blocks) -> Self {
        let target = usize::try_from(blocks.target()).expect("fits in usize");
        let mut choices = Choices::seeded(11);
        let memory: Vec<Vec<u8>> = blocks
            .iter()
            .map(|block| {
                let mut bytes = vec![0; usize::try_from(block.len).expect("fits in usize")];
                for (i, page) in bytes.chunks_mut(target).enumerate() {
                    if i % 5 != 1 {
                        page[choices.index(target)] = choices.byte().max(1);
                        page[..8].copy_from_slice(&choices.any().to_le_bytes());
                    }
                }
                bytes
            })
            .collect();
        let memory = Rc::new(memory);
        Self {
            peer: Peer::new(&blocks, &memory, config.host_page),
            source: Source::new(config.clone(), blocks.clone()).expect("valid configuration"),
            now: 0,
            config,
            flight: Default::default(),
            blocks,
            memory,
            gather: Gather::new(),
            stream: Stream::new(0),
        }
    }

    /// Like [`Rig::new`], but already in postcopy, with no page sent before the switch.
    pub fn switched(config: Config, sizes: &[(u64, u64)]) -> Self {
        let mut rig = Self::new(config, sizes);
        rig.start();
        rig.source.switch(b"".to_vec()).expect("phase is precopy");
        while rig.source.phase() == SourcePhase::Switching {
            rig.step(Channel::Main);
            rig.talk();
        }
        rig
    }

    /// Runs the migration up to the first page.
    pub fn start(&mut self) {
        while self.source.phase() == SourcePhase::Fresh {
            self.step(Channel::Main);
        }
        self.talk();
        // The first PONG may request a preempt channel.
        if self.config.preempt.is_some() && !self.source.is_ready_to_switch() {
            self.step(Channel::Main);
        }
    }

    /// Advances the source and queues the bytes it emits for delivery.
    pub fn step(&mut self, channel: Channel) -> Next {
        let mut out = Vec::new();
        let next = self.source.next(channel, self.now, &mut out);
        self.flight[at(channel)].append(&mut out);
        match next {
            Next::Urgent(run) | Next::Sweep(run) => self.write(run),
            Next::Connect => self
                .source
                .preempt_connected(self.now)
                .expect("Next::Connect was returned"),
            Next::Write | Next::Wait { .. } | Next::Stop => {}
        }
        next
    }

    fn write(&mut self, run: PageRun) {
        let name = self
            .blocks
            .block(run.block)
            .expect("block exists")
            .name
            .name();
        let len = usize::try_from(run.len).expect("fits in usize");
        let bytes = self
            .memory
            .lend(run.block, run.offset, len)
            .expect("range lies in the block");
        let zeros = self.gather.lay(&run, name, bytes);
        for slice in self.gather.slices(bytes) {
            self.flight[at(run.channel)].extend_from_slice(slice);
        }
        self.source.written(&run, zeros);
    }

    /// Delivers all pending bytes in both directions.
    pub fn talk(&mut self) {
        for channel in [Channel::Main, Channel::Preempt] {
            let bytes = std::mem::take(&mut self.flight[at(channel)]);
            self.peer.feed(channel, &bytes);
        }
        let replies = std::mem::take(&mut self.peer.replies);
        self.reply(&replies).expect("valid return path");
    }

    /// Delivers the first `count` bytes of a channel.
    pub fn deliver(&mut self, channel: Channel, count: usize) {
        let flight = &mut self.flight[at(channel)];
        let rest = flight.split_off(count.min(flight.len()));
        let bytes = std::mem::replace(flight, rest);
        self.peer.feed(channel, &bytes);
    }

    /// Delivers bytes of the return path to the source.
    pub fn reply(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        loop {
            match self.stream.next(&mut bytes) {
                Ok(Some(item)) => self.source.message(item, self.now)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.source.malformed(error)),
            }
            self.stream.limit_bitmap(self.source.recv_bitmap_limit());
        }
    }

    /// Delivers one message of the return path to the source.
    pub fn say(&mut self, message: Message<NameBuf>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).expect("message is encodable");
        self.reply(&bytes)
    }

    /// Requests a range of a block, by name.
    pub fn ask(&mut self, block: BlockId, start: u64, len: u32) -> Result<(), Error> {
        let block = self.name(block);
        self.say(Message::ReqPagesId { start, len, block })
    }

    /// Returns the name of a block.
    pub fn name(&self, block: BlockId) -> NameBuf {
        self.blocks.block(block).expect("block exists").name.clone()
    }

    /// Breaks the link; bytes in flight are lost.
    pub fn cut(&mut self) {
        let _ = self.source.link_lost();
        self.flight = Default::default();
        self.peer.cut();
        self.stream = Stream::new(0);
    }

    /// Resumes over a new link on which some time passes.
    pub fn resume(&mut self) {
        self.source.resume(self.now).expect("phase is paused");
        self.now += 1_000_000_000;
    }

    /// Replaces the source with another that takes over its state.
    pub fn replace_source(&mut self) {
        let other = Source::taking_over(self.config.clone(), self.blocks.clone());
        self.source = other.expect("same configuration as the first source");
    }

    /// Advances both sides until neither makes progress.
    pub fn run(&mut self) {
        loop {
            let preempt = self.step(Channel::Preempt);
            let main = self.step(Channel::Main);
            self.talk();
            match (main, preempt) {
                (Next::Wait { until: Some(until) }, _) => self.now = self.now.max(until),
                (Next::Wait { .. } | Next::Stop, Next::Wait { .. } | Next::Stop) => {
                    // The last replies may have enabled further sends.
                    let again = [self.step(Channel::Preempt), self.step(Channel::Main)];
                    self.talk();
                    let idle =
                        |next: &Next| matches!(next, Next::Wait { until: None } | Next::Stop);
                    if again.iter().all(idle) {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// Asserts that the migration is complete.
    pub fn finish(&mut self) {
        self.run();
        assert_eq!(self.source.phase(), SourcePhase::Completed);
        assert_eq!(self.source.remaining(), 0);
        assert_eq!(self.source.waiting(), 0);
        assert!(self.peer.ended && self.peer.is_whole());
    }
}
