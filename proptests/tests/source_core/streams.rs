//! Pages that are sent because they continue a stream of requests.

use std::collections::BTreeSet;

use retpath_engine::Channel;
use retpath_engine::source::{Config, Next, Preempt};
use retpath_proptests::source::rig::Rig;

use super::service::{config, late, pages};

/// A bandwidth at which the sweep sends next to nothing.
const SLOW: u64 = 1;

/// A slow migration whose sweep has sent its first pages: 0 to 15.
fn slow(config: Config, sizes: &[(u64, u64)]) -> Rig {
    let mut rig = Rig::switched(config.bandwidth(SLOW), sizes);
    while !matches!(rig.step(Channel::Main), Next::Wait { .. }) {}
    rig
}

fn ask(rig: &mut Rig, page: u64) {
    rig.ask(0, page * 4096, 4096).expect("valid request");
}

/// Requests pages and returns the runs that the main channel sends until it is idle.
fn after(rig: &mut Rig, asked: impl IntoIterator<Item = u64>) -> Vec<(bool, u64, u64)> {
    asked.into_iter().for_each(|page| ask(rig, page));
    let mut runs = Vec::new();
    loop {
        let next = rig.step(Channel::Main);
        if let Next::Wait { .. } = next {
            return runs;
        }
        let (urgent, _, first, count) = pages(next);
        runs.push((urgent, first, count));
    }
}

#[test]
fn sends_what_continues_a_stream_behind_requests_and_ahead_of_the_sweep() {
    let mut rig = slow(config(), &[(300, 4096)]);
    let urgent = |page| (true, page, 1);
    assert_eq!(after(&mut rig, [100, 101]), [100, 101].map(urgent));
    assert_eq!(
        after(&mut rig, [102, 250]),
        [urgent(102), urgent(250), (false, 103, 3)]
    );
    assert_eq!(after(&mut rig, [106]), [urgent(106), (false, 107, 7)]);
    let stats = rig.source.stats();
    assert_eq!((stats.predicted, stats.predicted_hits), (10, 3));
    assert_eq!((stats.demand, stats.sweep), (5, 16 + 10));
}

#[test]
fn predicts_strides_in_both_directions_with_and_without_preempt() {
    for preempt in [None, Some(Preempt::Late), Some(Preempt::Early)] {
        for (asked, sent) in [
            ([40, 47, 54], [(61, 1), (68, 1), (75, 1)].as_slice()),
            ([254, 247, 240], &[(233, 1), (226, 1), (219, 1)]),
            ([202, 201, 200], &[(197, 3)]),
        ] {
            let mut rig = slow(config().preempt(preempt), &[(300, 4096)]);
            let runs = after(&mut rig, asked);
            let runs = runs.iter().filter(|(urgent, ..)| !urgent);
            let runs: Vec<_> = runs.map(|&(_, first, count)| (first, count)).collect();
            assert_eq!(runs, sent, "{preempt:?}, {asked:?}");
            rig.finish();
        }
    }
}

#[test]
fn a_request_waits_for_at_most_one_run_of_predicted_pages() {
    let mut rig = slow(config().run(4 * 4096), &[(4000, 4096)]);
    (100..200).for_each(|page| {
        after(&mut rig, [page]);
    });
    let end = (100..4000).find(|page| !rig.source.is_sent(0, page * 4096));
    let end = end.expect("pages are left");
    ask(&mut rig, end);
    assert_eq!(pages(rig.step(Channel::Main)), (true, 0, end, 1));
    for at in 0..5 {
        let (urgent, _, first, count) = pages(rig.step(Channel::Main));
        assert_eq!((urgent, first, count), (false, end + 1 + 4 * at, 4));
        ask(&mut rig, 3000 + 70 * at);
        let urgent = pages(rig.step(Channel::Main));
        assert_eq!(urgent, (true, 0, 3000 + 70 * at, 1));
    }
    rig.finish();
}

#[test]
fn sends_every_page_once_and_no_other() {
    for config in [config(), late()] {
        let mut rig = slow(config, &[(2000, 4096), (100, 4096)]);
        for page in (100..1900).step_by(3) {
            ask(&mut rig, page);
            for channel in [Channel::Preempt, Channel::Main, Channel::Main] {
                rig.step(channel);
            }
        }
        assert!(rig.source.stats().predicted > 300);
        rig.finish();
        let sent: BTreeSet<_> = rig.peer.sent.iter().map(|(_, page)| *page).collect();
        assert_eq!(sent.len(), rig.peer.sent.len());
        assert_eq!(sent, rig.peer.discarded);
    }
}

#[test]
fn does_not_predict_unplugged_memory() {
    let unplugged = retpath_engine::blocks::Span {
        block: 0,
        offset: 104 * 4096,
        len: 2 * 4096,
    };
    let mut rig = slow(config().unplugged(vec![unplugged]), &[(300, 4096)]);
    let runs = after(&mut rig, [100, 101, 102]);
    assert_eq!(runs[3..], [(false, 103, 1)]);
    let runs = after(&mut rig, [106]);
    assert_eq!(runs[1..], [(false, 107, 7)]);
}

#[test]
fn does_not_predict_when_it_is_off_or_a_host_page_exceeds_a_run() {
    for (config, size) in [
        (config().predict(false), 4096),
        (config().run(32 << 10), 64 << 10),
    ] {
        let mut rig = slow(config, &[(100, size)]);
        for page in 60..70 {
            rig.ask(0, page * size, 4096).expect("valid request");
            while !matches!(rig.step(Channel::Main), Next::Wait { .. }) {}
        }
        let stats = rig.source.stats();
        assert_eq!((stats.predicted, stats.demand), (0, 10));
    }
}

#[test]
fn the_sweep_pays_for_what_was_predicted_in_vain() {
    const RATE: u64 = 100 * 4096;
    let swept_after = |asked: &[u64]| {
        let mut rig = Rig::switched(config().bandwidth(RATE), &[(9000, 4096)]);
        while !matches!(rig.step(Channel::Main), Next::Wait { .. }) {}
        let swept = |rig: &Rig| rig.source.stats().sweep - rig.source.stats().predicted;
        for page in asked {
            after(&mut rig, [*page]);
        }
        let before = swept(&rig);
        for _ in 0..200 {
            rig.now += 10_000_000;
            while !matches!(rig.step(Channel::Main), Next::Wait { .. }) {}
        }
        let stats = rig.source.stats();
        (swept(&rig) - before, stats.predicted, stats.predicted_hits)
    };
    let (without, ..) = swept_after(&[]);
    // 127 pages are confirmed, and the last window is not.
    let (with, predicted, hits) = swept_after(&[4000, 4001, 4002, 4006, 4014, 4030, 4062, 4126]);
    assert_eq!((predicted, hits), (246, 119));
    let in_vain = predicted - hits;
    // The sweep sends runs of 16 pages, of which every fifth is zero and free.
    let paid = (without - with) * 4 / 5;
    assert!(paid.abs_diff(in_vain) <= 32, "{paid} of {in_vain} paid for");
}

#[test]
fn repeated_requests_of_a_recovery_are_no_stream() {
    let mut rig = slow(config(), &[(300, 4096)]);
    rig.cut();
    rig.resume();
    rig.step(Channel::Main);
    for page in [100, 101, 102] {
        ask(&mut rig, page);
    }
    rig.talk();
    rig.run();
    assert_eq!(rig.source.stats().predicted, 0);
    rig.finish();
}
