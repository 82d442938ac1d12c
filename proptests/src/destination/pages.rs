//! The model's page handling: faults, records, placements, and the switch.

use std::collections::BTreeMap;

use retpath_engine::Channel;
use retpath_engine::destination::{Action, Blame, PageState, Phase};

use super::model::{BLOCKS, Effect, Model, Refusal, channel_index};

impl Model {
    pub(super) fn run(
        &mut self,
        channel: Channel,
        block: usize,
        at: u64,
        len: u64,
    ) -> Result<Effect, Refusal> {
        let peer = Err((Blame::Peer, false));
        if block >= self.blocks.len() {
            return peer;
        }
        let (end, page) = self.blocks[block];
        let whole = at.is_multiple_of(page) && len.is_multiple_of(page);
        if len == 0 || at + len > end || !whole {
            return peer;
        }
        if self.half[channel_index(channel)].is_some() {
            return peer;
        }
        self.is_new(channel, block, at, len)?;
        let bytes = vec![1; usize::try_from(len).unwrap()];
        self.placing[channel_index(channel)].push((block, at, bytes));
        Ok(Effect::Nothing)
    }

    /// Whether all of these target pages may arrive on this channel.
    pub(super) fn is_new(
        &self,
        channel: Channel,
        block: usize,
        at: u64,
        len: u64,
    ) -> Result<(), Refusal> {
        let page = self.blocks[block].1;
        for at in at..at + len {
            let placing = self.is_placing(block, at);
            let other = matches!(&self.half[1 - channel_index(channel)],
                Some((b, host, _)) if *b == block && at / page * page == *host);
            let interleaved = matches!(&self.half[channel_index(channel)],
                Some((b, host, _)) if *b != block || at / page * page != *host);
            let live = self.phase.is_live();
            if !live || self.has(block, at) || placing || other || interleaved {
                return Err((Blame::Peer, false));
            }
        }
        Ok(())
    }

    pub(super) fn is_placing(&self, block: usize, at: u64) -> bool {
        self.placing.iter().flatten().any(|(b, start, bytes)| {
            *b == block && at >= *start && at - start < u64::try_from(bytes.len()).unwrap()
        })
    }

    pub(super) fn page(
        &mut self,
        channel: Channel,
        block: usize,
        at: u64,
        byte: u8,
    ) -> Result<Effect, Refusal> {
        let peer = Err((Blame::Peer, false));
        if block >= self.blocks.len() || at >= self.blocks[block].0 {
            return peer;
        }
        if self.phase.is_precopy() {
            if channel == Channel::Preempt {
                return peer;
            }
            *self.page_mut(block, at) = Some(byte);
            return Ok(Effect::Write(block, at, vec![byte]));
        }
        let page = self.blocks[block].1;
        let host = at / page * page;
        for at in host..host + page {
            self.is_new(channel, block, at, 1)?;
        }
        let half = &mut self.half[channel_index(channel)];
        let (_, _, parts) = half.get_or_insert((block, host, BTreeMap::new()));
        if parts.insert(at, byte).is_some() {
            return peer;
        }
        if parts.len() < usize::try_from(page).unwrap() {
            return Ok(Effect::Nothing);
        }
        let bytes: Vec<u8> = parts.values().copied().collect();
        *half = None;
        self.placing[channel_index(channel)].push((block, host, bytes.clone()));
        Ok(Effect::Place(block, host, bytes))
    }

    pub(super) fn placed(
        &mut self,
        channel: Channel,
        block: usize,
        at: u64,
        len: u64,
    ) -> Result<Effect, Refusal> {
        let page = self.blocks.get(block).map_or(1, |block| block.1);
        let len = usize::try_from(len).unwrap();
        let runs = &mut self.placing[channel_index(channel)];
        let found = runs.iter().position(|(b, start, bytes)| {
            *b == block && *start == at && len > 0 && len <= bytes.len()
        });
        let Some(found) = found.filter(|_| len.is_multiple_of(usize::try_from(page).unwrap()))
        else {
            return Err((Blame::Caller, false));
        };
        let (_, start, bytes) = &mut runs[found];
        let done: Vec<u8> = bytes.drain(..len).collect();
        *start += u64::try_from(len).unwrap();
        runs.retain(|(_, _, bytes)| !bytes.is_empty());
        for (at, byte) in (at..).zip(done) {
            *self.page_mut(block, at) = Some(byte);
            self.wanted.remove(&(block, at));
        }
        self.settle()?;
        Ok(Effect::Nothing)
    }

    pub(super) fn fault(&mut self, block: usize, at: u64) -> Result<PageState, Refusal> {
        let caller = Err((Blame::Caller, false));
        if block >= self.blocks.len() || at >= self.blocks[block].0 || !self.listened {
            return caller;
        }
        let host = at / self.blocks[block].1 * self.blocks[block].1;
        if self.has(block, host) {
            return Ok(PageState::Present);
        }
        if self.phase == Phase::Failed {
            return caller;
        }
        if !self.wanted.insert((block, host)) {
            return Ok(PageState::Requested);
        }
        if self.phase.is_live() && !self.is_placing(block, host) {
            self.request(block, host);
        }
        Ok(PageState::Missing)
    }

    pub(super) fn listen(&mut self) -> Result<Effect, Refusal> {
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
        Ok(Effect::Nothing)
    }
}
