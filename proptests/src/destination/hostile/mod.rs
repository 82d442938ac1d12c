//! Drives the destination core with a hostile source and a careless caller.
//!
//! Events have any kind and values, and calls come in any order. There is no
//! model: the harness checks the guarantees of [`retpath_engine::destination`].

mod generate;

use std::collections::{BTreeSet, HashSet};

use retpath_codec::command::{Command, Commands, RangeBuf};
use retpath_codec::forward::{BlockIndex, Event, ram::Record};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{Decoded, Encode, Message, Name, Qemu, decode};

use crate::choices::Choices;
use retpath_engine::Channel::{self, Main, Preempt};
use retpath_engine::blocks::Span;
use retpath_engine::destination::{Action, Blame, Config, Destination, Ending, Error, Phase};

const NAMES: [&[u8]; 4] = [b"pc.ram", b"rom", b"huge", b"\xff"];

/// Usual target page size in bytes: the smallest valid one.
const PAGE: u64 = 1024;

/// Valid and invalid page sizes.
const SIZES: [u64; 8] = [PAGE, PAGE, PAGE, 4 * PAGE, 16 * PAGE, 0, 1, 1 << 32];

/// Maximum RAM of a test, in bytes.
const RAM: u64 = 128 * PAGE;

/// A page: block and offset.
type Page = (usize, u64);

struct Harness {
    core: Destination,
    now: u64,
    preempt: bool,
    confirm_end: bool,
    give_back: bool,
    /// Whether [`Action::Complete`] was returned.
    complete: bool,
    /// Whether the caller confirmed it.
    confirmed: bool,
    /// Phases reached.
    seen: HashSet<Phase>,
    /// Host pages handed out but not placed, and whether on the preempt channel.
    handed: BTreeSet<(Page, bool)>,
    placed: BTreeSet<Page>,
    /// Decoder of this link's return path.
    path: Stream<Qemu>,
    asked: BTreeSet<Page>,
    named: Option<usize>,
}

/// Checks that no source or caller input violates a guarantee, and returns the
/// phases reached.
pub fn hostile(choices: &mut Choices<'_>) -> HashSet<Phase> {
    let mut harness = Harness::new(choices);
    if choices.one_in(2) {
        harness.start(choices);
    }
    for _ in 0..500 {
        harness.step(choices);
        if choices.is_empty() {
            break;
        }
    }
    harness.seen
}

impl Harness {
    fn new(choices: &mut Choices<'_>) -> Self {
        let target_page = if choices.one_in(8) {
            SIZES[choices.index(SIZES.len())]
        } else {
            PAGE
        };
        let mut page_sizes = Vec::new();
        for _ in 0..choices.below(3) {
            let page = SIZES[choices.index(SIZES.len())];
            page_sizes.push((generate::name(choices).to_buf(), page));
        }
        let preempt = choices.one_in(2);
        let config = Config::default()
            .preempt(preempt)
            .switchover_ack(choices.one_in(2))
            .detect_switchover_ack(choices.one_in(2))
            .accept_precopy_end(choices.one_in(2))
            .target_page(target_page)
            .host_page(if choices.one_in(8) { 4 * PAGE } else { PAGE })
            .page_sizes(page_sizes)
            .max_ram(RAM)
            .confirm_end(choices.one_in(2))
            .give_back(choices.one_in(2));
        let (confirm_end, give_back) = (config.confirm_end, config.give_back);
        Self {
            core: Destination::new(config),
            now: 0,
            preempt,
            confirm_end,
            give_back,
            complete: false,
            confirmed: false,
            seen: HashSet::from([Phase::Fresh]),
            handed: BTreeSet::new(),
            placed: BTreeSet::new(),
            path: Stream::new(u64::MAX),
            asked: BTreeSet::new(),
            named: None,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        self.now += 1000;
        let was = self.core.phase();
        let got = self.call(choices);
        let phase = self.core.phase();
        if phase != was {
            self.seen.insert(phase);
        }
        if let Err(error) = &got {
            // Unit tests compare the texts; here, formatting must not panic for any value.
            let _ = error.to_string();
            if error.kind.blame() == Blame::Caller {
                assert_eq!(phase, was, "{error}");
            }
        }
        if was == Phase::Failed {
            assert_eq!(phase, was);
        }
        if was == Phase::Finished && phase != was {
            assert_eq!(phase, Phase::Recovering, "{got:?}");
        }
        let lost = phase == Phase::Paused || phase == Phase::Recovering && was != phase;
        if lost {
            self.path = Stream::new(u64::MAX);
            self.asked.clear();
            self.named = None;
        }
        let runs = was == Phase::Running || was.is_recoverable();
        if phase == Phase::Paused && was != phase && !runs {
            // The source still has the guest, and will send every page again.
            assert!(self.give_back, "paused in {was}");
            self.placed.clear();
        }
        let after = choices.byte();
        if after.is_multiple_of(2) || lost {
            self.read_return_path();
        }
        self.act_all();
        if after.is_multiple_of(3) {
            self.place_all();
        }
        let pages = self.core.pages();
        assert!(pages.memory() <= 1 << 20, "{} bytes", pages.memory());
    }

    fn confirm(&mut self) -> Result<(), Error> {
        let got = self.core.confirm();
        match &got {
            Ok(()) => assert!(
                self.complete || !self.confirm_end,
                "confirmed before completion"
            ),
            Err(error) => assert_eq!(error.kind.blame(), Blame::Caller),
        }
        self.confirmed |= self.complete;
        got
    }

    fn command(&mut self, command: Command<Name<'_>, RangeBuf>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes).expect("command is valid");
        let Ok(Decoded::Message { message, .. }) = decode::<Commands>(&bytes) else {
            panic!("{command:?} is encoded as {bytes:02x?}");
        };
        self.event(Main, Event::Command(message))
    }

    fn block(
        &mut self,
        number: u64,
        name: &[u8],
        len: u64,
        page_size: Option<u64>,
    ) -> Result<(), Error> {
        let record = Record::Block {
            block: BlockIndex::new(u32::try_from(number).expect("fits in u32")),
            name: Name::new(name).expect("valid name"),
            len,
            page_size,
            gpa: None,
        };
        self.event(Main, Event::Record(record))
    }

    fn event(&mut self, channel: Channel, event: Event<'_>) -> Result<(), Error> {
        let preempt = channel == Preempt;
        let Some(placement) = self.core.event(channel, event, self.now)? else {
            self.seen.insert(self.core.phase());
            return Ok(());
        };
        let (span, live) = (placement.span(), placement.atomic);
        self.assert_inside(span, live);
        if live {
            assert!(self.preempt || !preempt);
            self.hand_out(span, preempt);
        } else {
            assert!(self.core.phase().is_precopy() && !preempt);
        }
        Ok(())
    }

    /// Checks that a range to be placed consists of whole pages of its block.
    fn assert_inside(&self, span: Span, live: bool) {
        let Span { block, offset, len } = span;
        let blocks = self.core.blocks();
        let page = match blocks.block(block) {
            Ok(block) if live => block.page,
            Ok(_) => blocks.target(),
            Err(error) => panic!("{error}"),
        };
        assert!(blocks.check(block, offset, len, page).is_ok());
    }

    /// Checks that a page is handed out only once.
    fn hand_out(&mut self, span: Span, preempt: bool) {
        let block = span.block;
        let page = self.core.blocks().block(block).expect("block exists").page;
        let step = usize::try_from(page).expect("fits in usize");
        for at in (span.offset..span.end()).step_by(step) {
            let page = (block, at);
            assert!(
                !self.placed.contains(&page),
                "{page:?} is handed out after placement"
            );
            assert!(!self.handed.contains(&(page, false)), "{page:?}");
            assert!(!self.handed.contains(&(page, true)), "{page:?}");
            self.handed.insert((page, preempt));
        }
    }

    fn run(&mut self, channel: Channel, block: usize, offset: u64, len: u64) -> Result<(), Error> {
        let span = Span { block, offset, len };
        self.core.run_of_pages(channel, span, self.now)?;
        self.assert_inside(span, true);
        self.hand_out(span, channel == Preempt);
        Ok(())
    }

    fn placed(
        &mut self,
        channel: Channel,
        block: usize,
        offset: u64,
        len: u64,
    ) -> Result<(), Error> {
        let present = if self.now.is_multiple_of(7) { len } else { 0 };
        let span = Span { block, offset, len };
        let got = self.core.placed(channel, span, present, self.now);
        // A peer error reports missing pages; the placement itself succeeded.
        if got.as_ref().is_err_and(|e| e.kind.blame() == Blame::Caller) {
            return got;
        }
        let page = self
            .core
            .blocks()
            .block(block)
            .expect("page was handed out")
            .page;
        let step = usize::try_from(page).expect("fits in usize");
        for at in (offset..offset + len).step_by(step) {
            let known = self.handed.remove(&((block, at), channel == Preempt));
            assert!(known, "{at:#x} was not handed out");
            self.placed.insert((block, at));
        }
        got
    }

    fn place_all(&mut self) {
        for ((block, at), preempt) in self.handed.clone() {
            let page = self
                .core
                .blocks()
                .block(block)
                .expect("page was handed out")
                .page;
            let channel = if preempt { Preempt } else { Main };
            // Valid only in order from the start of a run.
            let _ = self.placed(channel, block, at, page);
        }
    }

    /// Drops the pages in flight on a channel.
    fn forget(&mut self, channel: Channel) {
        self.handed
            .retain(|(_, preempt)| *preempt != (channel == Preempt));
    }

    fn act_all(&mut self) {
        while let Some(action) = self.core.poll() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Block { id } => assert!(self.core.blocks().block(id).is_ok()),
            Action::Discard(span) => self.assert_inside(span, true),
            Action::Listen | Action::Run | Action::DeviceStateComplete => {}
            Action::Complete(_) => {
                assert!(self.confirm_end && !self.complete);
                assert!(self.handed.is_empty());
                self.complete = true;
            }
            Action::Finished(ending) => {
                assert!(!self.core.phase().is_live());
                assert_eq!(self.confirmed, self.confirm_end);
                assert!(ending == Ending::Precopy || self.core.pages().missing() == 0);
            }
        }
    }

    /// Decodes the return path and checks that requests lie inside their blocks.
    fn read_return_path(&mut self) {
        let mut bytes = Vec::new();
        while !self.core.outbox().is_empty() {
            bytes.append(self.core.outbox());
        }
        let mut input = bytes.as_slice();
        while let Some(item) = self.path.next(&mut input).expect("valid return path") {
            let (block, start, len) = match item {
                Item::Message {
                    message: Message::ReqPagesId { start, len, block },
                    ..
                } => (self.core.blocks().find(block), start, len),
                Item::Message {
                    message: Message::ReqPages { start, len },
                    ..
                } => (self.named, start, len),
                _ => continue,
            };
            let id = block.expect("block exists");
            self.named = Some(id);
            let page = self.core.blocks().block(id).expect("block exists").page;
            assert_eq!(u64::from(len), page);
            let inside = self.core.blocks().check(id, start, page, page);
            assert!(inside.is_ok());
            assert!(
                self.asked.insert((id, start)),
                "{start:#x} is requested twice"
            );
        }
        assert_eq!(self.path.finish(), Ok(()));
    }
}
