//! Hostile destinations: no panic, no hang, and memory bounded by the blocks.

use std::collections::{HashMap, HashSet};

use retpath_codec::bitmap::Bitmap;
use retpath_codec::stream::Item;
use retpath_codec::wire::value::PING_PACKAGE_LOADED;
use retpath_codec::{BlockName, Message, Name, NameBuf};
use retpath_engine::Channel;

use retpath_engine::source::{Config, Next, Preempt, Source, SourcePhase};
use retpath_proptests::Choices;
use retpath_proptests::source::blocks;
use retpath_proptests::source::rig::Rig;

/// 2^21 pages of 4 KiB: 8 GiB.
const PAGES: u64 = 1 << 21;

/// Three bits for each page, and 16 MiB.
const LAW: usize = PAGES as usize / 8 * 3 + (16 << 20);

fn vast(preempt: Option<Preempt>) -> Source {
    let config = Config::new("pc-i440fx-10.0").preempt(preempt);
    Source::new(config, blocks(&[(PAGES, 4096)])).expect("valid configuration")
}

/// Takes a source to precopy.
fn start(source: &mut Source, out: &mut Vec<u8>) {
    let pong = Item::Message {
        offset: 0,
        message: Message::Pong { value: 1 },
    };
    assert_eq!(source.next(Channel::Main, 0, out), Next::Write);
    source.message(pong, 0).expect("valid answer");
}

/// Sends everything in precopy and dirties every second page.
pub(super) fn dirty_every_second_page(source: &mut Source, pages: u64) {
    while source.remaining() > 0 {
        let _ = source.next(Channel::Main, 0, &mut Vec::new());
    }
    for page in (1..pages).step_by(2) {
        source.mark_dirty(0, page * 4096, 4096).expect("a page");
    }
}

/// Takes a source from precopy to the end of the package.
fn switch(source: &mut Source, out: &mut Vec<u8>) -> usize {
    let mut most = 0;
    source.switch(Vec::new()).expect("in precopy");
    while source.phase() == SourcePhase::Switching {
        if source.next(Channel::Main, 0, out) == Next::Connect {
            source.preempt_connected(0).expect("wanted");
        }
        most = most.max(source.memory() + out.capacity());
        out.clear();
    }
    most
}

#[test]
fn memory_is_bounded_with_the_longest_discard_list() {
    let mut source = vast(None);
    let mut out = Vec::new();
    start(&mut source, &mut out);
    dirty_every_second_page(&mut source, PAGES);
    let most = switch(&mut source, &mut out);
    assert!(most < LAW, "{most} bytes");
    assert_eq!(source.stats().discarded, PAGES / 2);
}

#[test]
fn memory_is_bounded_under_a_flood_of_requests() {
    for preempt in [None, Some(Preempt::Late)] {
        let mut source = vast(preempt);
        let mut out = Vec::new();
        start(&mut source, &mut out);
        switch(&mut source, &mut out);
        let name = NameBuf::new("pc.ram").expect("valid name");
        let mut seed = Choices::seeded(5);
        for i in 0..100_000 {
            let start = seed.below(PAGES);
            let len = 1 << seed.below(13).saturating_sub(4);
            let message = Message::ReqPagesId {
                start: start * 4096,
                len: (len.min(PAGES - start) * 4096) as u32,
                block: name.name(),
            };
            source
                .message(Item::Message { offset: i, message }, i)
                .expect("valid requests");
        }
        assert!(source.memory() < LAW, "{} bytes", source.memory());
        let wanted = source.waiting();
        assert!(wanted > 200_000);
        // All of them are served before the sweep.
        let (mut served, mut out) = (0, Vec::new());
        let channel = if preempt.is_some() {
            Channel::Preempt
        } else {
            Channel::Main
        };
        while let Next::Urgent(run) = source.next(channel, 0, &mut out) {
            served += run.len / 4096;
        }
        assert_eq!(served, wanted);
        assert_eq!(source.waiting(), 0);
        assert!(source.memory() < LAW);
    }
}

#[test]
fn memory_is_bounded_in_a_recovery() {
    let mut source = vast(None);
    let mut out = Vec::new();
    start(&mut source, &mut out);
    switch(&mut source, &mut out);
    while matches!(source.next(Channel::Main, 0, &mut out), Next::Sweep(_)) {}
    for round in 0..5 {
        source.link_lost().expect("recoverable");
        source.resume(0).expect("paused");
        assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
        let name = NameBuf::new("pc.ram").expect("valid name");
        let message = Message::RecvBitmap { block: name.name() };
        source
            .message(Item::Message { offset: 0, message }, 0)
            .expect("requested");
        assert_eq!(source.recv_bitmap_limit(), PAGES / 8);
        let bits = vec![0x55; PAGES as usize / 8];
        let bitmap = Bitmap::new(&bits);
        source
            .message(Item::Bitmap { offset: 0, bitmap }, 0)
            .expect("valid bitmap");
        assert_eq!(source.remaining(), PAGES / 2 * 4096);
        assert!(
            source.memory() < LAW,
            "round {round}: {} bytes",
            source.memory()
        );
    }
}

/// Any message, valid or not.
fn any<'a>(seed: &mut Choices<'_>, names: &'a [NameBuf]) -> Message<Name<'a>> {
    let block = names[seed.below(names.len() as u64) as usize].name();
    let odd = seed.below(8) == 0;
    let start = if odd {
        seed.any()
    } else {
        seed.below(20) * 4096
    };
    let len = if odd {
        seed.any() as u32
    } else {
        4096 << seed.below(5)
    };
    match seed.below(12) {
        0 => Message::Shut {
            value: seed.below(2) as u32,
        },
        1 => Message::Pong {
            value: [1, 2, 3, 4, PING_PACKAGE_LOADED, 9][seed.below(6) as usize],
        },
        2..6 => Message::ReqPagesId { start, len, block },
        6..8 => Message::ReqPages { start, len },
        8..10 => Message::RecvBitmap { block },
        10 => Message::ResumeAck,
        _ => Message::SwitchoverAck,
    }
}

/// The bitmap of a destination that has received everything that was sent, or nothing.
fn sent(source: &Source, id: usize, lossy: bool) -> Vec<u8> {
    let mut bits = vec![0; source.recv_bitmap_limit() as usize];
    let pages = source.blocks().target_pages(id);
    for page in (0..pages).filter(|page| !lossy && source.is_sent(id, page * 4096)) {
        bits[page as usize / 8] |= 1 << (page % 8);
    }
    bits
}

fn honest(source: &mut Source, message: Message<Name<'_>>) {
    source
        .message(Item::Message { offset: 0, message }, 0)
        .expect("awaited");
}

/// Calls everything in any order; returns the phases that the source reached.
fn abuse(seed: u64) -> HashSet<SourcePhase> {
    let mut seed = Choices::seeded(seed);
    let switchover_ack = seed.below(2) == 0;
    let config = Config::new("pc-i440fx-10.0")
        .preempt([None, Some(Preempt::Late), Some(Preempt::Early)][seed.below(3) as usize])
        .ping_loaded(seed.below(2) == 0)
        .switchover_ack(switchover_ack)
        .bandwidth([0, 1 << 20][seed.below(2) as usize])
        .run(4096 << seed.below(5));
    let sizes = [(20, 4096), (3, 65536), (1, 1 << 20)];
    let mut rig = Rig::new(config, &sizes);
    let mut names: Vec<NameBuf> = (0..3).map(|id| rig.name(id)).collect();
    names.push(NameBuf::new("pc.rom").expect("valid name"));
    let mut now = 0;
    let mut out = Vec::new();
    // A destination that is hostile from the start does not get far.
    let wild = seed.below(40);
    if seed.below(4) > 0 {
        while rig.source.phase() != SourcePhase::Precopy {
            let _ = rig.source.next(Channel::Main, now, &mut out);
        }
        honest(&mut rig.source, Message::Pong { value: 1 });
        if switchover_ack {
            honest(&mut rig.source, Message::SwitchoverAck);
        }
        rig.source.switch(vec![0; 5]).expect("in precopy");
        while rig.source.phase() == SourcePhase::Switching {
            let _ = rig.source.preempt_connected(rig.now);
            let _ = rig.source.next(Channel::Main, now, &mut out);
        }
    }
    let mut seen = HashSet::new();
    for _ in 0..400 {
        now = if seed.below(50) == 0 {
            seed.any()
        } else {
            now + seed.below(20_000_000)
        };
        out.clear();
        let source = &mut rig.source;
        match seed.below(40) {
            0..12 => _ = source.next(Channel::Main, now, &mut out),
            12..18 => _ = source.next(Channel::Preempt, now, &mut out),
            18..20 if seed.below(40) < wild => {
                let message = any(&mut seed, &names);
                let _ = source.message(Item::Message { offset: 0, message }, now);
            }
            20..24 => drop(source.resume(0)),
            24..26 => drop(source.preempt_connected(0)),
            26 => drop(source.switch(vec![0; 5])),
            27 => drop(source.mark_dirty(seed.below(4) as usize, seed.below(99_999), seed.any())),
            28 if seed.below(4) == 0 => drop(source.link_lost()),
            29..33 => {
                // A valid answer in a recovery.
                let id = seed.below(3) as usize;
                let message = Message::RecvBitmap {
                    block: names[id].name(),
                };
                if source.phase() == SourcePhase::Recovering
                    && source
                        .message(Item::Message { offset: 0, message }, now)
                        .is_ok()
                {
                    let lossy = seed.below(2) == 0;
                    let bits = sent(source, id, lossy);
                    let bitmap = Bitmap::new(&bits);
                    source
                        .message(Item::Bitmap { offset: 0, bitmap }, now)
                        .expect("valid bitmap");
                }
            }
            33 if source.phase() == SourcePhase::Resuming => {
                honest(source, Message::ResumeAck);
            }
            34 if source.phase() == SourcePhase::Completing => {
                honest(source, Message::Shut { value: 0 })
            }
            35 => {
                let message = Message::Pong { value: 1 };
                let _ = source.message(Item::Message { offset: 0, message }, now);
            }
            36 if seed.below(40) < wild => {
                let bits = vec![seed.any() as u8; 8 * seed.below(6) as usize];
                let bitmap = Bitmap::new(&bits);
                let _ = source.message(Item::Bitmap { offset: 0, bitmap }, now);
            }
            37 => source.set_bandwidth(seed.any() >> seed.below(64)),
            _ => {}
        }
        assert!(rig.source.remaining() <= (20 * 4096 + 3 * 65536) + (1 << 20));
        assert!(rig.source.memory() < 2 << 20);
        seen.insert(rig.source.phase());
    }
    seen
}

#[test]
fn accepts_calls_and_messages_in_any_order() {
    let mut seen = HashMap::new();
    for seed in 0..1000 {
        let done = std::panic::catch_unwind(|| abuse(seed));
        for phase in done.unwrap_or_else(|_| panic!("seed {seed}")) {
            *seen.entry(phase).or_insert(0) += 1;
        }
    }
    // The test must reach every phase.
    let often = seen.values().filter(|count| **count > 5).count();
    assert_eq!(often, 10, "{seen:?}");
}
