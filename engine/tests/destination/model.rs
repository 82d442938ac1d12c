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

/// Why it is refused, and whether that is the end of it.
pub(crate) type Refusal = (Blame, bool);

/// A block, a host page in it, and its target pages so far.
type Half = (usize, u64, BTreeMap<u64, u8>);

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
    pub(crate) half: [Option<Half>; 2],
    pub(crate) placing: [Runs; 2],
    pub(crate) asked: BTreeSet<usize>,
    last: Option<usize>,
    pub(crate) open: bool,
    pub(crate) in_package: bool,
    pub(crate) listened: bool,
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

pub(crate) fn lane(channel: Channel) -> usize {
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
    fn check(&self, op: Op) -> Result<(), Refusal> {
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

    fn act(&mut self, op: Op) -> Result<Did, Refusal> {
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
            Op::RunOfPages(channel, block, at, len) => return self.run(channel, block, at, len),
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

    pub(crate) fn has(&self, block: usize, at: u64) -> bool {
        self.memory.contains_key(&(block, at))
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

    pub(crate) fn request(&mut self, block: usize, at: u64) {
        let name = match self.last {
            Some(last) if last == block => "",
            _ => "ID ",
        };
        self.last = Some(block);
        self.said.push(format!("REQ {name}{block} {at}"));
    }

    fn eof(&mut self) -> Result<Did, Refusal> {
        let legal = self.phase.is_precopy() || self.phase == Phase::Running;
        if !legal || self.in_package {
            return Err((Blame::Peer, false));
        }
        self.main_ended = true;
        self.device_complete();
        self.settle()?;
        Ok(Did::Nothing)
    }

    pub(crate) fn settle(&mut self) -> Result<(), Refusal> {
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

    fn link_lost(&mut self, channel: Channel) -> Result<Did, Refusal> {
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
