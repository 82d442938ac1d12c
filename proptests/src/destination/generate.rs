//! Chooses the next call: arbitrary or legal.

use retpath_codec::wire::value::PING_PACKAGE_LOADED;
use retpath_engine::Channel::{self, Main, Preempt};
use retpath_engine::destination::Phase;

use super::lockstep::Lockstep;
use super::model::{BLOCKS, Op, channel_index};
use crate::choices::Choices;

const CHANNELS: [Channel; 2] = [Main, Preempt];

/// Returns a fill byte for a page; 0 makes it a zero page.
fn fill(choices: &mut Choices<'_>) -> u8 {
    choices.byte().max(1)
}

impl Lockstep {
    /// Returns any call.
    pub(super) fn any_call(&self, choices: &mut Choices<'_>) -> Op {
        let kind = choices.below(40);
        let channel = if choices.one_in(3) { Preempt } else { Main };
        let block = choices.index(2);
        let at = choices.below(BLOCKS[block].0 + 1);
        match kind {
            0 => Op::OpenReturnPath,
            1 => Op::Ping(4),
            2 => Op::Ping(PING_PACKAGE_LOADED),
            3 => Op::Advise,
            4 => Op::Announce(block),
            5 => Op::Discard(block, at, choices.below(8) + 1),
            6 => Op::Packaged,
            7 => Op::Listen,
            8 => Op::Run,
            9 => Op::PackageEnd,
            10 => Op::DeviceState,
            11 => Op::EnableColo,
            12 => Op::RecvBitmap(block),
            13 => Op::Resume,
            14 => Op::Eof,
            15 | 16 => Op::Zero(channel, block, at),
            17 => Op::Eos(channel),
            18 | 19 => Op::RunOfPages(channel, block, at, choices.below(9)),
            20 | 21 => Op::Placed(channel, block, at, choices.below(9)),
            22..26 => Op::Fault(block, at),
            26 => Op::Saved,
            27 => Op::LinkLost(channel),
            28 => Op::LinkRestored,
            29 => Op::EndOfStream(channel),
            30 => Op::Confirm,
            31 if choices.one_in(8) => Op::Abort,
            _ => Op::Page(channel, block, at, fill(choices)),
        }
    }

    /// Performs all calls up to the switch, with random memory content.
    pub(super) fn switch(&mut self, choices: &mut Choices<'_>) {
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
        for _ in 0..choices.below(8) {
            let block = choices.index(2);
            let at = choices.below(BLOCKS[block].0);
            self.step(Op::Page(Main, block, at, fill(choices))).unwrap();
        }
        for (block, (len, page)) in BLOCKS.into_iter().enumerate() {
            for at in (0..len).step_by(usize::try_from(page).unwrap()) {
                let parts = (at..at + page).filter(|at| self.model.has(block, *at));
                let parts = parts.count();
                let half = parts > 0 && parts < usize::try_from(page).unwrap();
                if half || parts > 0 && choices.one_in(4) {
                    self.step(Op::Discard(block, at, page)).unwrap();
                }
            }
        }
        let script = [
            Op::Packaged,
            Op::Listen,
            Op::DeviceState,
            Op::Ping(3),
            Op::Ping(PING_PACKAGE_LOADED),
            Op::Run,
            Op::PackageEnd,
        ];
        for op in script {
            self.step(op).unwrap();
        }
    }

    /// Returns a call that a well-behaved source and caller may make after the
    /// switch. The link is cut once in `cut` calls, or never if `cut` is 0.
    pub(super) fn legal_call(&self, choices: &mut Choices<'_>, cut: u64) -> Op {
        let model = &self.model;
        if cut > 0 && choices.one_in(cut) {
            return Op::LinkLost(CHANNELS[choices.index(2)]);
        }
        let placing = CHANNELS.map(|channel| !model.placing[channel_index(channel)].is_empty());
        match model.phase {
            Phase::Paused | Phase::Finished => match placing {
                [true, _] => Op::LinkLost(Main),
                [_, true] => Op::LinkLost(Preempt),
                _ if choices.one_in(4) => self.fault(choices),
                _ => Op::LinkRestored,
            },
            Phase::Recovering => {
                let next = (0..BLOCKS.len()).find(|block| !model.asked.contains(block));
                match (next, choices.below(8)) {
                    (_, 0) => self.fault(choices),
                    (_, 1) => Op::Ping(6),
                    (Some(block), _) => Op::RecvBitmap(block),
                    (None, _) => Op::Resume,
                }
            }
            _ => self.live(choices),
        }
    }

    fn fault(&self, choices: &mut Choices<'_>) -> Op {
        let block = choices.index(2);
        Op::Fault(block, choices.below(BLOCKS[block].0))
    }

    /// Returns a legal call while the guest runs.
    fn live(&self, choices: &mut Choices<'_>) -> Op {
        let model = &self.model;
        let other = model.setup.preempt && !model.preempt_ended && choices.one_in(2);
        let channel = if other { Preempt } else { Main };
        let kind = choices.below(16);
        match kind {
            0 => return self.fault(choices),
            1 if model.complete => return Op::Saved,
            2 if model.asked_to_confirm => return Op::Confirm,
            3..8 => {
                let runs = &model.placing[channel_index(channel)];
                if let Some((block, at, bytes)) = runs.first() {
                    let page = BLOCKS[*block].1;
                    let len = u64::try_from(bytes.len()).unwrap();
                    let part = 1 + choices.below(len / page);
                    return Op::Placed(channel, *block, *at, part * page);
                }
            }
            _ => {}
        }
        match channel {
            Main if model.main_ended => return self.last(),
            Preempt if kind == 8 && self.may_end_preempt() => {
                let close = choices.one_in(2);
                return if close {
                    Op::EndOfStream(Preempt)
                } else {
                    Op::Eos(Preempt)
                };
            }
            _ => {}
        }
        let open = model.half[channel_index(channel)].is_some();
        let page = choices.pick(&self.sendable(channel));
        match (page, kind) {
            (Some((block, at)), 9 | 10) if !open => {
                let page = BLOCKS[block].1;
                let len = page * (1 + choices.below(2));
                let op = Op::RunOfPages(channel, block, at / page * page, len);
                if model.clone().apply(op).is_ok() {
                    return op;
                }
                Op::Zero(channel, block, at)
            }
            (Some((block, at)), 11) => Op::Zero(channel, block, at),
            (Some((block, at)), _) => Op::Page(channel, block, at, fill(choices)),
            (None, 12) if channel == Main => Op::Ping(4),
            (None, _) if channel == Main && self.may_end_main() => Op::Eof,
            (None, _) => self.last(),
        }
    }

    /// Returns the next closing call when nothing is left to send.
    fn last(&self) -> Op {
        let model = &self.model;
        for channel in CHANNELS {
            if let Some((block, at, bytes)) = model.placing[channel_index(channel)].first() {
                let len = u64::try_from(bytes.len()).unwrap();
                return Op::Placed(channel, *block, *at, len);
            }
        }
        match (model.complete, model.saved) {
            (true, false) => Op::Saved,
            _ if model.asked_to_confirm => Op::Confirm,
            _ => Op::Fault(0, 0),
        }
    }

    /// Target pages that a channel may carry: the rest of its open host page, or
    /// any host page that the other channel has not begun.
    fn sendable(&self, channel: Channel) -> Vec<(usize, u64)> {
        let model = &self.model;
        if let Some((block, host, parts)) = &model.half[channel_index(channel)] {
            let all = *host..*host + BLOCKS[*block].1;
            let left = all.filter(|at| !parts.contains_key(at));
            return left.map(|at| (*block, at)).collect();
        }
        let other = match channel {
            Main => &model.half[channel_index(Preempt)],
            Preempt => &model.half[channel_index(Main)],
        };
        let theirs = |block: usize, at: u64| {
            let host = at - at % BLOCKS[block].1;
            other
                .as_ref()
                .is_some_and(|half| (half.0, half.1) == (block, host))
        };
        let missing = model.missing();
        missing
            .filter(|(block, at)| !model.is_placing(*block, *at) && !theirs(*block, *at))
            .collect()
    }

    fn may_end_main(&self) -> bool {
        let model = &self.model;
        model.half[channel_index(Main)].is_none() && model.more_comes()
    }

    /// Whether every page that the main channel can no longer carry has arrived.
    fn may_end_preempt(&self) -> bool {
        let model = &self.model;
        let placing = |(block, at)| model.is_placing(block, at);
        let all = !model.main_ended || model.missing().all(placing);
        model.half[channel_index(Preempt)].is_none() && all
    }

    /// Makes legal calls until the migration finishes, and returns their number.
    pub(super) fn finish(&mut self, choices: &mut Choices<'_>, cut: u64) -> usize {
        for calls in 0..20_000 {
            if self.model.phase == Phase::Finished {
                return calls;
            }
            let op = self.legal_call(choices, cut);
            assert_eq!(self.step(op), Ok(()), "{op:?}");
        }
        panic!("migration does not finish: {:?}", self.model);
    }
}
