//! The loop of a source, with a destination and a network that breaks.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use retpath_engine::Channel;
use retpath_engine::blocks::BlockId;
use retpath_engine::driver::{self, Control, HandlerError, RunError, ServeOptions, SourceHandler};
use retpath_engine::socket::{ChannelError, Link};
use retpath_engine::source::{PageSource, Source, SourcePhase};

use super::guest;
use super::net::{Net, Script, Shared};
use super::receiver::Receiver;
use super::sender::shape;
use super::{END, Outcome, SECOND, done, hostile};
use crate::choices::Choices;

/// Interprets `bytes` as a migration from a serving loop, and the events around it.
pub fn serve(bytes: &[u8]) {
    served(Choices::from_bytes(bytes));
}

/// Serves a migration to a destination whose connections break, and returns the outcome.
/// In half of the runs the destination says anything.
///
/// Asserts that the loop ends in time and makes progress in every turn, and, for a
/// destination that is not hostile, that it receives each page once, completes with the
/// source's memory, and never runs the guest while the source may run it, too.
pub fn served(choices: Choices<'_>) -> Outcome {
    let mut choices = choices.into_owned();
    let is_hostile = choices.one_in(2);
    let setup = guest::setup(&mut choices);
    let (config, stream) = guest::settings(&setup, false);
    let blocks = setup.layout();
    let mut machine = Machine {
        ram: Ram {
            bytes: setup.blocks.into_iter().map(|(_, _, ram)| ram).collect(),
            is_still: false,
        },
        device_state: setup.device_state,
        turns: choices.below(8),
        choices: Choices::seeded(choices.below(256)),
    };
    let mut source = setup.config;
    source.host_page = config.host_page;
    let mut core = Source::new(source, blocks).expect("valid setup");
    let options = ServeOptions::default()
        .reconnect_timeout(Duration::from_secs(if is_hostile { 2 } else { 1000 }))
        .connect_timeout(Duration::from_secs(choices.below(2)))
        .stall_timeout((is_hostile && choices.one_in(2)).then_some(Duration::from_secs(5)));
    let cuts = choices.below(5);
    // A queue of one length is never short: runs of zeros are written together.
    let options = match cuts % 2 {
        0 => options,
        _ => options.send_queue(1..=1),
    };
    let script = Arc::new(Mutex::new(Outgoing {
        receiver: Receiver::new(config, stream, cuts),
        is_hostile,
        end: None,
        choices,
    }));
    let shared = Shared::default();
    let control = Control::with_runtime(shared.runtime(Arc::clone(&script)));
    let control = control.expect("a descriptor");
    shared.net().control = Some(control.clone());
    let mut connect = |channel| {
        let mut script = script.lock().expect("the loop is not polling");
        script.connect(&shared, channel)
    };
    let result = driver::serve(&mut core, &mut machine, &mut connect, &options, &control);
    // The control refers to itself through its runtime.
    shared.net().control = None;
    let mut script = script.lock().expect("the loop has ended");
    script.check(&mut shared.net(), &core, &machine, &result)
}

/// Everything outside of the loop.
struct Outgoing {
    receiver: Receiver,
    is_hostile: bool,
    /// When everything was closed.
    end: Option<u64>,
    choices: Choices<'static>,
}

impl Script for Outgoing {
    fn events(&mut self, net: &mut Net) -> u64 {
        if self.choices.is_empty() {
            return self.finish(net);
        }
        for _ in 0..self.choices.below(4) {
            let choices = &mut self.choices;
            match choices.below(8) {
                0 | 1 if self.is_hostile => self.tamper(net),
                2 if self.is_hostile && choices.one_in(64) => net.wish(Control::pause),
                3 if self.is_hostile && choices.one_in(64) => net.wish(Control::stop),
                _ => self.receiver.event(net, choices),
            }
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

impl Outgoing {
    /// Whether the destination accepts no more connections.
    fn is_closed(&self) -> bool {
        let is_over = self.choices.is_empty() && self.is_hostile;
        is_over || self.receiver.is_over()
    }

    fn connect(&mut self, shared: &Shared, channel: Channel) -> Result<Link, ChannelError> {
        let mut net = shared.net();
        let refuses = self.choices.one_in(8) && !self.choices.is_empty();
        let id = match self.is_closed() || refuses {
            true => None,
            false => net.connect(),
        };
        let Some(id) = id else {
            return Err(ChannelError::Io {
                what: "cannot connect to",
                address: "the simulation".into(),
                error: io::ErrorKind::ConnectionRefused.into(),
            });
        };
        shape(&mut net, id, &mut self.choices);
        net.connections[id].channel = Some(channel);
        drop(net);
        Ok(shared.link(id))
    }

    /// Changes what the destination has said, or how it behaves.
    fn tamper(&mut self, net: &mut Net) {
        let Some(id) = self.receiver.main() else {
            return;
        };
        let choices = &mut self.choices;
        let one = &mut net.connections[id];
        let at = choices.index(one.inbound.len() + 1);
        match choices.below(12) {
            0 => {
                if let Some(byte) = one.inbound.get_mut(at) {
                    *byte = choices.byte();
                }
            }
            1 => one.inbound.truncate(at),
            // It stops reading, or half-closes.
            2 => one.room = 0,
            3 if choices.one_in(4) => one.ended = true,
            4 if choices.one_in(4) => one.deaf = true,
            _ => {
                hostile::back(choices, &mut one.inbound);
            }
        }
    }

    /// What happens when there are no more decisions: the destination finishes, or
    /// everything closes.
    fn finish(&mut self, net: &mut Net) -> u64 {
        if !self.is_closed() {
            self.receiver.finish(net, &mut self.choices);
            return 0;
        }
        self.receiver.close(net);
        let end = *self.end.get_or_insert(net.now);
        assert!(net.now - end <= 20 * END, "the loop waits for nothing");
        10 * SECOND
    }

    /// Checks how the loop has ended.
    fn check(
        &mut self,
        net: &mut Net,
        core: &Source,
        machine: &Machine,
        result: &Result<(), RunError>,
    ) -> Outcome {
        if self.is_hostile {
            return match result {
                Ok(()) => done(core.stats().resumes),
                Err(_) => Outcome::Failed,
            };
        }
        let receiver = &mut self.receiver;
        match result {
            Ok(()) => {
                assert_eq!(core.phase(), SourcePhase::Completed);
                receiver.finish(net, &mut self.choices);
                receiver.guest.compare(&machine.ram.bytes);
                done(core.stats().resumes)
            }
            Err(error) => {
                assert!(!receiver.guest.runs, "the running guest is lost: {error}");
                Outcome::Failed
            }
        }
    }
}

/// The machine that is migrated.
struct Machine {
    ram: Ram,
    device_state: Vec<u8>,
    /// Turns until the switch.
    turns: u64,
    choices: Choices<'static>,
}

struct Ram {
    bytes: Vec<Vec<u8>>,
    /// Whether it no longer changes.
    is_still: bool,
}

impl PageSource for Ram {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(block, offset, out)
    }

    fn lend(&self, block: BlockId, offset: u64, len: usize) -> Option<&[u8]> {
        match self.is_still {
            true => self.bytes.lend(block, offset, len),
            false => None,
        }
    }
}

impl SourceHandler for Machine {
    fn pages(&self) -> &dyn PageSource {
        &self.ram
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        if core.phase() != SourcePhase::Precopy {
            return Ok(());
        }
        if self.turns > 0 {
            self.turns -= 1;
            let block = self.choices.index(self.ram.bytes.len());
            let at = self.choices.index(self.ram.bytes[block].len());
            self.ram.bytes[block][at] = self.choices.byte();
            let offset = u64::try_from(at).expect("fits in u64");
            core.mark_dirty(block, offset, 1)?;
        } else if core.is_ready_to_switch() {
            self.ram.is_still = true;
            core.switch(self.device_state.clone())?;
        }
        Ok(())
    }
}
