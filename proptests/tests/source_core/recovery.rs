//! Broken links and recovery.

use std::collections::HashSet;

use retpath_codec::Message;
use retpath_engine::Channel;

use retpath_engine::source::{Config, Error, Next, Preempt, Source, SourcePhase};
use retpath_proptests::source::peer::Page;
use retpath_proptests::source::rig::Rig;

use super::floods::dirty_every_second_page;

fn config() -> Config {
    Config::new("pc-i440fx-10.0")
}

fn late() -> Config {
    config().preempt(Some(Preempt::Late))
}

/// Recovers up to RESUME_ACK.
pub(super) fn recover(rig: &mut Rig) {
    rig.resume();
    while rig.source.phase() != SourcePhase::Postcopy {
        rig.step(Channel::Main);
        rig.talk();
    }
}

fn run(next: Next) -> (u64, u64) {
    match next {
        Next::Urgent(run) | Next::Sweep(run) => (run.offset / 4096, run.len / 4096),
        other => panic!("no pages but {other:?}"),
    }
}

#[test]
fn resends_exactly_the_lost_pages() {
    let mut rig = Rig::switched(config(), &[(300, 4096), (4, 65536)]);
    for _ in 0..4 {
        rig.step(Channel::Main);
    }
    rig.talk();
    for _ in 0..3 {
        rig.step(Channel::Main);
    }
    let lost: HashSet<Page> = (64..112).map(|page| (0, page * 4096)).collect();
    // The first one arrives whole, the second one partly.
    rig.deliver(Channel::Main, 4104 + 17);
    let before = rig.peer.sent.len();
    rig.cut();
    assert_eq!(rig.source.phase(), SourcePhase::Paused);
    recover(&mut rig);
    assert_eq!(rig.source.remaining(), (300 - 65) * 4096 + 4 * 65536);
    rig.finish();
    let again: HashSet<Page> = rig.peer.sent[before..]
        .iter()
        .map(|(_, page)| *page)
        .collect();
    assert!(!again.contains(&(0, 64 * 4096)));
    assert_eq!(lost.difference(&again).count(), 1);
    assert_eq!(
        (rig.source.stats().pauses, rig.source.stats().resumes),
        (1, 1)
    );
}

#[test]
fn resends_a_partly_sent_host_page_as_a_whole() {
    for config in [config(), late()] {
        let mut rig = Rig::switched(config, &[(4, 256 << 10)]);
        rig.step(Channel::Main);
        rig.step(Channel::Main);
        rig.talk();
        rig.cut();
        recover(&mut rig);
        assert_eq!(rig.source.remaining(), 1 << 20);
        rig.finish();
    }
}

#[test]
fn names_the_block_again_on_a_new_link() {
    for config in [config(), late()] {
        let mut rig = Rig::switched(config.clone(), &[(64, 4096)]);
        rig.ask(0, 60 * 4096, 4096).expect("valid request");
        rig.step(Channel::Preempt);
        rig.step(Channel::Main);
        rig.talk();
        rig.cut();
        recover(&mut rig);
        rig.peer.named.clear();
        rig.ask(0, 40 * 4096, 4096).expect("valid request");
        rig.finish();
        assert_eq!(
            rig.peer.named.len(),
            if config.preempt.is_some() { 2 } else { 1 }
        );
    }
}

#[test]
fn keeps_requests_across_a_broken_link() {
    let mut rig = Rig::switched(config(), &[(200, 4096)]);
    rig.ask(0, 100 * 4096, 4096).expect("valid request");
    rig.ask(0, 150 * 4096, 4096).expect("valid request");
    assert_eq!(run(rig.step(Channel::Main)), (100, 1));
    rig.cut();
    rig.resume();
    // A fault thread that did not notice the break may request a lost page before the
    // bitmaps are requested.
    rig.ask(0, 100 * 4096, 4096).expect("valid request");
    recover_from_here(&mut rig);
    assert_eq!(run(rig.step(Channel::Main)), (150, 1));
    assert_eq!(run(rig.step(Channel::Main)), (100, 1));
    rig.finish();
}

fn recover_from_here(rig: &mut Rig) {
    while rig.source.phase() != SourcePhase::Postcopy {
        rig.step(Channel::Main);
        rig.talk();
    }
}

/// A source on a new link, after 16 of 200 pages have been received.
fn resumed_after_a_run() -> Rig {
    let mut rig = Rig::switched(config(), &[(200, 4096)]);
    rig.step(Channel::Main);
    rig.talk();
    rig.cut();
    rig.resume();
    rig
}

#[test]
fn drops_requests_for_received_pages() {
    let mut rig = resumed_after_a_run();
    rig.ask(0, 0, 100 * 4096).expect("valid request");
    assert_eq!(
        rig.source.waiting(),
        100,
        "nobody knows yet what has arrived"
    );
    recover_from_here(&mut rig);
    assert_eq!(rig.source.waiting(), 84);
    rig.finish();
}

#[test]
fn knows_the_dirty_pages_once_all_bitmaps_are_received() {
    let mut rig = resumed_after_a_run();
    assert_eq!(rig.step(Channel::Main), Next::Write, "asks for the bitmap");
    rig.talk();
    assert_eq!(rig.source.phase(), SourcePhase::Recovering);
    rig.ask(0, 0, 100 * 4096).expect("valid request");
    assert_eq!(rig.source.waiting(), 84);
    recover_from_here(&mut rig);
    rig.finish();
}

#[test]
fn connects_the_preempt_channel_of_a_new_link_in_the_order_of_its_kind() {
    let mut rig = Rig::switched(late(), &[(20, 4096)]);
    rig.cut();
    rig.resume();
    assert_eq!(rig.step(Channel::Main), Next::Write, "asks for the bitmap");
    assert_eq!(rig.step(Channel::Main), Next::Wait { until: None });
    rig.talk();
    let mut out = Vec::new();
    assert_eq!(rig.source.next(Channel::Main, 0, &mut out), Next::Connect);
    assert_eq!(
        rig.step(Channel::Main),
        Next::Wait { until: None },
        "not without it"
    );
    rig.source.preempt_connected(rig.now).expect("wanted");
    assert_eq!(rig.step(Channel::Main), Next::Write, "resumes");
    rig.finish();

    let early = config().preempt(Some(Preempt::Early));
    let mut rig = Rig::switched(early, &[(20, 4096)]);
    rig.cut();
    rig.resume();
    assert_eq!(rig.step(Channel::Main), Next::Connect);
    rig.finish();
}

#[test]
fn recovers_when_everything_had_been_sent() {
    for delivered in [0, 200_000, usize::MAX] {
        let mut rig = Rig::switched(config(), &[(64, 4096)]);
        while rig.source.phase() != SourcePhase::Completing {
            rig.step(Channel::Main);
        }
        rig.deliver(Channel::Main, delivered);
        rig.cut();
        assert_eq!(rig.source.phase(), SourcePhase::Paused);
        recover(&mut rig);
        rig.finish();
    }
}

#[test]
fn recovers_from_a_broken_recovery() {
    for config in [config(), late()] {
        let mut rig = Rig::switched(config, &[(64, 4096), (3, 65536), (7, 4096)]);
        rig.step(Channel::Main);
        rig.talk();
        for steps in 0..6 {
            rig.source.resume(rig.now).unwrap_or(());
            for _ in 0..steps {
                rig.step(Channel::Main);
                // One message at a time, so that the link breaks between them.
                rig.deliver(Channel::Main, 12);
                let replies = std::mem::take(&mut rig.peer.replies);
                rig.reply(&replies).expect("valid return path");
            }
            rig.cut();
            assert_eq!(rig.source.phase(), SourcePhase::Paused);
        }
        recover(&mut rig);
        rig.finish();
    }
}

#[test]
fn a_destination_that_resumes_counts_as_loaded() {
    let config = config().ping_loaded(true);
    let mut rig = Rig::new(config, &[(20, 4096)]);
    rig.start();
    rig.source.switch(Vec::new()).expect("in precopy");
    rig.step(Channel::Main);
    rig.deliver(Channel::Main, usize::MAX);
    rig.cut();
    assert!(!rig.source.is_loaded(), "the answer was lost");
    recover(&mut rig);
    assert!(rig.source.is_loaded());
    rig.finish();
}

#[test]
fn keeps_the_guest_when_it_fails_before_the_switch() {
    for steps in 0..4 {
        let mut rig = Rig::new(config(), &[(20_000, 4096)]);
        if steps > 0 {
            rig.start();
            dirty_every_second_page(&mut rig.source, 20_000);
        }
        if steps > 1 {
            rig.source.switch(Vec::new()).expect("in precopy");
        }
        if steps > 2 {
            assert_eq!(
                rig.step(Channel::Main),
                Next::Write,
                "a part of the discard list"
            );
            assert_eq!(rig.source.phase(), SourcePhase::Switching);
        }
        assert_eq!(rig.source.link_lost(), Err(Error::LinkLost));
        assert_eq!(rig.source.phase(), SourcePhase::Failed);
        assert!(!rig.source.guest_left());
        assert_eq!(rig.source.link_lost(), Ok(()), "reported once");
        assert_eq!(rig.step(Channel::Main), Next::Stop);
        assert!(rig.source.resume(rig.now).is_err());
    }
}

#[test]
fn sends_nothing_while_paused() {
    let mut rig = Rig::switched(late(), &[(20, 4096)]);
    rig.cut();
    assert_eq!(rig.step(Channel::Main), Next::Stop);
    assert_eq!(rig.step(Channel::Preempt), Next::Stop);
    assert_eq!(rig.source.link_lost(), Ok(()));
    assert_eq!(rig.source.stats().pauses, 1);
    assert!(rig.say(Message::Pong { value: 1 }).is_err());
    assert!(rig.say(Message::Shut { value: 1 }).is_err());
    assert_eq!(
        rig.source.phase(),
        SourcePhase::Paused,
        "an old link says nothing any more"
    );
    rig.cut();
    recover(&mut rig);
    rig.finish();
}

/// Exactly the bytes that did not arrive are sent again, and the destination's decoder
/// accepts both parts.
#[test]
fn recovers_from_a_break_at_any_byte() {
    for config in [config(), late()] {
        let start = || {
            let config = config.clone().run(16384);
            let mut rig = Rig::switched(config, &[(5, 4096), (2, 32768)]);
            rig.ask(1, 32768, 32768).expect("valid request");
            while rig.source.phase() == SourcePhase::Postcopy {
                rig.step(Channel::Main);
                rig.step(Channel::Preempt);
            }
            rig
        };
        let size = start().flight.map(|bytes| bytes.len());
        for at in 0..=size[0].max(size[1]) {
            // Every byte near a header, and some inside pages.
            if at % 4105 > 24 && at % 251 > 0 {
                continue;
            }
            let mut rig = start();
            rig.deliver(Channel::Preempt, at);
            rig.deliver(Channel::Main, at);
            rig.cut();
            recover(&mut rig);
            rig.finish();
        }
    }
}

#[test]
fn another_source_takes_over_with_the_received_bitmaps() {
    for config in [config(), late()] {
        let mut rig = Rig::switched(config.clone(), &[(300, 4096), (4, 65536)]);
        for _ in 0..6 {
            rig.step(Channel::Main);
        }
        rig.talk();
        let arrived = rig.peer.sent.len();
        assert!(arrived > 0);
        rig.cut();
        let blocks = rig.source.blocks().clone();
        let other = Source::taking_over(config, blocks.clone()).expect("valid configuration");
        assert_eq!(other.phase(), SourcePhase::Paused);
        assert!(other.guest_left() && other.is_loaded());
        // The pages to send are unknown before the bitmaps are received.
        assert_eq!((other.remaining(), other.blocks()), (0, &blocks));
        rig.source = other;
        recover(&mut rig);
        let left = rig.source.remaining();
        assert!(left > 0 && left < 300 * 4096 + 4 * 65536);
        rig.finish();
    }
    let run = config().run(512);
    let blocks = Rig::new(config(), &[(1, 4096)]).source.blocks().clone();
    let refused = Source::taking_over(run, blocks).map(|source| source.phase());
    assert_eq!(
        refused,
        Err(Error::Config(
            "run size 512: must be at least the target page size (4096)".into()
        ))
    );
}
