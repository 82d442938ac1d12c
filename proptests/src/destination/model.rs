//! A naive model of the destination: lists of pages, processed one page at a
//! time, with no derived state.

use std::collections::{BTreeMap, BTreeSet};

use retpath_codec::wire::value::PING_PACKAGE_LOADED;
use retpath_engine::Channel;
use retpath_engine::blocks::Span;
use retpath_engine::destination::{Action, Blame, PageState, Phase};

/// Target page size in bytes: the smallest valid one.
pub(super) const PAGE: u64 = 1024;
/// Target pages in a host page of the second block.
pub(super) const PARTS: u64 = 4;

/// A call; sizes and offsets are in target pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
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
    Confirm,
    Abort,
}

/// The effect of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// Write these bytes, one per target page.
    Write(usize, u64, Vec<u8>),
    /// Place these bytes, one per target page.
    Place(usize, u64, Vec<u8>),
    Fault(PageState),
}

/// A message on the return path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Shut(u32),
    Pong(u32),
    /// A request for a host page, with or without its block name.
    Request {
        block: usize,
        at: u64,
        named: bool,
    },
    /// Which target pages of a block have been received.
    Bitmap(usize, Vec<bool>),
    ResumeAck,
    SwitchoverAck,
}

/// Configuration of a destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) preempt: bool,
    /// Whether SHUT waits for the caller's confirmation.
    pub(super) confirm: bool,
}

/// Who is to blame for a refusal, and whether it ends the link or migration.
pub(super) type Refusal = (Blame, bool);

/// A block, a host page in it, and its target pages received so far.
type PartialPage = (usize, u64, BTreeMap<u64, u8>);

type Runs = Vec<(usize, u64, Vec<u8>)>;

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) setup: Setup,
    pub(super) phase: Phase,
    /// Length and page size of each announced block.
    pub(super) blocks: Vec<(u64, u64)>,
    /// Content of each target page of each block, if received.
    pub(super) memory: Vec<Vec<Option<u8>>>,
    /// Requested host pages, by their first target page.
    pub(super) wanted: BTreeSet<(usize, u64)>,
    pub(super) half: [Option<PartialPage>; 2],
    pub(super) placing: [Runs; 2],
    pub(super) asked: BTreeSet<usize>,
    pub(super) last: Option<usize>,
    pub(super) open: bool,
    pub(super) in_package: bool,
    pub(super) listened: bool,
    pub(super) complete: bool,
    pub(super) saved: bool,
    held: u32,
    pub(super) main_ended: bool,
    pub(super) preempt_ended: bool,
    pub(super) asked_to_confirm: bool,
    pub(super) confirmed: bool,
    pub(super) told: bool,
    pub(super) replies: Vec<Reply>,
    pub(super) actions: Vec<Action>,
}

/// Length and page size of each block, in target pages.
pub(super) const BLOCKS: [(u64, u64); 2] = [(6, 1), (4 * PARTS, PARTS)];

pub(super) fn channel_index(channel: Channel) -> usize {
    usize::from(channel == Channel::Preempt)
}

impl Model {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            phase: Phase::Fresh,
            blocks: vec![],
            memory: vec![],
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
            asked_to_confirm: false,
            confirmed: !setup.confirm,
            told: false,
            replies: vec![],
            actions: vec![],
        }
    }

    /// Target pages not yet received.
    pub(super) fn missing(&self) -> impl Iterator<Item = (usize, u64)> {
        let blocks = self.memory.iter().enumerate();
        blocks.flat_map(|(block, pages)| {
            let pages = (0..).zip(pages).filter(|(_, page)| page.is_none());
            pages.map(move |(at, _)| (block, at))
        })
    }

    /// Applies a call, and the consequences of its refusal.
    pub(super) fn apply(&mut self, op: Op) -> Result<Effect, Blame> {
        self.check(op)
            .and_then(|()| self.act(op))
            .map_err(|(blame, fatal)| {
                if blame == Blame::Caller {
                } else if !fatal && matches!(self.phase, Phase::Running | Phase::Recovering) {
                    self.pause();
                } else if self.phase != Phase::Finished {
                    // A lost link has no peer to send a message to.
                    if blame != Blame::Link {
                        self.shut(1);
                    }
                    self.phase = Phase::Failed;
                    self.half = [None, None];
                }
                blame
            })
    }

    /// Checks whether the channel may carry this now.
    fn check(&self, op: Op) -> Result<(), Refusal> {
        let (channel, urgent, recovers) = match op {
            Op::Fault(..) | Op::Placed(..) | Op::Saved => return Ok(()),
            Op::LinkLost(_) | Op::LinkRestored | Op::EndOfStream(_) => return Ok(()),
            Op::Confirm | Op::Abort => return Ok(()),
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
            // An early preempt channel may still end.
            Phase::Finished if op == Op::Eos(Channel::Preempt) => {}
            Phase::Finished => return peer,
            _ => {}
        }
        match channel {
            _ if self.phase == Phase::Recovering && !recovers => peer,
            Channel::Preempt if !self.setup.preempt => caller,
            Channel::Preempt if self.preempt_ended || !urgent => peer,
            Channel::Main if self.main_ended => peer,
            _ => Ok(()),
        }
    }

    fn act(&mut self, op: Op) -> Result<Effect, Refusal> {
        let peer = Err((Blame::Peer, false));
        let caller = Err((Blame::Caller, false));
        let precopy = self.phase.is_precopy();
        let switching = matches!(self.phase, Phase::Advised | Phase::Discarding);
        match op {
            Op::OpenReturnPath => self.open = true,
            Op::Ping(_) if !self.open => return peer,
            Op::Ping(PING_PACKAGE_LOADED) if self.listened && !self.saved => self.held += 1,
            Op::Ping(value) => self.replies.push(Reply::Pong(value)),
            Op::Advise if self.phase == Phase::Fresh && self.blocks.is_empty() => {
                self.phase = Phase::Advised;
            }
            Op::Announce(block) if precopy && block == self.blocks.len() => {
                self.blocks.push(BLOCKS[block]);
                let pages = usize::try_from(BLOCKS[block].0).expect("fits in usize");
                self.memory.push(vec![None; pages]);
                self.actions.push(Action::Block { id: block });
            }
            // Block numbers are invalid.
            Op::Announce(_) if precopy => return caller,
            Op::Discard(block, start, len) if switching => {
                // POSTCOPY_ADVISE must follow the announcement of all blocks.
                if self.blocks.len() < BLOCKS.len() {
                    return Err((Blame::Settings, false));
                }
                let (end, page) = self.blocks[block];
                if start + len > end || start % page > 0 || len % page > 0 {
                    return peer;
                }
                for at in start..start + len {
                    *self.page_mut(block, at) = None;
                }
                let (start, len) = (start * PAGE, len * PAGE);
                self.actions.push(Action::Discard(Span {
                    block,
                    offset: start,
                    len,
                }));
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
                let received = self.memory[block].iter().map(Option::is_some);
                self.replies.push(Reply::Bitmap(block, received.collect()));
            }
            Op::Resume if self.phase == Phase::Recovering => {
                if self.asked.len() < self.blocks.len() {
                    return peer;
                }
                self.phase = Phase::Running;
                self.replies.push(Reply::ResumeAck);
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
            Op::Fault(block, at) => return self.fault(block, at).map(Effect::Fault),
            Op::Saved if !self.complete => return caller,
            Op::Saved if self.saved => {}
            Op::Saved => {
                self.saved = true;
                if self.phase.is_live() {
                    self.pongs();
                }
                self.settle()?;
            }
            Op::Confirm if !self.asked_to_confirm && !self.confirmed => return caller,
            Op::Confirm => {
                self.confirmed = true;
                self.settle()?;
            }
            Op::Abort => self.abort(),
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
        Ok(Effect::Nothing)
    }

    pub(super) fn has(&self, block: usize, at: u64) -> bool {
        let at = usize::try_from(at).expect("fits in usize");
        self.memory[block][at].is_some()
    }

    pub(super) fn page_mut(&mut self, block: usize, at: u64) -> &mut Option<u8> {
        let at = usize::try_from(at).expect("fits in usize");
        &mut self.memory[block][at]
    }

    pub(super) fn device_complete(&mut self) {
        if !self.complete {
            self.complete = true;
            self.actions.push(Action::DeviceStateComplete);
        }
    }

    fn pongs(&mut self) {
        for _ in 0..std::mem::take(&mut self.held) {
            self.replies.push(Reply::Pong(PING_PACKAGE_LOADED));
        }
    }

    pub(super) fn request(&mut self, block: usize, at: u64) {
        let named = self.last != Some(block);
        self.last = Some(block);
        self.replies.push(Reply::Request { block, at, named });
    }
}
