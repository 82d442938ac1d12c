//! The order and the channel in which pages are sent.

use retpath_codec::Message;
use retpath_engine::Channel;
use retpath_engine::blocks::BlockId;

use retpath_engine::source::{Config, Next, PageRun, Preempt};
use retpath_proptests::source::rig::Rig;

pub(super) fn config() -> Config {
    Config::new("pc-i440fx-10.0")
}

pub(super) fn late() -> Config {
    config().preempt(Some(Preempt::Late))
}

/// The next run of a channel: whether it is urgent, and its pages.
pub(super) fn pages(next: Next) -> (bool, BlockId, u64, u64) {
    let (urgent, run) = match next {
        Next::Urgent(run) => (true, run),
        Next::Sweep(run) => (false, run),
        other => panic!("no pages but {other:?}"),
    };
    let PageRun {
        block, offset, len, ..
    } = run;
    (urgent, block, offset / 4096, len / 4096)
}

#[test]
fn sends_exactly_the_discarded_pages_after_the_switch() {
    let layouts: [&[(u64, u64)]; 3] = [
        &[(300, 4096)],
        &[(40, 4096), (3, 1 << 20), (1, 4096)],
        &[(9, 65536), (2, 2 << 20)],
    ];
    for sizes in layouts {
        for config in [config(), late()] {
            let mut rig = Rig::new(config, sizes);
            rig.start();
            // A part is sent before the switch, and a part of that changes.
            for _ in 0..5 {
                rig.step(Channel::Main);
            }
            rig.talk();
            rig.source
                .mark_dirty(0, 5 * 4096 + 17, 4096)
                .expect("inside the block");
            rig.source.switch(b"".to_vec()).expect("in precopy");
            rig.finish();
            let sent: Vec<_> = rig.peer.sent.iter().map(|(_, page)| *page).collect();
            let mut once = rig.peer.discarded.clone();
            for page in &sent {
                assert!(
                    once.remove(page),
                    "{page:?} was not discarded, or came twice"
                );
            }
            assert!(once.is_empty(), "not sent: {once:?}");
            let stats = rig.source.stats();
            assert_eq!(stats.discarded, sent.len() as u64);
            assert!(stats.precopy > 0);
        }
    }
}

#[test]
fn serves_requests_first_and_continues_after_them() {
    let mut rig = Rig::switched(config(), &[(200, 4096)]);
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 0, 16));
    rig.ask(0, 100 * 4096, 4096).expect("valid request");
    rig.ask(0, 150 * 4096, 4096).expect("valid request");
    assert_eq!(pages(rig.step(Channel::Main)), (true, 0, 100, 1));
    assert_eq!(pages(rig.step(Channel::Main)), (true, 0, 150, 1));
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 151, 16));
    rig.finish();
    assert_eq!(
        (rig.source.stats().demand, rig.source.stats().sweep),
        (2, 198)
    );
}

#[test]
fn serves_requests_on_their_own_channel() {
    let mut rig = Rig::switched(late(), &[(200, 4096)]);
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 0, 16));
    for page in [90, 50, 70] {
        rig.ask(0, page * 4096, 4096).expect("valid request");
    }
    assert_eq!(pages(rig.step(Channel::Preempt)), (true, 0, 90, 1));
    assert_eq!(pages(rig.step(Channel::Preempt)), (true, 0, 50, 1));
    // The sweep follows the first request and stops at pages that have been sent.
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 91, 16));
    assert_eq!(pages(rig.step(Channel::Preempt)), (true, 0, 70, 1));
    assert_eq!(rig.step(Channel::Preempt), Next::Wait { until: None });
    rig.finish();
    let urgent = rig
        .peer
        .sent
        .iter()
        .filter(|(channel, _)| *channel == Channel::Preempt);
    assert_eq!(urgent.count(), 3);
    let names = rig
        .peer
        .named
        .iter()
        .filter(|(channel, _)| *channel == Channel::Preempt);
    assert_eq!(names.count(), 1, "the name is sent once");
}

#[test]
fn drops_requests_for_pages_that_are_sent_or_queued() {
    let mut rig = Rig::switched(config(), &[(200, 4096)]);
    rig.step(Channel::Main);
    rig.ask(0, 3 * 4096, 4096).expect("valid request");
    rig.ask(0, 40 * 4096, 4096).expect("valid request");
    rig.ask(0, 40 * 4096, 4096).expect("valid request");
    assert_eq!(rig.source.waiting(), 1);
    assert_eq!(
        (
            rig.source.stats().requests,
            rig.source.stats().requests_dropped
        ),
        (3, 2)
    );
    assert_eq!(pages(rig.step(Channel::Main)), (true, 0, 40, 1));
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 41, 16));
    rig.finish();
}

#[test]
fn serves_the_dirty_pages_of_a_long_request_one_by_one() {
    let mut rig = Rig::switched(config(), &[(200, 4096)]);
    rig.step(Channel::Main);
    rig.ask(0, 14 * 4096, 5 * 4096).expect("valid request");
    for page in [16, 17, 18] {
        assert_eq!(pages(rig.step(Channel::Main)), (true, 0, page, 1));
    }
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 19, 16));
}

#[test]
fn inherits_the_block_from_the_last_accepted_name() {
    let mut rig = Rig::switched(config(), &[(50, 4096), (50, 4096)]);
    rig.ask(1, 4096, 4096).expect("valid request");
    rig.say(Message::ReqPages {
        start: 8192,
        len: 4096,
    })
    .expect("valid request");
    assert_eq!(pages(rig.step(Channel::Main)), (true, 1, 1, 1));
    assert_eq!(pages(rig.step(Channel::Main)), (true, 1, 2, 1));
}

#[test]
fn extends_requests_to_host_pages_without_preempt() {
    let mut rig = Rig::switched(config(), &[(50, 65536)]);
    rig.ask(0, 20 * 4096, 4096).expect("accepted like QEMU");
    assert_eq!(pages(rig.step(Channel::Main)), (true, 0, 16, 16));
    rig.finish();
}

#[test]
fn finishes_a_host_page_before_another_one_on_the_same_channel() {
    let mut rig = Rig::switched(config(), &[(2, 256 << 10), (10, 4096)]);
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 0, 16));
    rig.ask(1, 0, 4096).expect("valid request");
    for piece in [16, 32, 48] {
        let (_, block, page, len) = pages(rig.step(Channel::Main));
        assert_eq!((block, page, len), (0, piece, 16));
    }
    assert_eq!(pages(rig.step(Channel::Main)), (true, 1, 0, 1));
    rig.finish();
}

#[test]
fn a_request_ends_the_delay_of_a_partly_sent_host_page() {
    let config = config().bandwidth(1 << 20);
    let mut rig = Rig::switched(config, &[(2, 256 << 10)]);
    rig.now = 1_000_000_000;
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 0, 16));
    assert!(matches!(rig.step(Channel::Main), Next::Wait { .. }));
    rig.ask(0, 256 << 10, 256 << 10).expect("valid request");
    for piece in [16, 32, 48, 64, 80, 96, 112] {
        assert_eq!(pages(rig.step(Channel::Main)), (true, 0, piece, 16));
    }
    rig.finish();
}

#[test]
fn does_not_send_a_page_on_both_channels() {
    let config = late().bandwidth(1 << 20);
    let mut rig = Rig::switched(config, &[(3, 256 << 10)]);
    rig.now = 1_000_000_000;
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 0, 16));
    assert!(
        matches!(rig.step(Channel::Main), Next::Wait { until: Some(_) }),
        "must be slow"
    );
    rig.ask(0, 0, 256 << 10).expect("valid request");
    assert_eq!(rig.step(Channel::Preempt), Next::Wait { until: None });
    for piece in [16, 32, 48] {
        assert_eq!(
            pages(rig.step(Channel::Main)),
            (true, 0, piece, 16),
            "not held back any more"
        );
    }
    assert!(matches!(
        rig.step(Channel::Main),
        Next::Wait { until: Some(_) }
    ));
    // Conversely, the sweep leaves out a page that the preempt channel is sending.
    rig.ask(0, 256 << 10, 256 << 10).expect("valid request");
    assert_eq!(pages(rig.step(Channel::Preempt)), (true, 0, 64, 16));
    rig.now += 1_000_000_000;
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 128, 16));
    rig.finish();
}

#[test]
fn paces_the_sweep_but_not_requests() {
    const RATE: u64 = 10 << 20;
    for preempt in [None, Some(Preempt::Late)] {
        let config = config().bandwidth(RATE).preempt(preempt).predict(false);
        let mut rig = Rig::switched(config, &[(5000, 4096)]);
        let mut asked = 4999;
        let (start, mut swept) = (rig.now, 0);
        loop {
            match rig.step(Channel::Main) {
                Next::Sweep(_) => {}
                Next::Urgent(_) => continue,
                Next::Wait { until: Some(until) } => {
                    // The sweep is delayed, but requests are served now.
                    rig.ask(0, asked * 4096, 4096).expect("valid request");
                    let channel = if preempt.is_some() {
                        Channel::Preempt
                    } else {
                        Channel::Main
                    };
                    assert_eq!(pages(rig.step(channel)), (true, 0, asked, 1));
                    asked -= 1;
                    assert!(until > rig.now, "time must pass");
                    rig.now = until;
                }
                _ => break,
            }
            swept = rig.source.stats().sweep;
        }
        // Zero pages are free: four of five pages count.
        let bytes = swept * 4096 / 5 * 4;
        let most = (rig.now - start) * RATE / 1_000_000_000 + RATE / 100 + (64 << 10);
        assert!(bytes <= most + (64 << 10), "{bytes} bytes, {most} allowed");
        assert!(
            bytes + (64 << 10) * 4 >= most,
            "{bytes} bytes, {most} allowed"
        );
        rig.finish();
    }
}

#[test]
fn closes_a_section_after_50_ms_and_when_nothing_is_left() {
    let mut rig = Rig::switched(config(), &[(200, 4096)]);
    rig.peer.seen.clear();
    for _ in 0..4 {
        rig.step(Channel::Main);
        rig.now += 20_000_000;
    }
    rig.talk();
    assert_eq!(
        rig.peer.seen,
        ["SECTION_PART", "SECTION_PART"],
        "the fourth is 60 ms late"
    );
    rig.finish();
    assert_eq!(rig.peer.seen[2..], ["SECTION_END", "EOF"]);
}

#[test]
fn does_not_close_a_section_inside_a_host_page() {
    let mut rig = Rig::switched(config(), &[(2, 256 << 10)]);
    rig.peer.seen.clear();
    for _ in 0..5 {
        rig.step(Channel::Main);
        rig.now += 60_000_000;
    }
    rig.talk();
    assert_eq!(rig.peer.seen, ["SECTION_PART", "SECTION_PART"]);
    rig.finish();
}

#[test]
fn closes_a_section_while_the_sweep_is_paced() {
    let slow = config().bandwidth(64 << 10);
    let mut rig = Rig::switched(slow, &[(200, 4096)]);
    rig.step(Channel::Main);
    let opened = rig.now;
    let mut out = Vec::new();
    let next = rig.source.next(Channel::Main, opened, &mut out);
    let until = opened + 50_000_000;
    assert_eq!(next, Next::Wait { until: Some(until) });
    assert_eq!(out.len(), 0, "a request may still arrive");
    rig.now = until;
    let next = rig.source.next(Channel::Main, rig.now, &mut out);
    assert!(matches!(next, Next::Wait { until: Some(later) } if later > until));
    assert_eq!(out.len(), 13, "EOS and footer");
}
