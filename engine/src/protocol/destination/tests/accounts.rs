//! Statistics.

use super::*;

fn span(offset: u64, len: u64) -> Span {
    Span {
        block: 0,
        offset,
        len,
    }
}

#[test]
fn counts_zero_pages_and_pages_that_were_present() {
    let mut dest = Dest::running(8);
    dest.zero(0, 0).unwrap();
    dest.placed(Main, 0, 0, PAGE).unwrap();
    let counted = |dest: &Dest| (dest.core.stats().present, dest.core.stats().zero);
    assert_eq!(counted(&dest), (0, 1));
    let core = &mut dest.core;
    core.run_of_pages(Main, span(PAGE, 6 * PAGE), dest.now)
        .unwrap();
    for (at, present, count) in [(1, 2, 2), (4, 3, 5)] {
        core.placed(Main, span(at * PAGE, 3 * PAGE), present * PAGE, dest.now)
            .unwrap();
        assert_eq!(core.stats().present, count);
    }
    dest.page(0, 7 * PAGE, 1).unwrap();
    let now = dest.now;
    dest.core
        .placed(Main, span(7 * PAGE, PAGE), u64::MAX, now)
        .unwrap();
    assert_eq!(counted(&dest), (6, 1));
    assert!((0..8).all(|page| dest.core.pages().is_received(0, page * PAGE)));
}

#[test]
fn measures_the_parts_of_a_faults_latency() {
    let mut dest = Dest::running(4);
    let core = &mut dest.core;
    core.fault(0, 0, 1_000).unwrap();
    core.fault(0, PAGE, 2_000).unwrap();
    core.outbox().clear();
    core.written(10_000);
    core.run_of_pages(Main, span(0, 2 * PAGE), 60_000).unwrap();
    core.placed(Main, span(0, 2 * PAGE), 0, 61_000).unwrap();
    let latency = &core.stats().latency;
    let expect = |latency: &crate::stats::Latency, min: u64, max: u64| {
        assert_eq!(latency.count(), 2);
        for (got, want) in [(latency.quantile(0.0), min), (latency.max(), max)] {
            assert!(got.abs_diff(want) <= want / 1000, "{got}, not {want}");
        }
    };
    expect(&latency.request, 8_000, 9_000);
    expect(&latency.transfer, 50_000, 50_000);
    expect(&latency.placement, 1_000, 1_000);
    expect(&latency.total, 59_000, 60_000);
    assert_eq!(latency.source.count(), 0);
    assert_eq!(latency.total.buckets()[5], 2);
}

#[test]
fn measures_only_faults_whose_pages_were_placed() {
    let mut dest = Dest::running(4);
    for page in [1, 3] {
        dest.fault(0, page * PAGE);
    }
    dest.run(Main, 0, 0, 2 * PAGE).unwrap();
    dest.placed(Main, 0, 0, 2 * PAGE).unwrap();
    assert_eq!(dest.core.stats().latency.total.count(), 1);
    assert_eq!(dest.core.stats().demand, 1);
}

#[test]
fn limits_the_number_of_measured_faults() {
    let pages = u64::try_from(MAX_TIMED).unwrap() + 100;
    let mut dest = Dest::running(pages);
    for page in 0..pages {
        dest.fault(0, page * PAGE);
    }
    let now = dest.now;
    dest.core.written(now);
    for page in 0..pages {
        dest.serve(0, page * PAGE);
    }
    assert_eq!(dest.core.stats().demand, pages);
    assert_eq!(dest.core.stats().latency.total.count(), pages - 100);
    assert_eq!(dest.core.stats().latency.request.count(), pages - 100);
}

#[test]
fn limits_the_number_of_unwritten_requests_that_are_measured() {
    for (before, timed) in [(MAX_TIMED - 1, 1), (MAX_TIMED, 0)] {
        let before = u64::try_from(before).unwrap();
        let mut dest = Dest::running(before + 1);
        for page in 0..before {
            dest.fault(0, page * PAGE);
            dest.serve(0, page * PAGE);
        }
        dest.fault(0, before * PAGE);
        let now = dest.now;
        dest.core.written(now);
        dest.serve(0, before * PAGE);
        assert_eq!(dest.core.stats().latency.request.count(), timed);
        assert_eq!(dest.core.stats().latency.total.count(), before + 1);
    }
}
