use super::*;
use crate::blocks::BlockError;

const SMALL: BlockId = 0;
const BIG: BlockId = 1;
/// Target pages in a host page of [`HUGE`] bytes.
const PARTS: u64 = HUGE / PAGE;

/// A permutation of the target pages of a huge page.
fn shuffled(step: u64) -> impl Iterator<Item = u64> {
    (0..PARTS).map(move |at| (at * step + 5) % PARTS)
}

#[test]
fn writes_every_copy_of_a_page_before_the_switch() {
    let mut dest = Dest::advised(4);
    for byte in 1..4 {
        assert_eq!(dest.page(0, PAGE, byte), Ok(Did::Write(0, PAGE, byte)));
    }
    assert_eq!(dest.zero(0, PAGE), Ok(Did::Clear(0, PAGE)));
    assert!(dest.core.pages().is_received(0, PAGE));
    assert_eq!(dest.core.pages().missing(), 3);
    assert_eq!(dest.core.stats().precopy, 4);
    dest.discard("ram", &[(0, 2 * PAGE)]).unwrap();
    assert_eq!(dest.core.pages().missing(), 4);
    assert_eq!(dest.core.stats().discarded, 1);
    dest.discard("ram", &[(0, 2 * PAGE)]).unwrap();
    assert_eq!(dest.core.stats().discarded, 1);
}

#[test]
fn places_small_pages_without_copying_them() {
    let mut dest = Dest::running(4);
    assert_eq!(dest.page(0, PAGE, 7), Ok(Did::Copy(0, PAGE, vec![7])));
    assert!(!dest.core.pages().is_received(0, PAGE), "not in place yet");
    dest.placed(Main, 0, PAGE, PAGE).unwrap();
    assert!(dest.core.pages().is_received(0, PAGE));
    assert_eq!(dest.zero(0, 0), Ok(Did::Zero(0, 0, PAGE)));
    dest.placed(Main, 0, 0, PAGE).unwrap();
    let stats = dest.core.stats();
    assert_eq!((stats.sweep, stats.demand, stats.zero), (2, 0, 1));
}

#[test]
fn assembles_host_pages_in_any_order() {
    for step in [1, 3, 5, 7, 15] {
        let mut dest = Dest::huge(4, false);
        let mut last = Ok(Did::Nothing);
        for part in shuffled(step) {
            assert_eq!(last, Ok(Did::Nothing));
            let byte = u8::try_from(part + 1).unwrap();
            last = dest.page(BIG, HUGE + part * PAGE, byte);
        }
        let want = (1..=u8::try_from(PARTS).unwrap()).collect();
        assert_eq!(last, Ok(Did::Copy(BIG, HUGE, want)));
        assert_eq!(dest.core.pages().received(BIG).unwrap().count(), 0);
        dest.placed(Main, BIG, HUGE, HUGE).unwrap();
        assert_eq!(dest.core.pages().received(BIG).unwrap().count(), PARTS);
    }
}

#[test]
fn keeps_an_incomplete_host_page_across_sections() {
    let mut dest = Dest::huge(1, false);
    for part in 0..PARTS {
        let kind = forward::SectionKind::Part;
        let section = Event::Section {
            kind,
            id: 2,
            identity: None,
        };
        dest.event(Main, section).unwrap();
        let did = dest.page(BIG, part * PAGE, 9).unwrap();
        assert_eq!(did == Did::Nothing, part + 1 < PARTS);
        dest.event(Main, Event::Record(Record::Eos)).unwrap();
        dest.event(Main, Event::Footer { id: 2 }).unwrap();
        dest.ping(u32::try_from(part).unwrap()).unwrap();
    }
}

#[test]
fn distinguishes_zero_host_pages_from_mixed_ones() {
    let mut dest = Dest::huge(3, false);
    // The buffer holds old bytes by now.
    for part in 0..PARTS {
        dest.page(BIG, part * PAGE, 0xaa).unwrap();
    }
    dest.placed(Main, BIG, 0, HUGE).unwrap();
    for part in 1..PARTS {
        assert_eq!(dest.zero(BIG, HUGE + part * PAGE), Ok(Did::Nothing));
    }
    assert_eq!(dest.zero(BIG, HUGE), Ok(Did::Zero(BIG, HUGE, HUGE)));
    dest.placed(Main, BIG, HUGE, HUGE).unwrap();

    let mut want = vec![0; usize::try_from(PARTS).unwrap()];
    let mut last = Did::Nothing;
    for part in shuffled(3) {
        let at = 2 * HUGE + part * PAGE;
        last = if part % 5 == 1 {
            want[usize::try_from(part).unwrap()] = 3;
            dest.page(BIG, at, 3).unwrap()
        } else {
            dest.zero(BIG, at).unwrap()
        };
    }
    assert_eq!(last, Did::Copy(BIG, 2 * HUGE, want));
    assert_eq!(dest.core.stats().zero, 1);
}

/// Regression test: a filled page was allocated, with the configured target page size, before
/// its block was checked.
#[test]
fn does_not_allocate_a_filled_page_for_an_unknown_block() {
    let mut dest = Dest::new(Config {
        target_page: 1 << 62,
        ..Config::default()
    });
    let fill = Record::Zero {
        block: forward::BlockIndex::new(0),
        offset: 0,
        fill: 5,
        named: true,
    };
    let what = refused(dest.event(Main, Event::Record(fill)));
    assert_eq!(what, ErrorKind::Block(BlockError::Unknown));
}

#[test]
fn treats_nonzero_fill_bytes_as_data() {
    let fill = |block, offset| {
        Event::Record(Record::Zero {
            block: forward::BlockIndex::new(block),
            offset,
            fill: 5,
            named: false,
        })
    };
    let mut dest = Dest::advised(1);
    assert_eq!(dest.event(Main, fill(0, 0)), Ok(Did::Write(0, 0, 5)));
    let mut dest = Dest::huge(1, false);
    assert_eq!(
        dest.event(Main, fill(0, 0)),
        Ok(Did::Copy(SMALL, 0, vec![5]))
    );
    dest.placed(Main, SMALL, 0, PAGE).unwrap();
    dest.event(Main, fill(1, 0)).unwrap();
    let mut last = Did::Nothing;
    for part in 1..PARTS {
        last = dest.zero(BIG, part * PAGE).unwrap();
    }
    let mut want = vec![0; usize::try_from(PARTS).unwrap()];
    want[0] = 5;
    assert_eq!(last, Did::Copy(BIG, 0, want));
}

#[test]
fn refuses_the_same_target_page_twice() {
    let mut dest = Dest::huge(1, false);
    for part in 0..PARTS - 1 {
        dest.page(BIG, part * PAGE, 1).unwrap();
    }
    // By a count of target pages, this would be complete.
    assert_eq!(
        refused(dest.page(BIG, 0, 1)),
        ErrorKind::Violation("the target page was sent twice within its host page")
    );
    assert_eq!(dest.core.phase(), Phase::Paused);
    assert_eq!(dest.core.stats().torn, 1);
}

#[test]
fn refuses_another_host_page_while_one_is_incomplete() {
    for (block, offset) in [(BIG, HUGE), (SMALL, 0)] {
        let mut dest = Dest::huge(2, false);
        dest.page(BIG, PAGE, 1).unwrap();
        let what = refused(dest.page(block, offset, 1));
        assert_eq!(what, ErrorKind::Interleaved { open: 0 });
        let mut dest = Dest::huge(2, false);
        dest.page(BIG, PAGE, 1).unwrap();
        let len = dest.core.blocks().block(block).unwrap().page;
        let run = dest.run(Main, block, offset, len);
        assert_eq!(refused(run), ErrorKind::Interleaved { open: 0 });
    }
}

#[test]
fn refuses_pages_already_received() {
    let mut dest = Dest::running(4);
    dest.serve(0, 0);
    let error = dest.page(0, 0, 1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Violation("the page was sent twice"));
    assert_eq!(error.channel, Some(Main));
    assert_eq!(error.phase, Phase::Running);
    assert_eq!(
        error.to_string(),
        "block ram at 0x0: the page was sent twice [main channel, running]: \
         the source violates the protocol; check that the right peer is connected"
    );
    assert_eq!(dest.core.stats().duplicates, 1);
    assert_eq!(dest.core.phase(), Phase::Paused);

    let mut dest = Dest::running(4);
    dest.page(0, 0, 1).unwrap();
    assert_eq!(
        refused(dest.zero(0, 0)),
        ErrorKind::Violation("the page was sent twice"),
        "being placed"
    );

    let mut dest = Dest::running(4);
    dest.serve(0, 2 * PAGE);
    let run = dest.run(Main, 0, 0, 4 * PAGE);
    assert_eq!(
        refused(run),
        ErrorKind::Violation("the page was sent twice")
    );

    // Sent before the switch and not discarded.
    let mut dest = Dest::advised(4);
    dest.page(0, 0, 1).unwrap();
    dest.switch();
    assert_eq!(
        refused(dest.page(0, 0, 1)),
        ErrorKind::Violation("the page was sent twice")
    );
}

#[test]
fn keeps_the_channels_host_pages_separate() {
    let mut dest = Dest::huge(2, true);
    for part in 0..PARTS {
        dest.page_on(Main, BIG, part * PAGE, 1).unwrap();
        let did = dest.page_on(Preempt, BIG, HUGE + part * PAGE, 2).unwrap();
        assert_eq!(did == Did::Nothing, part + 1 < PARTS);
    }
    dest.placed(Preempt, BIG, HUGE, HUGE).unwrap();
    dest.placed(Main, BIG, 0, HUGE).unwrap();

    for (channel, want) in [
        (Main, ErrorKind::Interleaved { open: 0 }),
        (
            Preempt,
            ErrorKind::Violation("the host page is split across both channels"),
        ),
    ] {
        let mut dest = Dest::huge(2, true);
        dest.page_on(Main, BIG, PAGE, 1).unwrap();
        let run = dest.run(channel, BIG, 0, HUGE);
        assert_eq!(refused(run), want);
    }
    let mut dest = Dest::huge(2, true);
    dest.page_on(Main, BIG, PAGE, 1).unwrap();
    let what = refused(dest.page_on(Preempt, BIG, 0, 1));
    assert_eq!(
        what,
        ErrorKind::Violation("the host page is split across both channels")
    );
    let mut dest = Dest::huge(2, true);
    dest.run(Main, SMALL, 0, 4 * PAGE).unwrap();
    let what = refused(dest.page_on(Preempt, SMALL, PAGE, 1));
    assert_eq!(
        what,
        ErrorKind::Violation("the page was sent twice"),
        "it is on its way on the main channel"
    );
}

#[test]
fn refuses_events_that_the_preempt_channel_must_not_carry() {
    let mut dest = Dest::running(4);
    assert_eq!(
        refused(dest.page_on(Preempt, 0, 0, 1)),
        ErrorKind::Misuse("no preempt channel was agreed")
    );
    assert_eq!(dest.core.phase(), Phase::Running, "an error of the caller");
    for event in [Event::Eof, Event::Header, Event::PackageEnd] {
        let what = refused(Dest::huge(2, true).event(Preempt, event));
        assert!(matches!(what, ErrorKind::OnPreempt { .. }));
    }
    let preempt = || {
        Dest::new(Config {
            preempt: true,
            ..Config::default()
        })
    };
    let mut dest = preempt();
    dest.advise(&[("ram", PAGE)], PAGE);
    let what = refused(dest.page_on(Preempt, 0, 0, 1));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }), "before LISTEN");
    let mut dest = preempt();
    dest.advise(&[("ram", PAGE)], PAGE);
    dest.switch();
    dest.event(Preempt, Event::Record(Record::Eos)).unwrap();
    let what = refused(dest.page_on(Preempt, 0, 0, 1));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }), "after EOS");
}

#[test]
fn places_runs_in_parts() {
    let mut dest = Dest::running(16);
    dest.run(Main, 0, 0, 8 * PAGE).unwrap();
    dest.run(Main, 0, 8 * PAGE, 8 * PAGE).unwrap();
    dest.placed(Main, 0, 8 * PAGE, PAGE).unwrap();
    dest.placed(Main, 0, 0, 8 * PAGE).unwrap();
    for wrong in [
        (0, PAGE),
        (8 * PAGE, PAGE),
        (9 * PAGE, 8 * PAGE),
        (9 * PAGE, 1),
        (9 * PAGE, 0),
    ] {
        let what = refused(dest.placed(Main, 0, wrong.0, wrong.1));
        assert_eq!(
            what,
            ErrorKind::Misuse("the range was not handed out for placement")
        );
    }
    assert_eq!(
        refused(dest.placed(Preempt, 0, 9 * PAGE, PAGE)),
        ErrorKind::Misuse("the range was not handed out for placement")
    );
    assert_eq!(
        refused(dest.placed(Main, 9, 9 * PAGE, PAGE)),
        ErrorKind::Misuse("the range was not handed out for placement")
    );
    assert_eq!(dest.core.phase(), Phase::Running);
    dest.placed(Main, 0, 9 * PAGE, 7 * PAGE).unwrap();
    assert_eq!(dest.core.pages().missing(), 0);
    assert_eq!(dest.core.stats().sweep, 16);
}

#[test]
fn refuses_runs_of_partial_host_pages() {
    let range = |start, len| match BlockError::Unknown {
        _ if len == 0 => ErrorKind::Block(BlockError::Empty),
        _ if start % PAGE > 0 || len % PAGE > 0 => {
            let page = PAGE;
            ErrorKind::Block(BlockError::Unaligned { start, len, page })
        }
        _ => {
            let block = 4 * PAGE;
            ErrorKind::Block(BlockError::Overrun { start, len, block })
        }
    };
    for (start, len) in [
        (0, 0),
        (0, 5 * PAGE),
        (u64::MAX - PAGE + 1, PAGE),
        (1, PAGE),
        (0, PAGE + 1),
    ] {
        let what = refused(Dest::running(4).run(Main, 0, start, len));
        assert_eq!(what, range(start, len));
    }
    let what = refused(Dest::running(4).run(Main, 1, 0, PAGE));
    assert_eq!(what, ErrorKind::Block(BlockError::Unknown));
    let what = refused(Dest::advised(4).run(Main, 0, 0, PAGE));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }), "before LISTEN");
}

#[test]
fn limits_the_ranges_that_are_handed_out() {
    let runs = u64::try_from(MAX_RUNS).unwrap();
    let mut dest = Dest::running(runs + 1);
    for page in 0..runs {
        dest.page(0, page * PAGE, 1).unwrap();
    }
    assert_eq!(
        refused(dest.page(0, runs * PAGE, 1)),
        ErrorKind::Misuse("too many ranges are already being placed")
    );
    dest.placed(Main, 0, 0, PAGE).unwrap();
    dest.page(0, runs * PAGE, 1).unwrap();

    // A target page that was refused can be sent again.
    let mut dest = Dest::huge(runs + 1, false);
    for page in 0..runs {
        dest.run(Main, BIG, page * HUGE, HUGE).unwrap();
    }
    assert_eq!(
        refused(dest.page(BIG, runs * HUGE, 1)),
        ErrorKind::Misuse("too many ranges are already being placed")
    );
    dest.placed(Main, BIG, 0, HUGE).unwrap();
    for part in 0..PARTS {
        let did = dest.page(BIG, runs * HUGE + part * PAGE, 1).unwrap();
        assert_eq!(did == Did::Nothing, part + 1 < PARTS);
    }
}

#[test]
fn refuses_pages_outside_their_block() {
    let block = 4 * PAGE;
    let (start, len) = (block, PAGE);
    let overrun = ErrorKind::Block(BlockError::Overrun { start, len, block });
    for mut dest in [Dest::advised(4), Dest::running(4)] {
        assert_eq!(refused(dest.page(0, 4 * PAGE, 1)), overrun);
    }
    let what = refused(Dest::running(4).page(1, 0, 1));
    assert_eq!(what, ErrorKind::Block(BlockError::Unknown));
    let what = refused(Dest::running(4).page(0, 1, 1));
    assert!(matches!(
        what,
        ErrorKind::Block(BlockError::Unaligned { .. })
    ));
    let record = Record::Page {
        block: forward::BlockIndex::new(0),
        offset: 0,
        data: &[0; 100],
        named: false,
    };
    let mut dest = Dest::running(4);
    let what = refused(dest.event(Main, Event::Record(record)));
    assert_eq!(
        what,
        ErrorKind::Misuse("a target page with data of another length")
    );
    assert_eq!(dest.core.phase(), Phase::Running);
}
