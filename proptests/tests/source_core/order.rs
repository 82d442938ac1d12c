//! Pages in a recorded order, and what a source records. That every page is sent once, in the
//! predicted order, is checked by the model.

use retpath_engine::Channel;
use retpath_engine::blocks::Span;
use retpath_engine::source::{FirstRequest, Hold, Next, SourcePhase, merge_order};
use retpath_proptests::source::blocks;
use retpath_proptests::source::rig::Rig;

use super::service::{config, late, pages};

const SIZES: [(u64, u64); 1] = [(64, 4096)];

const SECOND: u64 = 1_000_000_000;

fn span(first: u64, count: u64) -> Span {
    let (offset, len) = (first * 4096, count * 4096);
    Span {
        block: 0,
        offset,
        len,
    }
}

#[test]
fn sends_the_order_without_limit_and_requests_before_it() {
    for config in [config(), late()] {
        let preempt = config.preempt.is_some();
        let order = [span(40, 1), span(7, 2), span(60, 1)].into();
        // Not a page a second.
        let config = config.run(8192).bandwidth(1).order(order);
        let mut rig = Rig::switched(config, &SIZES);
        assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 40, 1));
        rig.talk();
        rig.ask(0, 20 * 4096, 4096).expect("valid request");
        rig.ask(0, 8 * 4096, 4096).expect("valid request");
        let channel = if preempt {
            Channel::Preempt
        } else {
            Channel::Main
        };
        assert_eq!(pages(rig.step(channel)), (true, 0, 20, 1));
        assert_eq!(pages(rig.step(channel)), (true, 0, 8, 1));
        assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 7, 1));
        assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 60, 1));
        // The sweep begins with a full bucket, and then waits.
        assert_eq!(pages(rig.step(Channel::Main)).3, 2);
        let next = rig.step(Channel::Main);
        assert!(matches!(next, Next::Wait { until: Some(_) }), "{next:?}");
        rig.finish();
    }
}

#[test]
fn holds_the_sweep_back_but_not_the_order_nor_requests() {
    let hold = Hold::default().quiet(SECOND).most(10 * SECOND);
    let order = [span(9, 1)].into();
    let mut rig = Rig::switched(config().predict(false).hold(hold).order(order), &SIZES);
    assert_eq!(pages(rig.step(Channel::Main)), (false, 0, 9, 1));
    for page in 20..40 {
        rig.now += SECOND / 2;
        let next = rig.step(Channel::Main);
        assert!(matches!(next, Next::Wait { until: Some(_) }), "{next:?}");
        rig.talk();
        rig.ask(0, page * 4096, 4096).expect("valid request");
        assert_eq!(pages(rig.step(Channel::Main)), (true, 0, page, 1));
    }
    // At most ten seconds, although requests still come.
    rig.now += SECOND / 2;
    assert!(!pages(rig.step(Channel::Main)).0);
    rig.finish();
}

#[test]
fn waits_for_a_guest_that_requests_nothing_only_for_a_while() {
    let hold = Hold::default().quiet(5).most(100);
    let mut rig = Rig::switched(config().predict(false).hold(hold), &SIZES);
    let begin = rig.now;
    rig.finish();
    assert!((5..100).contains(&(rig.now - begin)), "{}", rig.now);
}

#[test]
fn replays_what_it_recorded_over_cuts() {
    let mut rig = Rig::switched(config().predict(false).bandwidth(1).record(true), &SIZES);
    let asked = [5, 50, 6, 33, 34, 12];
    for (at, page) in asked.into_iter().enumerate() {
        rig.ask(0, page * 4096, 4096).expect("valid request");
        if at == 3 {
            rig.cut();
            rig.resume();
            while rig.source.phase() != SourcePhase::Postcopy {
                rig.step(Channel::Main);
                rig.talk();
            }
        }
        // A page that has been sent is not recorded again.
        rig.ask(0, 5 * 4096, 4096).expect("valid request");
    }
    let got: Vec<_> = rig
        .source
        .first_requests()
        .iter()
        .map(|one| one.span)
        .collect();
    let want = [
        span(5, 1),
        span(50, 1),
        span(6, 1),
        span(33, 2),
        span(12, 1),
    ];
    assert_eq!(got, want);

    let order = merge_order(&blocks(&SIZES), &[], &[rig.source.first_requests()]);
    let mut next = Rig::switched(
        config()
            .predict(false)
            .record(true)
            .order(order.clone().into()),
        &SIZES,
    );
    for want in &order {
        let first = want.offset / 4096;
        assert_eq!(
            pages(next.step(Channel::Main)),
            (false, 0, first, want.len / 4096)
        );
    }
    next.finish();
    assert_eq!(next.source.first_requests(), []);
}

#[test]
fn says_where_it_was_in_the_order_when_a_page_was_requested() {
    let order = [span(1, 1), span(2, 1), span(4, 2)].into();
    let mut rig = Rig::switched(config().predict(false).record(true).order(order), &SIZES);
    let mut want = Vec::new();
    for ordered in 0..=3 {
        let first = 10 * (ordered as u64 + 1);
        rig.ask(0, first * 4096, 4096).expect("valid request");
        let span = span(first, 1);
        want.push(FirstRequest { span, ordered });
        rig.step(Channel::Main);
        rig.step(Channel::Main);
    }
    assert_eq!(rig.source.first_requests(), want);
}

#[test]
fn a_cut_does_not_end_the_hold() {
    let hold = Hold::default().quiet(SECOND).most(100 * SECOND);
    let mut rig = Rig::switched(config().predict(false).hold(hold), &SIZES);
    assert!(matches!(rig.step(Channel::Main), Next::Wait { .. }));
    rig.ask(0, 4096, 4096).expect("valid request");
    assert!(pages(rig.step(Channel::Main)).0);
    rig.cut();
    rig.now += 2 * SECOND;
    rig.resume();
    while rig.source.phase() != SourcePhase::Postcopy {
        rig.step(Channel::Main);
        rig.talk();
    }
    let next = rig.step(Channel::Main);
    assert!(matches!(next, Next::Wait { .. }), "{next:?}");
    rig.now += SECOND;
    assert!(!pages(rig.step(Channel::Main)).0);
}
