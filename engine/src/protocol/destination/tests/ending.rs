use super::*;

fn preempt(pages: u64) -> Dest {
    let mut dest = Dest::new(Config {
        preempt: true,
        ..Config::default()
    });
    dest.advise(&[("ram", pages * PAGE)], PAGE);
    dest.switch();
    dest
}

const MISSING_ONE: ErrorKind = ErrorKind::Incomplete { missing: 1 };

#[test]
fn sends_shut_0_once_and_last_when_every_page_is_received() {
    let mut dest = Dest::running(2);
    dest.serve(0, 0);
    dest.ping(4).unwrap();
    dest.serve(0, PAGE);
    assert_eq!(dest.said(), ["PONG 0x4"]);
    assert!(!dest.core.is_main_ended());
    dest.eof().unwrap();
    assert!(dest.core.is_main_ended());
    assert_eq!(dest.said(), ["SHUT 0"]);
    assert_eq!(dest.actions(), [Action::Finished(Ending::Postcopy)]);
    assert!(matches!(refused(dest.ping(1)), ErrorKind::OutOfTurn { .. }));
    assert!(matches!(refused(dest.eof()), ErrorKind::OutOfTurn { .. }));
    dest.core.end_of_stream(Main).unwrap();
    dest.core.link_lost(Main).unwrap();
    assert_eq!(dest.said(), [""; 0]);
    assert_eq!(dest.core.phase(), Phase::Finished);
}

#[test]
fn refuses_to_finish_with_pages_missing() {
    let mut dest = Dest::running(4);
    dest.serve(0, PAGE);
    let error = dest.eof().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Incomplete { missing: 3 });
    assert_eq!(
        error.to_string(),
        "block ram at 0x0: the stream ended, but 3 target pages are missing (this is the first) \
         [main channel, running]: the source was told; do not run a guest on this memory"
    );
    assert_eq!(dest.said(), ["SHUT 1"]);
    assert_eq!(dest.actions(), []);
    assert_eq!(dest.core.phase(), Phase::Failed);
}

#[test]
fn sends_shut_once_the_device_state_is_saved() {
    let mut dest = Dest::advised(1);
    dest.package(&[]).unwrap();
    dest.serve(0, 0);
    dest.eof().unwrap();
    assert_eq!(dest.said(), [""; 0]);
    assert_eq!(dest.core.phase(), Phase::Running);
    dest.core.device_state_saved().unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);
}

#[test]
fn finishes_once_all_pages_are_placed() {
    let mut dest = Dest::running(2);
    dest.run(Main, 0, 0, 2 * PAGE).unwrap();
    dest.eof().unwrap();
    dest.placed(Main, 0, 0, PAGE).unwrap();
    assert_eq!(dest.said(), [""; 0]);
    dest.placed(Main, 0, PAGE, PAGE).unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);

    // One page is being placed, but no channel can deliver the other one.
    let mut dest = Dest::running(2);
    dest.run(Main, 0, 0, PAGE).unwrap();
    assert_eq!(refused(dest.eof()), ErrorKind::Incomplete { missing: 2 });
    assert_eq!(dest.said(), ["SHUT 1"]);
    dest.placed(Main, 0, 0, PAGE).unwrap();
}

#[test]
fn waits_for_the_preempt_channel_after_the_end_of_the_main_one() {
    let mut dest = preempt(2);
    dest.serve(0, 0);
    dest.eof().unwrap();
    assert_eq!(dest.said(), [""; 0]);
    dest.core.end_of_stream(Main).unwrap();
    dest.page_on(Preempt, 0, PAGE, 1).unwrap();
    dest.core.end_of_stream(Preempt).unwrap();
    assert_eq!(dest.core.phase(), Phase::Running);
    dest.placed(Preempt, 0, PAGE, PAGE).unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);
}

#[test]
fn an_eos_on_the_main_channel_does_not_end_the_preempt_channel() {
    let mut dest = preempt(2);
    dest.event(Main, Event::Record(Record::Eos)).unwrap();
    assert_eq!(
        dest.page_on(Preempt, 0, PAGE, 1),
        Ok(Did::Copy(0, PAGE, vec![1]))
    );
}

#[test]
fn reports_whether_there_is_a_return_path() {
    let mut dest = Dest::new(Config::default());
    assert!(!dest.core.has_return_path());
    dest.event(Main, Event::Header).unwrap();
    dest.command(&Command::OpenReturnPath).unwrap();
    assert!(dest.core.has_return_path());
}

#[test]
fn reports_whether_the_source_has_switched() {
    let state = |dest: &Dest| {
        let core = &dest.core;
        (
            core.is_listening(),
            core.has_switched(),
            core.is_main_ended(),
        )
    };
    let mut dest = Dest::advised(1);
    assert_eq!(state(&dest), (false, false, false));
    dest.switch();
    assert_eq!(state(&dest), (true, true, false));
    let mut dest = Dest::advised(1);
    dest.page(0, 0, 1).unwrap();
    dest.eof().unwrap();
    assert_eq!(state(&dest), (false, true, true), "precopy all the way");
}

#[test]
fn waits_for_a_preempt_channel_that_is_expected_later() {
    let mut dest = Dest::running(2);
    dest.serve(0, 0);
    dest.core.expect_preempt();
    dest.eof().unwrap();
    assert_eq!(dest.core.phase(), Phase::Running);
    dest.page_on(Preempt, 0, PAGE, 1).unwrap();
    dest.placed(Preempt, 0, PAGE, PAGE).unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);
}

#[test]
fn refuses_events_after_the_end_of_the_main_channel() {
    let mut dest = preempt(2);
    dest.serve(0, 0);
    dest.eof().unwrap();
    let what = refused(dest.event(Main, Event::Record(Record::Eos)));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }), "{what:?}");
}

#[test]
fn fails_when_the_preempt_channel_ends_with_pages_missing() {
    // Ended by EOS or by closing, before or after the main channel's end.
    for eos in [true, false] {
        for first in [true, false] {
            let mut dest = preempt(2);
            dest.serve(0, 0);
            let end = |dest: &mut Dest| match eos {
                true => dest.event(Preempt, Event::Record(Record::Eos)).map(|_| ()),
                false => dest.core.end_of_stream(Preempt),
            };
            let result = if first {
                end(&mut dest).unwrap();
                dest.eof().map(|_| ())
            } else {
                dest.eof().unwrap();
                end(&mut dest)
            };
            assert_eq!(refused(result), MISSING_ONE);
            assert_eq!(dest.said(), ["SHUT 1"]);
        }
    }
}

#[test]
fn fails_when_the_main_channel_ends_inside_a_host_page() {
    let mut dest = Dest::huge(1, true);
    dest.page(1, 0, 1).unwrap();
    // The rest cannot come on the preempt channel.
    assert!(matches!(refused(dest.eof()), ErrorKind::Incomplete { .. }));
    assert_eq!(dest.said(), ["SHUT 1"]);
}

#[test]
fn pauses_when_the_preempt_channel_ends_inside_a_host_page() {
    let mut dest = Dest::huge(2, true);
    dest.page_on(Preempt, 1, 0, 1).unwrap();
    dest.core.end_of_stream(Preempt).unwrap();
    assert_eq!(dest.core.phase(), Phase::Paused);
}

#[test]
fn pauses_when_a_channel_closes_before_the_end() {
    let mut dest = Dest::running(1);
    dest.core.end_of_stream(Main).unwrap();
    assert_eq!(dest.core.phase(), Phase::Paused);
    let mut dest = Dest::advised(1);
    assert_eq!(refused(dest.core.end_of_stream(Main)), ErrorKind::LinkLost);
}

#[test]
fn waits_for_the_preempt_channel_of_the_new_connection() {
    let mut dest = preempt(2);
    dest.core.end_of_stream(Preempt).unwrap();
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    dest.command(&Command::RecvBitmap { block: name("ram") })
        .unwrap();
    dest.command(&Command::PostcopyResume).unwrap();
    dest.said();
    dest.serve(0, 0);
    dest.eof().unwrap();
    dest.page_on(Preempt, 0, PAGE, 1).unwrap();
    dest.placed(Preempt, 0, PAGE, PAGE).unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);
}

#[test]
fn accepts_a_stream_without_a_switch() {
    for advised in [true, false] {
        let mut dest = Dest::new(Config::default());
        if advised {
            dest.advise(&[("ram", 2 * PAGE)], PAGE);
            dest.zero(0, PAGE).unwrap();
        } else {
            dest.command(&Command::OpenReturnPath).unwrap();
            dest.block("ram", 2 * PAGE).unwrap();
            dest.actions();
        }
        dest.page(0, 0, 1).unwrap();
        let bytes = &[1];
        dest.event(Main, Event::DeviceState { id: 3, bytes })
            .unwrap();
        dest.eof().unwrap();
        assert_eq!(dest.actions(), [Action::DeviceStateComplete]);
        assert_eq!(dest.said(), [""; 0]);
        dest.event(Main, Event::Description { size: 1 }).unwrap();
        dest.core.device_state_saved().unwrap();
        assert_eq!(dest.actions(), [Action::Finished(Ending::Precopy)]);
        assert_eq!(dest.said(), ["SHUT 0"]);
        dest.event(Main, Event::DescriptionBytes(b"{")).unwrap();
        dest.core.end_of_stream(Main).unwrap();
        assert_eq!(
            refused(dest.core.link_restored()),
            ErrorKind::Misuse("the migration is not paused")
        );
    }
}

#[test]
fn refuses_an_end_in_precopy_that_is_not_allowed_or_incomplete() {
    let mut dest = Dest::new(Config {
        accept_precopy_end: false,
        ..Config::default()
    });
    dest.advise(&[("ram", PAGE)], PAGE);
    dest.page(0, 0, 1).unwrap();
    assert_eq!(refused(dest.eof()), ErrorKind::NoSwitch);
    assert_eq!(dest.said(), ["SHUT 1"]);

    // After POSTCOPY_ADVISE a source leaves nothing out.
    let mut dest = Dest::advised(2);
    dest.page(0, 0, 1).unwrap();
    assert_eq!(refused(dest.eof()), MISSING_ONE);
    assert_eq!(dest.said(), ["SHUT 1"]);
}

#[test]
fn refuses_an_end_before_the_guest_may_run_or_inside_the_package() {
    let inside = ErrorKind::OutOfTurn {
        what: "the end of the stream inside the package",
    };
    let mut dest = Dest::advised(1);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    assert_eq!(refused(dest.eof()), inside);
    let mut dest = Dest::advised(1);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    dest.command(&Command::PostcopyListen).unwrap();
    assert_eq!(refused(dest.eof()), inside);
    assert_eq!(dest.core.phase(), Phase::Failed);
    assert_eq!(dest.said(), ["SHUT 1"]);
}

#[test]
fn refuses_an_unexpected_description() {
    let mut dest = Dest::advised(1);
    let what = refused(dest.event(Main, Event::Description { size: 1 }));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }));
    let mut dest = Dest::running(1);
    dest.serve(0, 0);
    dest.eof().unwrap();
    let what = refused(dest.event(Main, Event::DescriptionBytes(b"{")));
    assert!(
        matches!(what, ErrorKind::OutOfTurn { .. }),
        "after postcopy"
    );
}

#[test]
fn sends_shut_again_to_a_source_that_missed_it() {
    let mut dest = Dest::running(2);
    dest.serve(0, 0);
    dest.serve(0, PAGE);
    dest.eof().unwrap();
    // The connection is lost before the source reads SHUT.
    dest.core.link_lost(Main).unwrap();
    dest.actions();
    dest.core.link_restored().unwrap();
    dest.command(&Command::RecvBitmap { block: name("ram") })
        .unwrap();
    dest.command(&Command::PostcopyResume).unwrap();
    dest.eof().unwrap();
    assert_eq!(
        dest.said(),
        ["RECV_BITMAP ram", "[0, 1]", "RESUME_ACK", "SHUT 0"]
    );
    assert_eq!(dest.actions(), [], "finished once");
    assert_eq!(dest.core.phase(), Phase::Finished);
}

/// Regression test: the EOS of a source up to QEMU 7.2 follows the main channel's end, and
/// was an error if all pages had been received.
#[test]
fn accepts_the_end_of_an_early_preempt_channel_after_all_pages() {
    let mut dest = Dest::huge(1, true);
    let eos = |dest: &mut Dest| dest.event(Preempt, Event::Record(Record::Eos));
    for page in 0..16 {
        dest.serve(0, page * PAGE);
    }
    for page in 0..16 {
        dest.zero(1, page * PAGE).unwrap();
    }
    dest.placed(Main, 1, 0, HUGE).unwrap();
    dest.eof().unwrap();
    assert_eq!(dest.core.phase(), Phase::Finished);
    assert_eq!(eos(&mut dest), Ok(Did::Nothing));
    assert_eq!(dest.core.phase(), Phase::Finished);
    let what = refused(eos(&mut dest));
    assert!(
        matches!(what, ErrorKind::OutOfTurn { .. }),
        "nothing follows it"
    );
}

#[test]
fn sends_shut_once_the_end_is_confirmed() {
    let mut dest = Dest::new(Config {
        confirm_end: true,
        ..Config::default()
    });
    dest.advise(&[("ram", PAGE)], PAGE);
    dest.switch();
    dest.said();
    assert_eq!(
        refused(dest.core.confirm()),
        ErrorKind::Misuse("the migration is not complete")
    );
    dest.serve(0, 0);
    dest.actions();
    dest.eof().unwrap();
    assert_eq!(dest.actions(), [Action::Complete(Ending::Postcopy)]);
    assert_eq!(dest.said(), [""; 0]);
    assert_eq!(dest.core.phase(), Phase::Running);
    dest.core.confirm().unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);
    assert_eq!(dest.actions(), [Action::Finished(Ending::Postcopy)]);
}

#[test]
fn sends_shut_after_a_recovery_if_confirmed_without_a_connection() {
    let mut dest = Dest::new(Config {
        confirm_end: true,
        ..Config::default()
    });
    dest.advise(&[("ram", PAGE)], PAGE);
    dest.switch();
    dest.serve(0, 0);
    dest.eof().unwrap();
    dest.core.link_lost(Main).unwrap();
    dest.core.confirm().unwrap();
    dest.actions();
    assert_eq!(dest.said(), [""; 0]);
    dest.core.link_restored().unwrap();
    dest.command(&Command::RecvBitmap { block: name("ram") })
        .unwrap();
    dest.command(&Command::PostcopyResume).unwrap();
    dest.eof().unwrap();
    assert_eq!(dest.said().last().map(String::as_str), Some("SHUT 0"));
    assert_eq!(dest.actions(), [Action::Finished(Ending::Postcopy)]);
}

#[test]
fn abort_sends_shut_1_unless_the_migration_is_over() {
    let mut dest = Dest::running(1);
    dest.said();
    dest.core.abort();
    assert_eq!(dest.said(), ["SHUT 1"]);
    assert_eq!(dest.core.phase(), Phase::Failed);
    dest.core.abort();
    assert_eq!(dest.said(), [""; 0]);
    let mut dest = Dest::running(1);
    dest.serve(0, 0);
    dest.eof().unwrap();
    dest.said();
    dest.core.abort();
    assert_eq!(dest.said(), [""; 0]);
    assert_eq!(dest.core.phase(), Phase::Finished);
}
