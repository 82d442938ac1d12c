//! Which call comes next: any, a likely one, or a legal one.

use crate::Channel::{Main, Preempt};
use crate::destination::Phase;

use super::model::{BLOCKS, Op};
use super::twins::Twins;
use crate::check::Choices;

impl Twins {
    /// Anything at all.
    pub(super) fn anything(&self, choices: &mut Choices<'_>) -> Op {
        let channel = choices.pick(&[Main, Main, Preempt]).unwrap();
        let block = choices.index(2);
        let at = choices.below(BLOCKS[block].0 + 1);
        let byte = u8::try_from(choices.below(255) + 1).unwrap();
        match choices.below(30) {
            0 => Op::OpenReturnPath,
            1 => Op::Ping(4),
            2 => Op::Ping(0x42),
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
            15 => Op::Zero(channel, block, at),
            16 => Op::Eos(channel),
            17 => Op::RunOfPages(channel, block, at, choices.below(9)),
            18 => Op::Placed(channel, block, at, choices.below(9)),
            19 | 20 => Op::Fault(block, at),
            21 => Op::Saved,
            22 => Op::LinkLost(channel),
            23 => Op::LinkRestored,
            24 => Op::EndOfStream(channel),
            _ => Op::Page(channel, block, at, byte),
        }
    }

    /// Everything up to the switch; what is in memory differs by the seed.
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
        for _ in 0..choices.below(20) {
            let block = choices.index(2);
            let at = choices.below(BLOCKS[block].0);
            let byte = u8::try_from(choices.below(255) + 1).unwrap();
            self.step(Op::Page(Main, block, at, byte)).unwrap();
        }
        for (block, (len, page)) in BLOCKS.into_iter().enumerate() {
            for at in (0..len).step_by(usize::try_from(page).unwrap()) {
                let half = (at..at + page).any(|at| !self.model.memory.contains_key(&(block, at)));
                if half || choices.one_in(4) {
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
    pub(super) fn likely(&self, choices: &mut Choices<'_>, cut: u64) -> Op {
        let model = &self.model;
        let channel = choices.pick(&[Main, Preempt]).unwrap();
        let lane = usize::from(channel == Preempt);
        let byte = u8::try_from(choices.below(255) + 1).unwrap();
        let missing = choices.pick(&model.missing());
        match choices.below(16) {
            0 if cut > 0 && choices.one_in(cut) => Op::LinkLost(channel),
            0 => Op::Ping(4),
            1 => Op::Saved,
            2 => Op::Eof,
            3 if choices.one_in(8) => Op::EndOfStream(Preempt),
            3..=5 => match model.phase {
                Phase::Paused if choices.one_in(2) => Op::LinkLost(channel),
                Phase::Paused => Op::LinkRestored,
                _ if choices.one_in(2) => Op::Resume,
                _ => Op::RecvBitmap(choices.index(2)),
            },
            6 | 7 => match missing {
                Some((block, at)) => Op::Fault(block, at),
                None => Op::Fault(0, 0),
            },
            8..=11 => match model.placing[lane].first() {
                Some((block, at, bytes)) => {
                    let page = BLOCKS[*block].1;
                    let len = u64::try_from(bytes.len()).unwrap();
                    let part = (1 + choices.below(len / page)) * page;
                    Op::Placed(channel, *block, *at, part)
                }
                None => Op::Ping(5),
            },
            12 => match missing {
                Some((block, at)) => {
                    let page = BLOCKS[block].1;
                    let len = page * (1 + choices.below(2));
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
                        choices.pick(&left).map(|at| (*block, at))
                    }
                    None => missing,
                };
                match page {
                    Some((block, at)) if choices.one_in(2) => Op::Page(channel, block, at, byte),
                    Some((block, at)) => Op::Zero(channel, block, at),
                    None => Op::Eof,
                }
            }
        }
    }

    /// A likely call that is legal, if one turns up.
    pub(super) fn legal(&self, choices: &mut Choices<'_>, cut: u64) -> Op {
        let mut op = self.likely(choices, cut);
        for _ in 0..1000 {
            if self.model.clone().apply(op).is_ok() {
                break;
            }
            op = self.likely(choices, cut);
        }
        op
    }

    /// Goes on with legal calls until the migration has finished; says how
    /// many it took.
    pub(super) fn finish(&mut self, choices: &mut Choices<'_>, cut: u64) -> usize {
        for calls in 0..20_000 {
            if self.model.phase == Phase::Finished {
                return calls;
            }
            let op = self.legal(choices, cut);
            self.step(op).unwrap();
        }
        panic!("it does not end: {:?}", self.model);
    }
}
