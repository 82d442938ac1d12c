//! Which call comes next: any, a likely one, or a legal one.

use retpath_engine::Channel::{Main, Preempt};
use retpath_engine::destination::Phase;

use crate::model::{BLOCKS, Op};
use crate::twins::Twins;

/// splitmix64: small pseudo-random numbers, the same ones every time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let count = u64::try_from(from.len()).unwrap();
        let at = usize::try_from(self.next().checked_rem(count)?).unwrap();
        Some(from[at])
    }
}

impl Twins {
    /// Anything at all.
    pub(crate) fn anything(&self, random: &mut Random) -> Op {
        let channel = random.pick(&[Main, Main, Preempt]).unwrap();
        let block = usize::try_from(random.below(2)).unwrap();
        let at = random.below(BLOCKS[block].0 + 1);
        let byte = u8::try_from(random.below(255) + 1).unwrap();
        match random.below(30) {
            0 => Op::OpenReturnPath,
            1 => Op::Ping(4),
            2 => Op::Ping(0x42),
            3 => Op::Advise,
            4 => Op::Announce(block),
            5 => Op::Discard(block, at, random.below(8) + 1),
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
            17 => Op::RunOfPages(channel, block, at, random.below(9)),
            18 => Op::Placed(channel, block, at, random.below(9)),
            19 | 20 => Op::Fault(block, at),
            21 => Op::Saved,
            22 => Op::LinkLost(channel),
            23 => Op::LinkRestored,
            24 => Op::EndOfStream(channel),
            _ => Op::Page(channel, block, at, byte),
        }
    }

    /// Everything up to the switch; what is in memory differs by the seed.
    pub(crate) fn switch(&mut self, random: &mut Random) {
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
        for _ in 0..random.below(20) {
            let block = usize::try_from(random.below(2)).unwrap();
            let at = random.below(BLOCKS[block].0);
            let byte = u8::try_from(random.below(255) + 1).unwrap();
            self.step(Op::Page(Main, block, at, byte)).unwrap();
        }
        for (block, (len, page)) in BLOCKS.into_iter().enumerate() {
            for at in (0..len).step_by(usize::try_from(page).unwrap()) {
                let half = (at..at + page).any(|at| !self.model.memory.contains_key(&(block, at)));
                if half || random.one_in(4) {
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
    pub(crate) fn likely(&self, random: &mut Random, cut: u64) -> Op {
        let model = &self.model;
        let channel = random.pick(&[Main, Preempt]).unwrap();
        let lane = usize::from(channel == Preempt);
        let byte = u8::try_from(random.below(255) + 1).unwrap();
        let missing = random.pick(&model.missing());
        match random.below(16) {
            0 if cut > 0 && random.one_in(cut) => Op::LinkLost(channel),
            0 => Op::Ping(4),
            1 => Op::Saved,
            2 => Op::Eof,
            3 if random.one_in(8) => Op::EndOfStream(Preempt),
            3..=5 => match model.phase {
                Phase::Paused if random.one_in(2) => Op::LinkLost(channel),
                Phase::Paused => Op::LinkRestored,
                _ if random.one_in(2) => Op::Resume,
                _ => Op::RecvBitmap(usize::try_from(random.below(2)).unwrap()),
            },
            6 | 7 => match missing {
                Some((block, at)) => Op::Fault(block, at),
                None => Op::Fault(0, 0),
            },
            8..=11 => match model.placing[lane].first() {
                Some((block, at, bytes)) => {
                    let page = BLOCKS[*block].1;
                    let len = u64::try_from(bytes.len()).unwrap();
                    let part = (1 + random.below(len / page)) * page;
                    Op::Placed(channel, *block, *at, part)
                }
                None => Op::Ping(5),
            },
            12 => match missing {
                Some((block, at)) => {
                    let page = BLOCKS[block].1;
                    let len = page * (1 + random.below(2));
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
                        random.pick(&left).map(|at| (*block, at))
                    }
                    None => missing,
                };
                match page {
                    Some((block, at)) if random.one_in(2) => Op::Page(channel, block, at, byte),
                    Some((block, at)) => Op::Zero(channel, block, at),
                    None => Op::Eof,
                }
            }
        }
    }

    /// A likely call that is legal, if one turns up.
    pub(crate) fn legal(&self, random: &mut Random, cut: u64) -> Op {
        let mut op = self.likely(random, cut);
        for _ in 0..1000 {
            if self.model.clone().apply(op).is_ok() {
                break;
            }
            op = self.likely(random, cut);
        }
        op
    }

    /// Goes on with legal calls until the migration has finished; says how
    /// many it took.
    pub(crate) fn finish(&mut self, random: &mut Random, cut: u64) -> usize {
        for calls in 0..20_000 {
            if self.model.phase == Phase::Finished {
                return calls;
            }
            let op = self.legal(random, cut);
            self.step(op).unwrap();
        }
        panic!("it does not end: {:?}", self.model);
    }
}
