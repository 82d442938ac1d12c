//! What a destination must do, too simple to be wrong: maps of pages, one page
//! at a time, nothing remembered that could be looked up.

use std::collections::{BTreeMap, BTreeSet};

use retpath_engine::Channel;
use retpath_engine::destination::{Action, Blame, Ending, Fault, Phase};

pub(crate) const PAGE: u64 = 4096;
/// Target pages in a host page of the second block.
pub(crate) const PARTS: u64 = 4;

/// What a call asks for; sizes and offsets in target pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    OpenReturnPath,
    Ping(u32),
    Advise,
    Announce(usize),
    Discard(usize, u64, u64),
    Packaged,
    Listen,
    Run,
    PackageEnd,
    DeviceState,
    EnableColo,
    RecvBitmap(usize),
    Resume,
    Eof,
    Page(Channel, usize, u64, u8),
    Zero(Channel, usize, u64),
    Eos(Channel),
    RunOfPages(Channel, usize, u64, u64),
    Placed(Channel, usize, u64, u64),
    Fault(usize, u64),
    Saved,
    LinkLost(Channel),
    LinkRestored,
    EndOfStream(Channel),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Nothing,
    /// Write these bytes, one for each target page.
    Write(usize, u64, Vec<u8>),
    /// Place them.
    Place(usize, u64, Vec<u8>),
    Fault(Fault),
}

type Runs = Vec<(usize, u64, Vec<u8>)>;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) preempt: bool,
    pub(crate) phase: Phase,
    /// Length and page size of each block that has been announced.
    pub(crate) blocks: Vec<(u64, u64)>,
    /// Target pages received, and what is in them.
    pub(crate) memory: BTreeMap<(usize, u64), u8>,
    /// Host pages requested, by their first target page.
    pub(crate) wanted: BTreeSet<(usize, u64)>,
    pub(crate) half: [Option<(usize, u64, BTreeMap<u64, u8>)>; 2],
    pub(crate) placing: [Runs; 2],
    pub(crate) asked: BTreeSet<usize>,
    last: Option<usize>,
    pub(crate) open: bool,
    pub(crate) in_package: bool,
    listened: bool,
    pub(crate) complete: bool,
    pub(crate) saved: bool,
    held: u32,
    pub(crate) main_ended: bool,
    pub(crate) preempt_ended: bool,
    told: bool,
    pub(crate) said: Vec<String>,
    pub(crate) actions: Vec<Action>,
}

/// Lengths and page sizes of the blocks, in target pages.
pub(crate) const BLOCKS: [(u64, u64); 2] = [(6, 1), (4 * PARTS, PARTS)];

const LOADED: u32 = 0x42;

fn lane(channel: Channel) -> usize {
    usize::from(channel == Channel::Preempt)
}

impl Model {
    pub(crate) fn new(preempt: bool) -> Self {
        Self {
            preempt,
            phase: Phase::Fresh,
            blocks: vec![],
            memory: BTreeMap::new(),
            wanted: BTreeSet::new(),
            half: [None, None],
            placing: [vec![], vec![]],
            asked: BTreeSet::new(),
            last: None,
            open: false,
            in_package: false,
            listened: false,
            complete: false,
            saved: false,
            held: 0,
            main_ended: false,
            preempt_ended: false,
            told: false,
            said: vec![],
            actions: vec![],
        }
    }

    pub(crate) fn missing(&self) -> Vec<(usize, u64)> {
        let all = self.blocks.iter().enumerate();
        all.flat_map(|(block, (len, _))| (0..*len).map(move |at| (block, at)))
            .filter(|page| !self.memory.contains_key(page))
            .collect()
    }

    /// Does it, and draws the consequences if it is refused.
    pub(crate) fn apply(&mut self, op: Op) -> Result<Did, Blame> {
        self.check(op)
            .and_then(|()| self.act(op))
            .map_err(|(blame, fatal)| {
                if blame == Blame::Caller {
                } else if !fatal && matches!(self.phase, Phase::Running | Phase::Recovering) {
                    self.pause();
                } else if self.phase != Phase::Finished {
                    // To whom, if the link is gone?
                    if blame != Blame::Link {
                        self.shut(1);
                    }
                    self.phase = Phase::Failed;
                    self.half = [None, None];
                }
                blame
            })
    }

    /// Whether the channel may bring this now.
    fn check(&self, op: Op) -> Result<(), (Blame, bool)> {
        let (channel, urgent, recovers) = match op {
            Op::Fault(..) | Op::Placed(..) | Op::Saved => return Ok(()),
            Op::LinkLost(_) | Op::LinkRestored | Op::EndOfStream(_) => return Ok(()),
            Op::Page(channel, ..) | Op::Zero(channel, ..) | Op::RunOfPages(channel, ..) => {
                (channel, true, false)
            }
            Op::Eos(channel) => (channel, true, false),
            Op::RecvBitmap(_) | Op::Resume | Op::Ping(_) => (Channel::Main, false, true),
            _ => (Channel::Main, false, false),
        };
        let peer = Err((Blame::Peer, false));
        let caller = Err((Blame::Caller, false));
        match self.phase {
            Phase::Failed | Phase::Paused => return caller,
            Phase::Finished => return peer,
            _ => {}
        }
        match channel {
            _ if self.phase == Phase::Recovering && !recovers => peer,
            Channel::Preempt if !self.preempt => caller,
            Channel::Preempt if self.preempt_ended || !urgent => peer,
            Channel::Main if self.main_ended => peer,
            _ => Ok(()),
        }
    }

    fn act(&mut self, op: Op) -> Result<Did, (Blame, bool)> {
        let peer = Err((Blame::Peer, false));
        let caller = Err((Blame::Caller, false));
        let precopy = self.phase.is_precopy();
        let switching = matches!(self.phase, Phase::Advised | Phase::Discarding);
        match op {
            Op::OpenReturnPath => self.open = true,
            Op::Ping(_) if !self.open => return peer,
            Op::Ping(LOADED) if self.listened && !self.saved => self.held += 1,
            Op::Ping(value) => self.said.push(format!("PONG {value}")),
            Op::Advise if self.phase == Phase::Fresh && self.blocks.is_empty() => {
                self.phase = Phase::Advised;
            }
            Op::Announce(block) if precopy && block == self.blocks.len() => {
                self.blocks.push(BLOCKS[block]);
                self.actions.push(Action::Block { id: block });
            }
            // Numbered wrongly.
            Op::Announce(_) if precopy => return caller,
            Op::Discard(block, start, len) if switching => {
                // POSTCOPY_ADVISE spoke of all of them.
                if self.blocks.len() < BLOCKS.len() {
                    return Err((Blame::Settings, false));
                }
                let (end, page) = self.blocks[block];
                if start + len > end || start % page > 0 || len % page > 0 {
                    return peer;
                }
                for at in start..start + len {
                    self.memory.remove(&(block, at));
                }
                let (start, len) = (start * PAGE, len * PAGE);
                self.actions.push(Action::Discard { block, start, len });
                self.phase = Phase::Discarding;
            }
            Op::Packaged if switching && !self.in_package && !self.complete => {
                self.in_package = true;
            }
            Op::Listen => return self.listen(),
            Op::Run if self.phase == Phase::Listening => {
                self.phase = Phase::Running;
                self.actions.push(Action::Run);
                if self.in_package {
                    self.device_complete();
                }
            }
            Op::PackageEnd if self.in_package && self.listened => {
                self.in_package = false;
                self.device_complete();
            }
            Op::DeviceState => {}
            Op::RecvBitmap(block) if self.phase == Phase::Recovering => {
                if block >= self.blocks.len() || !self.asked.insert(block) {
                    return peer;
                }
                let pages = (0..self.blocks[block].0).filter(|at| self.has(block, *at));
                let pages: Vec<_> = pages.collect();
                self.said.push(format!("RECV_BITMAP {block} {pages:?}"));
            }
            Op::Resume if self.phase == Phase::Recovering => {
                if self.asked.len() < self.blocks.len() {
                    return peer;
                }
                self.phase = Phase::Running;
                self.said.push("RESUME_ACK".into());
                if self.saved {
                    self.pongs();
                }
                for (block, at) in self.wanted.clone() {
                    self.request(block, at);
                }
            }
            Op::Eof => return self.eof(),
            Op::Page(channel, block, at, byte) => return self.page(channel, block, at, byte),
            Op::Zero(channel, block, at) => return self.page(channel, block, at, 0),
            Op::Eos(Channel::Main) => {}
            Op::Eos(Channel::Preempt) => {
                self.preempt_ended = true;
                self.settle()?;
            }
            Op::RunOfPages(channel, block, at, len) => {
                if block >= self.blocks.len() {
                    return peer;
                }
                let (end, page) = self.blocks[block];
                if len == 0 || at + len > end || at % page > 0 || len % page > 0 {
                    return peer;
                }
                if self.half[lane(channel)].is_some() {
                    return peer;
                }
                self.is_new(channel, block, at, len)?;
                let bytes = vec![1; usize::try_from(len).unwrap()];
                self.placing[lane(channel)].push((block, at, bytes));
            }
            Op::Placed(channel, block, at, len) => return self.placed(channel, block, at, len),
            Op::Fault(block, at) => return self.fault(block, at).map(Did::Fault),
            Op::Saved if !self.complete => return caller,
            Op::Saved if self.saved => {}
            Op::Saved => {
                self.saved = true;
                if self.phase.is_live() {
                    self.pongs();
                }
                self.settle()?;
            }
            Op::LinkLost(channel) => return self.link_lost(channel),
            Op::EndOfStream(Channel::Main) if self.main_ended => {}
            Op::EndOfStream(Channel::Main) => return self.link_lost(Channel::Main),
            Op::EndOfStream(Channel::Preempt) if self.half[1].is_some() => {
                return self.link_lost(Channel::Preempt);
            }
            Op::EndOfStream(Channel::Preempt) => {
                self.preempt_ended = true;
                self.settle()?;
            }
            Op::LinkRestored => {
                let can = match self.phase {
                    Phase::Paused => true,
                    Phase::Finished => self.listened,
                    _ => false,
                };
                if !can || self.placing.iter().any(|runs| !runs.is_empty()) {
                    return caller;
                }
                self.phase = Phase::Recovering;
                self.asked.clear();
                self.in_package = false;
                self.main_ended = false;
                self.preempt_ended = false;
                self.last = None;
            }
            _ => return peer,
        }
        Ok(Did::Nothing)
    }

    fn has(&self, block: usize, at: u64) -> bool {
        self.memory.contains_key(&(block, at))
    }

    fn listen(&mut self) -> Result<Did, (Blame, bool)> {
        if !self.open {
            return Err((Blame::Peer, false));
        }
        let advised = self.phase != Phase::Fresh;
        if advised && self.blocks.len() < BLOCKS.len() {
            return Err((Blame::Settings, false));
        }
        for (block, (len, page)) in self.blocks.iter().enumerate() {
            for at in 0..*len {
                if self.has(block, at) != self.has(block, at / page * page) {
                    return Err((Blame::Peer, false));
                }
            }
        }
        if !matches!(self.phase, Phase::Advised | Phase::Discarding) {
            return Err((Blame::Peer, false));
        }
        self.phase = Phase::Listening;
        self.listened = true;
        self.actions.push(Action::Listen);
        Ok(Did::Nothing)
    }

    fn device_complete(&mut self) {
        if !self.complete {
            self.complete = true;
            self.actions.push(Action::DeviceStateComplete);
        }
    }

    fn pongs(&mut self) {
        for _ in 0..std::mem::take(&mut self.held) {
            self.said.push(format!("PONG {LOADED}"));
        }
    }

    fn request(&mut self, block: usize, at: u64) {
        let name = match self.last {
            Some(last) if last == block => "",
            _ => "ID ",
        };
        self.last = Some(block);
        self.said.push(format!("REQ {name}{block} {at}"));
    }

    fn eof(&mut self) -> Result<Did, (Blame, bool)> {
        let legal = self.phase.is_precopy() || self.phase == Phase::Running;
        if !legal || self.in_package {
            return Err((Blame::Peer, false));
        }
        self.main_ended = true;
        self.device_complete();
        self.settle()?;
        Ok(Did::Nothing)
    }

    fn settle(&mut self) -> Result<(), (Blame, bool)> {
        let legal = self.phase.is_precopy() || self.phase == Phase::Running;
        if !self.main_ended || !legal {
            return Ok(());
        }
        let missing = self.phase != Phase::Fresh && !self.missing().is_empty();
        if missing {
            let torn = self.half[0].is_some();
            let missing = self.missing();
            let coming = missing
                .iter()
                .all(|(block, at)| self.is_placing(*block, *at));
            let urgent = self.preempt && self.listened && !self.preempt_ended;
            let more = coming || urgent;
            return if more && !torn {
                Ok(())
            } else {
                Err((Blame::Peer, true))
            };
        }
        if !self.saved {
            return Ok(());
        }
        let ending = match self.phase {
            Phase::Running => Ending::Postcopy,
            _ => Ending::Precopy,
        };
        self.phase = Phase::Finished;
        self.shut(0);
        if !self.told {
            self.told = true;
            self.actions.push(Action::Finished(ending));
        }
        Ok(())
    }

    /// Whether all of these target pages may come on this channel.
    fn is_new(
        &self,
        channel: Channel,
        block: usize,
        at: u64,
        len: u64,
    ) -> Result<(), (Blame, bool)> {
        let page = self.blocks[block].1;
        for at in at..at + len {
            let placing = self.is_placing(block, at);
            let other = matches!(&self.half[1 - lane(channel)],
                Some((b, host, _)) if *b == block && at / page * page == *host);
            let interleaved = matches!(&self.half[lane(channel)],
                Some((b, host, _)) if *b != block || at / page * page != *host);
            let live = self.phase.is_live();
            if !live || self.has(block, at) || placing || other || interleaved {
                return Err((Blame::Peer, false));
            }
        }
        Ok(())
    }

    fn is_placing(&self, block: usize, at: u64) -> bool {
        self.placing.iter().flatten().any(|(b, start, bytes)| {
            *b == block && at >= *start && at - start < u64::try_from(bytes.len()).unwrap()
        })
    }

    fn page(
        &mut self,
        channel: Channel,
        block: usize,
        at: u64,
        byte: u8,
    ) -> Result<Did, (Blame, bool)> {
        let peer = Err((Blame::Peer, false));
        if block >= self.blocks.len() || at >= self.blocks[block].0 {
            return peer;
        }
        if self.phase.is_precopy() {
            if channel == Channel::Preempt {
                return peer;
            }
            self.memory.insert((block, at), byte);
            return Ok(Did::Write(block, at, vec![byte]));
        }
        let page = self.blocks[block].1;
        let host = at / page * page;
        for at in host..host + page {
            self.is_new(channel, block, at, 1)?;
        }
        let half = &mut self.half[lane(channel)];
        let (_, _, parts) = half.get_or_insert((block, host, BTreeMap::new()));
        if parts.insert(at, byte).is_some() {
            return peer;
        }
        if parts.len() < usize::try_from(page).unwrap() {
            return Ok(Did::Nothing);
        }
        let bytes: Vec<u8> = parts.values().copied().collect();
        *half = None;
        self.placing[lane(channel)].push((block, host, bytes.clone()));
        Ok(Did::Place(block, host, bytes))
    }

    fn placed(
        &mut self,
        channel: Channel,
        block: usize,
        at: u64,
        len: u64,
    ) -> Result<Did, (Blame, bool)> {
        let page = self.blocks.get(block).map_or(1, |block| block.1);
        let len = usize::try_from(len).unwrap();
        let runs = &mut self.placing[lane(channel)];
        let found = runs.iter().position(|(b, start, bytes)| {
            *b == block && *start == at && len > 0 && len <= bytes.len()
        });
        let Some(found) = found.filter(|_| len.is_multiple_of(usize::try_from(page).unwrap()))
        else {
            return Err((Blame::Caller, false));
        };
        let (_, start, bytes) = &mut runs[found];
        for byte in bytes.drain(..len) {
            self.memory.insert((block, *start), byte);
            self.wanted.remove(&(block, *start));
            *start += 1;
        }
        runs.retain(|(_, _, bytes)| !bytes.is_empty());
        self.settle()?;
        Ok(Did::Nothing)
    }

    fn fault(&mut self, block: usize, at: u64) -> Result<Fault, (Blame, bool)> {
        let caller = Err((Blame::Caller, false));
        if block >= self.blocks.len() || at >= self.blocks[block].0 || !self.listened {
            return caller;
        }
        let host = at / self.blocks[block].1 * self.blocks[block].1;
        if self.has(block, host) {
            return Ok(Fault::Present);
        }
        if self.phase == Phase::Failed {
            return caller;
        }
        if !self.wanted.insert((block, host)) {
            return Ok(Fault::Pending);
        }
        if self.phase.is_live() && !self.is_placing(block, host) {
            self.request(block, host);
        }
        Ok(Fault::New)
    }

    fn link_lost(&mut self, channel: Channel) -> Result<Did, (Blame, bool)> {
        self.placing[lane(channel)].clear();
        match self.phase {
            Phase::Finished | Phase::Failed => {}
            Phase::Running | Phase::Paused | Phase::Recovering => self.pause(),
            _ if channel == Channel::Preempt => {
                self.shut(1);
                return Err((Blame::Link, true));
            }
            _ => return Err((Blame::Link, true)),
        }
        Ok(Did::Nothing)
    }

    fn shut(&mut self, value: u32) {
        if self.open {
            self.said.push(format!("SHUT {value}"));
        }
    }

    fn pause(&mut self) {
        self.phase = Phase::Paused;
        self.half = [None, None];
        self.last = None;
    }
}
