//! A destination at the other end of a serving loop: the destination's core, over
//! simulated connections that break.

use retpath_codec::forward::{Decoded, Decoder, Event, Options};
use retpath_engine::Channel;
use retpath_engine::blocks::Span;
use retpath_engine::destination::{Action, Config, Destination, Phase};
use retpath_engine::driver::{Content, DestinationHandler};

use super::guest::Guest;
use super::net::Net;
use crate::choices::Choices;

pub(super) struct Receiver {
    pub(super) core: Destination,
    pub(super) guest: Guest,
    options: Options,
    /// The decoder of the main channel; its state outlives a lost connection.
    decoder: Option<Decoder>,
    urgent: Option<Decoder>,
    main: Option<usize>,
    preempt: Option<usize>,
    /// Bytes of an incomplete item, by channel.
    left: [Vec<u8>; 2],
    /// Whether the device state is complete but not saved.
    is_unsaved: bool,
    /// Connections whose loss the loop has not noticed.
    lost: Vec<usize>,
    /// Cuts that are left.
    cuts: u64,
    /// Whether the migration has failed here.
    has_failed: bool,
}

impl Receiver {
    pub(super) fn new(core: Config, options: Options, cuts: u64) -> Self {
        Self {
            core: Destination::new(core),
            guest: Guest::default(),
            options,
            decoder: None,
            urgent: None,
            main: None,
            preempt: None,
            left: Default::default(),
            is_unsaved: false,
            lost: Vec::new(),
            cuts,
            has_failed: false,
        }
    }

    /// The main connection.
    pub(super) fn main(&self) -> Option<usize> {
        self.main
    }

    /// Whether nothing is left to do, or nothing can be done.
    pub(super) fn is_over(&self) -> bool {
        self.has_failed || self.core.phase() == Phase::Failed
    }

    /// One event, of those that a destination and its network can cause.
    pub(super) fn event(&mut self, net: &mut Net, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..6 => self.read(net, Channel::Main, choices.index(9000)),
            6..8 => self.read(net, Channel::Preempt, choices.index(9000)),
            8 => self.save(net),
            9..12 => self.touch(net, choices),
            12 if self.guest.runs => self.cut(net, choices),
            14 if choices.one_in(8) => self.cut(net, choices),
            13 => self.notice(net),
            _ => self.accept(net),
        }
    }

    /// What a destination does next over a network that breaks only while there are cuts
    /// left.
    pub(super) fn finish(&mut self, net: &mut Net, choices: &mut Choices<'_>) {
        self.notice(net);
        self.accept(net);
        let links = self.main.into_iter().chain(self.preempt);
        links.for_each(|id| net.widen(id));
        self.read(net, Channel::Main, usize::MAX);
        self.read(net, Channel::Preempt, usize::MAX);
        self.save(net);
        self.touch(net, choices);
        if self.guest.runs && choices.one_in(4) {
            self.cut(net, choices);
        }
    }

    /// Closes every connection.
    pub(super) fn close(&mut self, net: &mut Net) {
        let links = self.main.take().into_iter().chain(self.preempt.take());
        for id in links.chain(std::mem::take(&mut self.lost)) {
            net.connections[id].close();
        }
        while let Some(id) = net.accept() {
            net.connections[id].close();
        }
    }

    fn accept(&mut self, net: &mut Net) {
        let Some(id) = net.accept() else { return };
        if net.connections[id].channel == Some(Channel::Preempt) {
            match self.main {
                Some(_) => self.preempt = Some(id),
                None => net.connections[id].close(),
            }
            return;
        }
        if self.main.is_some() {
            self.drop_links(net);
        }
        if self.is_over() {
            net.connections[id].close();
            return;
        }
        self.decoder = Some(match self.decoder.take() {
            None => Decoder::new(self.options.clone()),
            Some(decoder) => {
                let restored = self.core.link_restored();
                if restored.is_err() {
                    self.has_failed = true;
                    net.connections[id].close();
                    return;
                }
                decoder.resume()
            }
        });
        self.main = Some(id);
        self.speak(net);
    }

    /// Reads up to `count` bytes of a channel.
    fn read(&mut self, net: &mut Net, channel: Channel, count: usize) {
        let (id, number) = match channel {
            Channel::Main => (self.main, 0),
            Channel::Preempt => (self.preempt, 1),
        };
        let Some(id) = id else { return };
        let Some(main) = &self.decoder else { return };
        if channel == Channel::Preempt && !main.is_listening() {
            return;
        }
        let bytes = net.take(id, count);
        self.left[number].extend(bytes);
        let mut input = std::mem::take(&mut self.left[number]);
        let mut decoder = match channel {
            Channel::Main => self.decoder.take(),
            Channel::Preempt => self.urgent.take().or_else(|| Some(main.preempt())),
        };
        let mut done = 0;
        let mut ok = true;
        if let Some(decoder) = &mut decoder {
            ok = loop {
                match decoder.next(&input[done..]) {
                    Ok(Decoded::Event { event, size }) => {
                        done += size;
                        if !self.take(channel, event, net.now) {
                            break false;
                        }
                    }
                    Ok(Decoded::Need(_)) => break true,
                    Err(_) => break false,
                }
            };
        }
        match channel {
            Channel::Main => self.decoder = decoder,
            Channel::Preempt => self.urgent = decoder,
        }
        input.drain(..done);
        self.left[number] = input;
        self.speak(net);
        let one = &net.connections[id];
        let is_closed = one.closed && one.outbound.is_empty();
        if !ok || is_closed && channel == Channel::Main {
            self.drop_links(net);
        } else if is_closed {
            self.preempt = None;
        }
    }

    /// Handles an event; returns whether the stream can go on.
    fn take(&mut self, channel: Channel, event: Event<'_>, now: u64) -> bool {
        if channel == Channel::Main {
            let taken = self.guest.event(&event);
            taken.expect("the guest takes everything");
        }
        let placement = match self.core.event(channel, event, now) {
            Ok(placement) => placement,
            Err(_) => return false,
        };
        let placed = placement.map(|pages| {
            let content = pages.content;
            let got = self.guest.page(pages.block, pages.offset, content);
            got.expect("the guest takes everything");
            let len = match content {
                Content::Data(data) => u64::try_from(data.len()).expect("fits in u64"),
                Content::Zero(len) => len,
            };
            let (block, offset) = (pages.block, pages.offset);
            (pages.atomic, Span { block, offset, len })
        });
        if let Some((true, span)) = placed
            && let Err(error) = self.core.placed(channel, span, 0, now)
        {
            panic!("a page was handed out: {error}");
        }
        self.act();
        true
    }

    fn act(&mut self) {
        while let Some(action) = self.core.poll() {
            match action {
                Action::Block { id } => {
                    let block = self.core.blocks().block(id).expect("was announced");
                    let memory = self.guest.memory(block, self.core.blocks().target());
                    memory.expect("the guest takes everything");
                }
                Action::Run => self.guest.run(),
                Action::DeviceStateComplete => self.is_unsaved = true,
                Action::Discard { .. } | Action::Listen | Action::Finished(_) => {}
                Action::Complete(_) => panic!("confirmation was not configured"),
            }
        }
    }

    fn save(&mut self, net: &mut Net) {
        if std::mem::take(&mut self.is_unsaved) {
            let saved = self.core.device_state_saved();
            assert!(saved.is_ok() || self.is_over(), "{saved:?}");
            self.act();
            self.speak(net);
        }
    }

    /// Lets a guest thread access its memory.
    fn touch(&mut self, net: &mut Net, choices: &mut Choices<'_>) {
        if !self.guest.runs || self.core.phase() == Phase::Failed {
            return;
        }
        let id = choices.index(self.core.blocks().len());
        let len = self.core.blocks().block(id).expect("block exists").len;
        let _ = self.core.fault(id, choices.below(len), net.now);
        self.speak(net);
    }

    /// Writes the return path.
    fn speak(&mut self, net: &mut Net) {
        while !self.core.outbox().is_empty() {
            let bytes = std::mem::take(self.core.outbox());
            if let Some(id) = self.main {
                net.connections[id].inbound.extend(bytes);
            }
        }
        self.core.written(net.now);
    }

    /// Breaks the connections in one of several ways, while there are cuts left.
    fn cut(&mut self, net: &mut Net, choices: &mut Choices<'_>) {
        if self.cuts == 0 || self.main.is_none() {
            return;
        }
        self.cuts -= 1;
        let links: Vec<usize> = self.main.iter().chain(&self.preempt).copied().collect();
        for id in links {
            let one = &mut net.connections[id];
            let lost = choices.index(one.inbound.len() + 1);
            match choices.below(4) {
                0 => one.close(),
                1 => one.reset(),
                2 => {
                    one.inbound.truncate(lost);
                    one.close();
                }
                _ => {
                    one.deaf = true;
                    self.lost.push(id);
                }
            }
        }
        self.lose();
    }

    fn notice(&mut self, net: &mut Net) {
        if let Some(id) = self.lost.pop() {
            net.connections[id].close();
        }
    }

    /// Closes the connections that are in use.
    fn drop_links(&mut self, net: &mut Net) {
        for id in self.main.iter().chain(&self.preempt) {
            net.connections[*id].close();
        }
        self.lose();
    }

    fn lose(&mut self) {
        (self.main, self.preempt, self.urgent) = (None, None, None);
        self.left = Default::default();
        for channel in [Channel::Main, Channel::Preempt] {
            let lost = self.core.link_lost(channel);
            self.has_failed |= lost.is_err();
        }
        self.act();
    }
}
