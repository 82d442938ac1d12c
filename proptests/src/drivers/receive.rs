//! The loop of a destination, with a source, strangers, and a network that breaks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use retpath_engine::destination::{Destination, Phase};
use retpath_engine::driver::{self, Control, ReceiveOptions, RunError};

use super::guest::{self, Guest};
use super::net::{Net, Script, Shared, USER};
use super::sender::{Sender, shape};
use super::{END, Outcome, SECOND, done, hostile};
use crate::choices::Choices;

/// Interprets `bytes` as a migration to a receiving loop, and the events around it.
pub fn receive(bytes: &[u8]) {
    received(Choices::from_bytes(bytes));
}

/// Receives a migration from a source whose connections break, while strangers connect,
/// and returns the outcome. The strangers say anything; they are another user's, unless the
/// source is hostile, as it is in half of the runs.
///
/// Asserts that the loop ends in time and makes progress in every turn, that no page is
/// placed twice, and, for a source that is not hostile, that a guest that runs here has the
/// source's memory in the end.
pub fn received(choices: Choices<'_>) -> Outcome {
    let mut choices = choices.into_owned();
    let is_hostile = choices.one_in(2);
    let setup = guest::setup(&mut choices);
    let (core, stream) = guest::settings(&setup, is_hostile);
    let timeout = Duration::from_secs(if is_hostile { 2 } else { 1000 });
    let options = ReceiveOptions::default()
        .core(core)
        .stream(stream)
        .reconnect_timeout(timeout)
        .recovery_timeout(timeout)
        .accept_unproven_end(is_hostile)
        .peer_user((!is_hostile).then_some(USER));
    let may_go_back = choices.one_in(2);
    let choices_seed = choices.below(256);
    let cuts = choices.below(5);
    let script = Arc::new(Mutex::new(Incoming {
        sender: Sender::new(setup, cuts, is_hostile),
        is_hostile,
        is_reliable: cuts == 0,
        strangers: Vec::new(),
        end: None,
        was_stopped: false,
        choices,
    }));
    let mut guest = Guest::default();
    guest.may_go_back = may_go_back;
    guest.accesses = Choices::seeded(choices_seed);
    let shared = Shared::default();
    let control = Control::with_runtime(shared.runtime(Arc::clone(&script)));
    let control = control.expect("a descriptor");
    shared.net().control = Some(control.clone());
    let result = driver::receive(&mut shared.clone(), &mut guest, options, &control);
    // The control refers to itself through its runtime.
    shared.net().control = None;
    let script = script.lock().expect("the loop has ended");
    script.check(&guest, &result)
}

/// Everything outside of the loop.
struct Incoming {
    sender: Sender,
    is_hostile: bool,
    /// Whether the source's connections never break.
    is_reliable: bool,
    strangers: Vec<usize>,
    /// When everything was closed.
    end: Option<u64>,
    /// Whether the loop had to be stopped long after that.
    was_stopped: bool,
    choices: Choices<'static>,
}

impl Script for Incoming {
    fn events(&mut self, net: &mut Net) -> u64 {
        if self.choices.is_empty() {
            return self.finish(net);
        }
        for _ in 0..self.choices.below(4) {
            self.event(net);
        }
        if self.choices.one_in(32) {
            net.rest();
        }
        match self.is_hostile && self.choices.one_in(16) {
            true => self.choices.below(20 * SECOND),
            false => 0,
        }
    }
}

impl Incoming {
    fn event(&mut self, net: &mut Net) {
        let choices = &mut self.choices;
        match choices.below(8) {
            0 => self.stranger(net),
            1 if self.is_hostile => self.tamper(net),
            2 if self.is_hostile && choices.one_in(64) => net.wish(Control::pause),
            3 if self.is_hostile && choices.one_in(64) => net.wish(Control::stop),
            _ => self.sender.event(net, choices),
        }
    }

    /// A connection that is not the source's.
    fn stranger(&mut self, net: &mut Net) {
        let choices = &mut self.choices;
        let known = choices.pick(&self.strangers);
        match (choices.below(4), known) {
            (0, _) | (_, None) => {
                let Some(id) = net.connect() else { return };
                shape(net, id, choices);
                net.connections[id].is_stranger = !self.is_hostile;
                self.strangers.push(id);
            }
            (1, Some(id)) => {
                net.connections[id].close();
                self.strangers.retain(|other| *other != id);
            }
            (_, Some(id)) => {
                hostile::forward(choices, &mut net.connections[id].inbound);
            }
        }
    }

    /// Changes what the source has sent, or how it behaves.
    fn tamper(&mut self, net: &mut Net) {
        let choices = &mut self.choices;
        let links: Vec<usize> = self.sender.links().collect();
        let Some(id) = choices.pick(&links) else {
            return;
        };
        let one = &mut net.connections[id];
        let at = choices.index(one.inbound.len() + 1);
        match choices.below(8) {
            0 => {
                if let Some(byte) = one.inbound.get_mut(at) {
                    *byte = choices.byte();
                }
            }
            1 => one.inbound.truncate(at),
            2 => {
                let count = choices.index(40).min(at);
                one.inbound.drain(..count);
            }
            // It stops reading, or half-closes.
            3 => one.room = 0,
            4 if choices.one_in(4) => one.ended = true,
            5 if choices.one_in(4) => one.deaf = true,
            _ => {
                hostile::forward(choices, &mut one.inbound);
            }
        }
    }

    /// What happens when there are no more decisions: the source finishes, or everything
    /// closes.
    fn finish(&mut self, net: &mut Net) -> u64 {
        if !self.is_hostile && !self.sender.is_over() {
            self.sender.finish(net, &mut self.choices);
            return 0;
        }
        self.sender.close(net);
        for id in self.strangers.drain(..) {
            net.connections[id].close();
        }
        let end = *self.end.get_or_insert(net.now);
        if net.now - end > END {
            self.was_stopped = true;
            net.wish(Control::stop);
        }
        10 * SECOND
    }

    /// Checks how the loop has ended.
    fn check(&self, guest: &Guest, result: &Result<Destination, RunError>) -> Outcome {
        if self.is_hostile {
            if self.was_stopped {
                assert!(guest.is_fresh, "the loop waits for nothing");
            }
            return match result {
                Ok(core) => done(core.stats().resumes),
                Err(_) => Outcome::Failed,
            };
        }
        match result {
            Ok(core) => {
                assert_eq!(core.phase(), Phase::Finished);
                guest.compare(&self.sender.memory);
                done(core.stats().resumes)
            }
            // A connection broke: the guest is at the source, or everything is here and only SHUT is lost.
            Err(error) => {
                assert!(!self.is_reliable, "strangers ended it: {error}");
                if guest.runs {
                    guest.compare(&self.sender.memory);
                }
                Outcome::Failed
            }
        }
    }
}
