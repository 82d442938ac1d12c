//! A source, its memory and its destination, joined by buffers.

use std::collections::VecDeque;

use retpath_codec::stream::Stream;
use retpath_codec::{BlockName, Encode, Message, NameBuf, Qemu};

use crate::Channel;
use crate::blocks::{BlockId, Blocks};

use super::super::testing::{Seed, blocks};
use super::super::{Config, Error, Gather, Next, PageRun, PageSource, Phase, Source};
use super::peer::{Peer, at};

pub(super) struct Rig {
    pub(super) source: Source,
    pub(super) peer: Peer,
    pub(super) now: u64,
    /// What has been written and not been delivered, by channel.
    pub(super) flight: [VecDeque<u8>; 2],
    blocks: Blocks,
    memory: Vec<Vec<u8>>,
    gather: Gather,
    stream: Stream<Qemu>,
}

impl Rig {
    /// Blocks of some host pages each: how many, and how large. Every fifth
    /// target page is zero.
    pub(super) fn new(config: Config, sizes: &[(u64, u64)]) -> Self {
        let blocks = blocks(sizes);
        let mut seed = Seed(11);
        let memory: Vec<Vec<u8>> = blocks
            .iter()
            .map(|block| {
                let mut bytes = vec![0; block.len as usize];
                for (i, page) in bytes.chunks_mut(4096).enumerate() {
                    if i % 5 != 1 {
                        page[seed.below(4096) as usize] = 1 + seed.below(255) as u8;
                        page[..8].copy_from_slice(&seed.next().to_le_bytes());
                    }
                }
                bytes
            })
            .collect();
        Self {
            peer: Peer::new(&blocks, &memory),
            source: Source::new(config, blocks.clone()).expect("a good configuration"),
            now: 0,
            flight: Default::default(),
            blocks,
            memory,
            gather: Gather::new(),
            stream: Stream::new(0),
        }
    }

    /// As [`Rig::new`], in postcopy already: nothing was sent before.
    pub(super) fn switched(config: Config, sizes: &[(u64, u64)]) -> Self {
        let mut rig = Self::new(config, sizes);
        rig.start();
        rig.source.switch(b"".to_vec()).expect("in precopy");
        while rig.source.phase() == Phase::Switching {
            rig.step(Channel::Main);
            rig.talk();
        }
        rig
    }

    /// Up to the first page.
    pub(super) fn start(&mut self) {
        while self.source.phase() == Phase::Fresh {
            self.step(Channel::Main);
        }
        self.talk();
        // The first PONG may want a preempt channel.
        if self.source.config.preempt.is_some() && !self.source.is_ready_to_switch() {
            self.step(Channel::Main);
        }
    }

    /// What the source says, whose bytes are on their way now.
    pub(super) fn step(&mut self, channel: Channel) -> Next {
        let mut out = Vec::new();
        let next = self.source.next(channel, self.now, &mut out);
        self.flight[at(channel)].extend(&out);
        match next {
            Next::Urgent(run) | Next::Sweep(run) => self.write(run),
            Next::Connect => self.source.preempt_connected().expect("wanted"),
            Next::Write | Next::Wait { .. } | Next::Stop => {}
        }
        next
    }

    fn write(&mut self, run: PageRun) {
        let name = self
            .blocks
            .block(run.block)
            .expect("a known block")
            .name
            .name();
        let len = usize::try_from(run.len).expect("a small run");
        let bytes = self
            .memory
            .lend(run.block, run.offset, len)
            .expect("inside the block");
        let zeros = self.gather.lay(&run, name, bytes);
        for slice in self.gather.slices(bytes) {
            self.flight[at(run.channel)].extend(slice);
        }
        self.source.written(&run, zeros);
    }

    /// Delivers everything, both ways.
    pub(super) fn talk(&mut self) {
        for channel in [Channel::Main, Channel::Preempt] {
            let bytes: Vec<u8> = self.flight[at(channel)].drain(..).collect();
            self.peer.feed(channel, &bytes);
        }
        let replies = std::mem::take(&mut self.peer.replies);
        self.reply(&replies).expect("a good return path");
    }

    /// Delivers the first `count` bytes of a channel.
    pub(super) fn deliver(&mut self, channel: Channel, count: usize) {
        let flight = &mut self.flight[at(channel)];
        let bytes: Vec<u8> = flight.drain(..count.min(flight.len())).collect();
        self.peer.feed(channel, &bytes);
    }

    /// Takes bytes of the return path.
    pub(super) fn reply(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        loop {
            match self.stream.next(&mut bytes) {
                Ok(Some(item)) => self.source.message(item, self.now)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.source.malformed(error)),
            }
            self.stream.limit_bitmap(self.source.recv_bitmap_limit());
        }
    }

    /// Takes one message of the return path.
    pub(super) fn say(&mut self, message: Message<NameBuf>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        message
            .encode(&mut bytes)
            .expect("a message that can be written");
        self.reply(&bytes)
    }

    /// Asks for a range of a block, by name.
    pub(super) fn ask(&mut self, block: BlockId, start: u64, len: u32) -> Result<(), Error> {
        let block = self.name(block);
        self.say(Message::ReqPagesId { start, len, block })
    }

    pub(super) fn name(&self, block: BlockId) -> NameBuf {
        self.blocks
            .block(block)
            .expect("a known block")
            .name
            .clone()
    }

    /// The link breaks: nothing that is on its way arrives.
    pub(super) fn cut(&mut self) {
        let _ = self.source.link_lost();
        self.flight = Default::default();
        self.peer.cut();
        self.stream = Stream::new(0);
    }

    /// Turns the crank until nothing moves any more.
    pub(super) fn run(&mut self) {
        loop {
            let preempt = self.step(Channel::Preempt);
            let main = self.step(Channel::Main);
            self.talk();
            match (main, preempt) {
                (Next::Wait { until: Some(until) }, _) => self.now = self.now.max(until),
                (Next::Wait { .. } | Next::Stop, Next::Wait { .. } | Next::Stop) => {
                    // What was said last may have changed something.
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

    /// Checks what must be true at the end.
    pub(super) fn finish(&mut self) {
        self.run();
        assert_eq!(self.source.phase(), Phase::Completed);
        assert_eq!(self.source.remaining(), 0);
        assert_eq!(self.source.waiting(), 0);
        assert!(self.peer.ended && self.peer.received == self.peer.all());
    }
}
