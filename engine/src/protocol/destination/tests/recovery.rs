use super::*;
use crate::blocks::BlockError;
use retpath_codec::wire::value::PING_PACKAGE_LOADED;

fn bitmap(dest: &mut Dest, block: &str) -> Result<(), Error> {
    dest.command(&Command::RecvBitmap { block: name(block) })
}

fn resume(dest: &mut Dest) -> Result<(), Error> {
    dest.command(&Command::PostcopyResume)
}

#[test]
fn sends_received_bitmaps_and_repeats_requests() {
    let mut dest = Dest::huge(2, false);
    dest.serve(0, 0);
    dest.serve(0, 3 * PAGE);
    dest.page(1, 0, 1).unwrap();
    dest.fault(0, 5 * PAGE);
    dest.fault(1, HUGE);
    dest.fault(0, 3 * PAGE);
    assert_eq!(dest.said().len(), 2);

    dest.core.link_lost(Main).unwrap();
    assert_eq!(dest.core.phase(), Phase::Paused);
    assert_eq!(dest.core.stats().torn, 1);
    assert_eq!(dest.fault(0, 4 * PAGE), PageState::Missing);
    assert_eq!(dest.fault(1, HUGE), PageState::Requested);
    assert_eq!(dest.said(), [""; 0], "the connection is down");

    dest.core.link_restored().unwrap();
    assert_eq!(dest.core.phase(), Phase::Recovering);
    dest.fault(0, 6 * PAGE);
    bitmap(&mut dest, "huge").unwrap();
    bitmap(&mut dest, "ram").unwrap();
    dest.ping(9).unwrap();
    assert_eq!(
        dest.said(),
        [
            "RECV_BITMAP huge",
            "[]",
            "RECV_BITMAP ram",
            "[0, 3]",
            "PONG 0x9"
        ]
    );
    resume(&mut dest).unwrap();
    assert_eq!(dest.core.phase(), Phase::Running);
    // In order of the blocks; the first request names its block.
    assert_eq!(
        dest.said(),
        [
            "RESUME_ACK",
            "ram 0x4000+0x1000",
            "0x5000+0x1000",
            "0x6000+0x1000",
            "huge 0x10000+0x10000"
        ]
    );
    assert_eq!(dest.core.stats().requests_repeated, 4);
    // The incomplete host page is sent from its start again.
    for part in 0..HUGE / PAGE {
        dest.page(1, part * PAGE, 1).unwrap();
    }
    dest.placed(Main, 1, 0, HUGE).unwrap();
}

#[test]
fn resumes_from_the_bitmaps_of_another_process() {
    let mut first = Dest::huge(2, false);
    first.serve(0, 0);
    first.serve(0, 3 * PAGE);
    let blocks = first.core.blocks().iter().enumerate().map(|(id, block)| {
        let mut words = first.core.pages().received(id).unwrap().words().to_vec();
        if block.page > PAGE {
            // An incomplete host page, as a killed process may leave it.
            words[0] |= 1 << 3;
        }
        (block.clone(), words)
    });
    let core = Destination::resumed(Config::default(), blocks, Some(&[])).unwrap();
    assert_eq!(core.pages().missing(), first.core.pages().missing());
    let mut dest = Dest { core, ..first };
    assert_eq!(dest.core.phase(), Phase::Paused);
    assert!(dest.core.poll().is_none());
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "huge").unwrap();
    bitmap(&mut dest, "ram").unwrap();
    resume(&mut dest).unwrap();
    assert_eq!(
        dest.said(),
        [
            "RECV_BITMAP huge",
            "[]",
            "RECV_BITMAP ram",
            "[0, 3]",
            "RESUME_ACK"
        ]
    );
    dest.serve(0, PAGE);
    let error = dest.page(0, 0, 1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Violation("the page was sent twice"));
}

/// A migration just before the package with the device state.
fn before_devices(give_back: bool) -> Dest {
    let mut dest = Dest::new(Config {
        give_back,
        ..Config::default()
    });
    dest.advise(&[("ram", 4 * PAGE)], PAGE);
    dest.page(0, 0, 1).unwrap();
    dest.page(0, PAGE, 1).unwrap();
    dest.discard("ram", &[(0, PAGE)]).unwrap();
    dest
}

#[test]
fn gives_the_guest_back_if_the_connection_was_lost_before_the_device_state() {
    let mut dest = before_devices(true);
    dest.said();
    dest.core.link_lost(Main).unwrap();
    assert_eq!(dest.core.phase(), Phase::Paused);
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    resume(&mut dest).unwrap();
    assert_eq!(dest.said(), ["RECV_BITMAP ram", "[]", "RESUME_ACK"]);
    for page in 0..4 {
        dest.serve(0, page * PAGE);
    }
    let error = dest.event(Main, Event::Eof).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DevicesLost);
    assert_eq!(dest.core.phase(), Phase::Failed);
    assert_eq!(dest.said(), ["SHUT 1"]);
}

#[test]
fn fails_immediately_if_the_source_does_not_pause_at_the_switch() {
    let mut dest = before_devices(false);
    assert!(dest.core.link_lost(Main).is_err());
    assert_eq!(dest.core.phase(), Phase::Failed);

    let mut dest = before_devices(true);
    dest.core.machine(b"pc-i440fx-10.2");
    assert!(dest.core.link_lost(Main).is_err());

    let mut dest = Dest::new(Config {
        give_back: true,
        ..Config::default()
    });
    dest.advise(&[("ram", 4 * PAGE)], PAGE);
    assert!(
        dest.core.link_lost(Main).is_err(),
        "the guest still runs at the source"
    );
}

#[test]
fn requests_each_page_once_while_the_outbox_is_drained_in_parts() {
    let pages = 10_000;
    let mut dest = Dest::running(pages);
    for page in (0..pages).step_by(2) {
        dest.fault(0, page * PAGE);
    }
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    resume(&mut dest).unwrap();
    let mut bytes = std::mem::take(dest.core.outbox());
    // Faults behind and ahead of the repetition's cursor.
    assert_eq!(dest.fault(0, PAGE), PageState::Missing);
    assert_eq!(dest.fault(0, (pages - 1) * PAGE), PageState::Missing);
    while !dest.core.outbox().is_empty() {
        assert!(dest.core.outbox().len() < 20_000, "a part at a time");
        bytes.append(dest.core.outbox());
    }
    let mut stream = Stream::<Qemu>::new(u64::MAX);
    let mut input = bytes.as_slice();
    let mut seen = std::collections::HashSet::new();
    while let Some(item) = stream.next(&mut input).unwrap() {
        if let Item::Message {
            message: Message::ReqPages { start, .. } | Message::ReqPagesId { start, .. },
            ..
        } = item
        {
            assert!(seen.insert(start), "{start:#x} twice");
        }
    }
    let count = u64::try_from(seen.len()).unwrap();
    assert_eq!(count, pages / 2 + 2);
}

#[test]
fn recovers_repeatedly() {
    let mut dest = Dest::running(10);
    dest.fault(0, 9 * PAGE);
    for round in 0..9 {
        dest.core.link_lost(Main).unwrap();
        dest.core.link_lost(Preempt).unwrap();
        dest.core.link_restored().unwrap();
        // The connection is lost again during the recovery.
        bitmap(&mut dest, "ram").unwrap();
        dest.core.link_lost(Main).unwrap();
        assert_eq!(
            dest.said(),
            [""; 0],
            "the answer was dropped with the connection"
        );
        dest.core.link_restored().unwrap();
        bitmap(&mut dest, "ram").unwrap();
        resume(&mut dest).unwrap();
        let received: Vec<u64> = (0..round).collect();
        assert_eq!(
            dest.said(),
            [
                "RECV_BITMAP ram",
                &format!("{received:?}"),
                "RESUME_ACK",
                "ram 0x9000+0x1000"
            ]
        );
        dest.serve(0, round * PAGE);
    }
    dest.serve(0, 9 * PAGE);
    dest.eof().unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);
    let stats = dest.core.stats();
    assert_eq!((stats.pauses, stats.resumes), (18, 9));
    assert_eq!(stats.latency.total.count(), 1);
}

#[test]
fn fails_when_the_connection_is_lost_before_the_guest_may_run() {
    let mut listening = Dest::advised(4);
    listening.command(&Command::Packaged { size: 1 }).unwrap();
    listening.command(&Command::PostcopyListen).unwrap();
    for mut dest in [Dest::new(Config::default()), Dest::advised(4), listening] {
        let error = dest.core.link_lost(Main).unwrap_err();
        assert_eq!(error.kind, ErrorKind::LinkLost);
        assert_eq!(error.kind.blame(), Blame::Link);
        assert_eq!(dest.core.phase(), Phase::Failed);
        assert_eq!(dest.said(), [""; 0], "there is no connection");
        assert_eq!(
            refused(dest.core.link_restored()),
            ErrorKind::Misuse("the migration is not paused")
        );
        assert_eq!(
            refused(dest.eof()),
            ErrorKind::Misuse("the migration has already failed")
        );
        assert_eq!(dest.core.link_lost(Main), Ok(()));
    }
    let mut dest = Dest::advised(4);
    let error = dest.core.link_lost(Preempt).unwrap_err();
    assert_eq!(error.kind, ErrorKind::LinkLost);
    assert_eq!(dest.said(), ["SHUT 1"], "the main channel is up");
}

#[test]
fn refuses_events_while_the_connection_is_down() {
    let mut dest = Dest::running(4);
    dest.core.link_lost(Main).unwrap();
    assert_eq!(
        refused(dest.page(0, 0, 1)),
        ErrorKind::Misuse("an event came while the connection is down")
    );
    assert_eq!(
        refused(dest.ping(1)),
        ErrorKind::Misuse("an event came while the connection is down")
    );
    assert_eq!(
        refused(dest.run(Main, 0, 0, PAGE)),
        ErrorKind::Misuse("an event came while the connection is down")
    );
    assert_eq!(dest.core.phase(), Phase::Paused);
}

#[test]
fn keeps_pages_that_are_placed_while_the_connection_is_down() {
    let mut dest = Dest::huge(1, true);
    dest.page_on(Preempt, 0, 0, 1).unwrap();
    dest.core.link_lost(Main).unwrap();
    let error = dest.core.link_restored().unwrap_err();
    assert_eq!(
        error.kind,
        ErrorKind::Misuse("a range is still being placed")
    );
    dest.placed(Preempt, 0, 0, PAGE).unwrap();
    dest.core.link_lost(Preempt).unwrap();
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    assert_eq!(dest.said(), ["RECV_BITMAP ram", "[0]"]);
}

#[test]
fn refuses_to_recover_a_migration_that_is_not_paused() {
    let mut dest = Dest::running(4);
    assert_eq!(
        refused(dest.core.link_restored()),
        ErrorKind::Misuse("the migration is not paused")
    );
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    assert_eq!(
        refused(dest.core.link_restored()),
        ErrorKind::Misuse("the migration is not paused")
    );
    assert_eq!(dest.core.phase(), Phase::Recovering);
}

#[test]
fn refuses_recovery_commands_in_the_wrong_order() {
    let recovering = || {
        let mut dest = Dest::huge(2, false);
        dest.core.link_lost(Main).unwrap();
        dest.core.link_restored().unwrap();
        dest
    };
    let mut dest = recovering();
    bitmap(&mut dest, "ram").unwrap();
    let error = resume(&mut dest).unwrap_err();
    assert_eq!(
        error.kind,
        ErrorKind::Violation("POSTCOPY_RESUME came before the received bitmap was requested")
    );
    assert_eq!(error.location.unwrap().block, names("huge"));
    assert_eq!(dest.core.phase(), Phase::Paused);

    let mut dest = recovering();
    bitmap(&mut dest, "ram").unwrap();
    assert_eq!(
        refused(bitmap(&mut dest, "ram")),
        ErrorKind::Violation("the received bitmap was requested twice")
    );
    let mut dest = recovering();
    assert_eq!(
        refused(bitmap(&mut dest, "rom")),
        ErrorKind::Block(BlockError::Unknown)
    );
    let mut dest = recovering();
    assert!(matches!(
        refused(dest.page(0, 0, 1)),
        ErrorKind::OutOfTurn { .. }
    ));
    let mut dest = recovering();
    let what = refused(dest.event(Main, Event::Record(Record::Eos)));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }), "{what:?}");
    let mut dest = recovering();
    assert!(matches!(refused(dest.eof()), ErrorKind::OutOfTurn { .. }));
    let mut dest = recovering();
    let what = refused(dest.discard("ram", &[(0, PAGE)]));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }));
    // The recovery can be tried again after each error.
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    bitmap(&mut dest, "huge").unwrap();
    resume(&mut dest).unwrap();
    assert_eq!(dest.core.phase(), Phase::Running);
}

#[test]
fn answers_ping_0x42_on_the_next_connection() {
    let mut dest = Dest::advised(1);
    dest.package(&[PING_PACKAGE_LOADED]).unwrap();
    dest.core.link_lost(Main).unwrap();
    dest.core.device_state_saved().unwrap();
    assert_eq!(dest.said(), [""; 0]);
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    resume(&mut dest).unwrap();
    assert_eq!(dest.said()[2..], ["RESUME_ACK", "PONG 0x42"]);
}

#[test]
fn completes_the_device_state_when_the_connection_is_lost_after_run() {
    let mut dest = Dest::advised(1);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    dest.command(&Command::PostcopyListen).unwrap();
    dest.command(&Command::PostcopyRun).unwrap();
    // The end of the package is lost.
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    dest.core.device_state_saved().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    resume(&mut dest).unwrap();
    dest.serve(0, 0);
    dest.eof().unwrap();
    assert_eq!(dest.core.phase(), Phase::Finished);
}

#[test]
fn measures_a_request_from_when_it_was_written_on_the_new_connection() {
    let mut dest = Dest::running(4);
    let core = &mut dest.core;
    core.fault(0, 0, 1_000).unwrap();
    core.outbox().clear();
    core.written(2_000);
    core.link_lost(Main).unwrap();
    core.link_restored().unwrap();
    dest.now = 500_000;
    bitmap(&mut dest, "ram").unwrap();
    resume(&mut dest).unwrap();
    // Written on the new connection, but not reported.
    dest.said();
    dest.serve(0, 0);
    let latency = &dest.core.stats().latency;
    assert_eq!((latency.total.count(), latency.transfer.count()), (1, 0));
}

#[test]
fn sends_nothing_after_shut_even_if_requests_have_to_be_repeated() {
    let pages = 10_000;
    let mut dest = Dest::running(pages);
    for page in 0..pages {
        dest.fault(0, page * PAGE);
    }
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    resume(&mut dest).unwrap();
    dest.core.outbox();
    let repeated = dest.core.stats().requests_repeated;
    assert!(repeated < pages);
    dest.eof().unwrap_err();
    assert_eq!(dest.said().last().unwrap(), "SHUT 1");
    assert_eq!(dest.core.stats().requests_repeated, repeated);
}
