//! The destination's side of the link: decodes bytes that arrive and applies them.

use std::mem;

use retpath_codec::BlockName;
use retpath_codec::forward::{Decoded, Decoder, Event, Options};

use super::{Link, Setup, Wire, at};
use retpath_engine::Channel;
use retpath_engine::blocks::{BlockId, Blocks, Span};
use retpath_engine::destination::{Action, Content, PageState, Phase};

/// Decoders and incomplete items of each wire.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The main decoder; `None` only while it is in use.
    main: Option<Decoder>,
    preempt: Option<Decoder>,
    left: [Vec<u8>; 2],
    boundaries: [Vec<usize>; 3],
    /// Whether the device state is complete but not saved.
    pub(super) unsaved: bool,
}

impl Receiver {
    pub(super) fn new(setup: &Setup, blocks: &Blocks) -> Self {
        let smallest = blocks.iter().map(|block| block.page).min();
        Self {
            main: Some(Decoder::new(
                Options::default()
                    .target_page(setup.target)
                    .host_page(smallest.unwrap_or(setup.target)),
            )),
            preempt: None,
            left: Default::default(),
            boundaries: Default::default(),
            unsaved: false,
        }
    }

    pub(super) fn cut(&mut self) {
        self.main = self.main.as_ref().map(Decoder::resume);
        self.preempt = None;
        self.left = Default::default();
        self.boundaries = Default::default();
    }

    pub(super) fn boundaries(&self, wire: Wire) -> &[usize] {
        &self.boundaries[at(wire)]
    }

    pub(super) fn note(&mut self, wire: Wire, end: usize) {
        self.boundaries[at(wire)].push(end);
    }
}

impl Link {
    /// Delivers up to `count` bytes of a wire and returns their number.
    pub fn deliver(&mut self, wire: Wire, count: usize) -> usize {
        // The destination reads the preempt channel from LISTEN on.
        let main = self.receiver.main.as_ref();
        if wire == Wire::Preempt && !main.is_some_and(Decoder::is_listening) {
            return 0;
        }
        let flight = &mut self.wires[at(wire)];
        let rest = flight.split_off(count.min(flight.len()));
        let bytes = mem::replace(flight, rest);
        if bytes.is_empty() {
            return 0;
        }
        self.delivered[at(wire)] += bytes.len();
        match wire {
            Wire::Main => self.take(Channel::Main, &bytes),
            Wire::Preempt => self.take(Channel::Preempt, &bytes),
            Wire::Back => self.hear(&bytes),
        }
        bytes.len()
    }

    /// Delivers bytes of a channel to the destination.
    fn take(&mut self, channel: Channel, bytes: &[u8]) {
        let wire = match channel {
            Channel::Main => Wire::Main,
            Channel::Preempt => Wire::Preempt,
        };
        let mut input = mem::take(&mut self.receiver.left[at(wire)]);
        input.extend_from_slice(bytes);
        let main = self.receiver.main.take().expect("decoder is not in use");
        let preempt = self.receiver.preempt.take();
        let (mut decoder, other) = match channel {
            Channel::Main => (main, preempt),
            Channel::Preempt => (preempt.unwrap_or_else(|| main.preempt()), Some(main)),
        };
        let mut done = 0;
        while let Decoded::Event { event, size } =
            decoder.next(&input[done..]).expect("valid stream")
        {
            done += size;
            self.event(channel, event);
            let end = usize::try_from(decoder.offset()).expect("fits in usize");
            self.receiver.note(wire, end);
        }
        input.drain(..done);
        self.receiver.left[at(wire)] = input;
        (self.receiver.main, self.receiver.preempt) = match channel {
            Channel::Main => (Some(decoder), other),
            Channel::Preempt => (other, Some(decoder)),
        };
        self.speak();
    }

    fn event(&mut self, channel: Channel, event: Event<'_>) {
        let placement = self.destination.event(channel, event, self.now);
        let placement = placement.expect("valid event").map(|placement| {
            let data = match placement.content {
                Content::Data(data) => data.to_vec(),
                Content::Zero(len) => vec![0; usize::try_from(len).expect("fits in usize")],
            };
            (placement.block, placement.offset, data, placement.atomic)
        });
        self.act();
        let target = self.setup.target;
        let chunk = usize::try_from(target).expect("fits in usize");
        match placement {
            None => {}
            Some((block, offset, data, false)) => self.guest.write(block, offset, &data),
            Some((block, offset, data, true)) => {
                let parts = (offset..).step_by(chunk).zip(data.chunks(chunk));
                for (at, page) in parts {
                    self.guest.place(block, at, page);
                }
                let len = u64::try_from(data.len()).expect("fits in u64");
                let span = Span { block, offset, len };
                let placed = self.destination.placed(channel, span, 0, self.now);
                placed.expect("page was handed out");
                self.act();
            }
        }
    }

    /// Carries out the destination's actions.
    fn act(&mut self) {
        while let Some(action) = self.destination.poll() {
            match action {
                Action::Block { id } => {
                    let theirs = self
                        .destination
                        .blocks()
                        .block(id)
                        .expect("block was announced");
                    let ours = self.blocks.block(id).expect("block exists at the source");
                    assert_eq!(theirs, ours, "{}", ours.name.name());
                }
                Action::Discard(span) => self.guest.discard(span.block, span.offset, span.len),
                Action::Listen => self.guest.listen(),
                Action::Run => {
                    assert!(self.source.guest_left(), "guest runs on both sides");
                    self.guest.run();
                }
                Action::DeviceStateComplete => self.receiver.unsaved = true,
                Action::Complete(_) => panic!("confirmation was not configured"),
                Action::Finished(_) => {
                    let phase = self.destination.phase();
                    assert_eq!(phase, Phase::Finished);
                }
            }
        }
    }

    /// Reports the device state as saved. Returns whether it was unsaved.
    pub fn save(&mut self) -> bool {
        let unsaved = mem::take(&mut self.receiver.unsaved);
        if unsaved {
            self.destination
                .device_state_saved()
                .expect("device state is complete");
            self.act();
            self.speak();
        }
        unsaved
    }

    /// Lets a guest thread access an offset, if the guest runs.
    pub fn touch(&mut self, block: BlockId, offset: u64) {
        if !self.guest.runs() {
            return;
        }
        let target = self.setup.target;
        let page = offset / target * target;
        match self.destination.fault(block, offset, self.now) {
            Ok(PageState::Present) => assert!(self.guest.page(block, page).is_some()),
            Ok(PageState::Missing | PageState::Requested) => {
                assert!(self.guest.page(block, page).is_none());
                self.guest.wait(block, page);
            }
            Err(error) => panic!("{error}"),
        }
        self.speak();
    }

    /// Number of guest threads that wait for pages.
    pub fn waiting(&self) -> usize {
        self.guest.waits()
    }

    /// Puts the destination's messages on the return path.
    fn speak(&mut self) {
        loop {
            let out = self.destination.outbox();
            if out.is_empty() {
                break;
            }
            let bytes = mem::take(out);
            if self.up {
                self.wires[at(Wire::Back)].extend_from_slice(&bytes);
            }
        }
        self.destination.written(self.now);
    }

    /// Reports the loss of the link to the destination.
    pub(super) fn lose_destination(&mut self) {
        let runs = self.guest.runs();
        for channel in [Channel::Main, Channel::Preempt] {
            let lost = self.destination.link_lost(channel);
            assert!(lost.is_ok() || !runs, "{lost:?}");
        }
        self.act();
        self.speak();
    }
}
