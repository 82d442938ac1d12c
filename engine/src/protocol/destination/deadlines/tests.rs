use super::*;

const RECONNECT: u64 = 300 * SECOND;
const RECOVERY: u64 = 30 * SECOND;

fn deadlines(events: &[(u64, Event)]) -> Deadlines {
    let mut deadlines = Deadlines::new(Timeouts {
        reconnect: RECONNECT,
        recovery: RECOVERY,
    });
    for (at, event) in events {
        deadlines.handle(*at, *event);
    }
    deadlines
}

/// Asserts that `timeout` is due at `at`, and not a nanosecond before.
fn assert_due(deadlines: &mut Deadlines, at: u64, timeout: Timeout) {
    assert_eq!(deadlines.poll_deadline(), Some(at));
    assert_eq!(deadlines.poll(at - 1), None);
    assert_eq!(deadlines.poll(at), Some(timeout));
}

#[test]
fn lasts_as_long_as_documented() {
    let seconds = [LINGER, FAREWELL, SILENCE, HANDSHAKE].map(|time| time / 1_000_000_000);
    assert_eq!(seconds, [1, 5, 10, 5]);
}

#[test]
fn waits_without_a_deadline_for_the_first_connection_and_for_an_open_stream() {
    let mut deadlines = deadlines(&[]);
    assert_eq!(deadlines.poll_deadline(), None);
    deadlines.handle(5, Event::Connected);
    deadlines.handle(6, Event::Expect(Expected::Stream));
    assert_eq!(deadlines.poll_deadline(), None);
    assert_eq!(deadlines.poll(u64::MAX), None);
    assert!(!deadlines.is_over());
}

#[test]
fn fails_when_no_replacement_connects() {
    let mut deadlines = deadlines(&[(0, Event::Connected), (7, Event::Lost)]);
    assert_due(&mut deadlines, 7 + RECONNECT, Timeout::Reconnect);
    assert!(!deadlines.is_over());
    deadlines.handle(8, Event::Connected);
    assert_eq!(deadlines.poll_deadline(), None);
}

#[test]
fn drops_a_replacement_that_does_not_resume_even_if_it_drips_bytes() {
    let mut deadlines = deadlines(&[(0, Event::Connected), (1, Event::Lost)]);
    deadlines.handle(10, Event::Connected);
    for at in 0..100 {
        deadlines.handle(10 + at * SECOND, Event::Moved);
        deadlines.handle(
            10 + at * SECOND,
            Event::Expect(Expected::Resume { rival: false }),
        );
    }
    assert_due(
        &mut deadlines,
        10 + RECOVERY,
        Timeout::Resume { after: RECOVERY },
    );
    // The next one has all the time again.
    deadlines.handle(200 * SECOND, Event::Lost);
    assert_due(&mut deadlines, 200 * SECOND + RECONNECT, Timeout::Reconnect);
}

#[test]
fn drops_a_replacement_on_which_nothing_moves_when_another_one_waits() {
    let mut deadlines = deadlines(&[(0, Event::Connected), (1, Event::Lost)]);
    deadlines.handle(10, Event::Connected);
    deadlines.handle(10, Event::Expect(Expected::Resume { rival: false }));
    assert_eq!(deadlines.poll_deadline(), Some(10 + RECOVERY));
    deadlines.handle(20, Event::Expect(Expected::Resume { rival: true }));
    assert_eq!(deadlines.poll_deadline(), Some(20 + HANDSHAKE));
    // Its question is answered.
    deadlines.handle(30, Event::Moved);
    let after = 20 + HANDSHAKE;
    assert_due(&mut deadlines, 30 + HANDSHAKE, Timeout::Resume { after });
    // A rival does not shorten what a replacement has that goes on.
    for at in 0..100 {
        deadlines.handle(30 + at * SECOND, Event::Moved);
    }
    let after = RECOVERY;
    assert_due(&mut deadlines, 10 + RECOVERY, Timeout::Resume { after });
}

#[test]
fn has_no_deadline_after_a_replacement_resumed() {
    let mut deadlines = deadlines(&[(0, Event::Connected), (1, Event::Lost)]);
    deadlines.handle(10, Event::Connected);
    deadlines.handle(10, Event::Expect(Expected::Resume { rival: false }));
    deadlines.handle(20, Event::Expect(Expected::Stream));
    assert_eq!(deadlines.poll(u64::MAX), None);
}

#[test]
fn waits_for_a_late_preempt_channel_until_the_main_channel_is_silent() {
    let mut deadlines = deadlines(&[(0, Event::Connected), (3, Event::Moved)]);
    deadlines.handle(4, Event::Expect(Expected::Preempt));
    assert_eq!(deadlines.poll_deadline(), Some(4 + SILENCE));
    // It came: its pages may take any time.
    deadlines.handle(5, Event::Expect(Expected::Stream));
    assert_eq!(deadlines.poll_deadline(), None);
    deadlines.handle(6, Event::Expect(Expected::Preempt));
    assert_due(&mut deadlines, 6 + SILENCE, Timeout::Preempt);
}

#[test]
fn fails_when_no_page_comes_while_a_multifd_channel_waits() {
    let mut deadlines = deadlines(&[(0, Event::Connected)]);
    deadlines.handle(1, Event::Expect(Expected::FirstPage));
    deadlines.handle(5, Event::Moved);
    assert_eq!(deadlines.poll_deadline(), Some(5 + SILENCE));
    // A page with data: the other connection does not belong to this migration.
    deadlines.handle(6, Event::Expect(Expected::Stream));
    assert_eq!(deadlines.poll_deadline(), None);
    deadlines.handle(7, Event::Expect(Expected::FirstPage));
    assert_due(&mut deadlines, 7 + SILENCE, Timeout::FirstPage);
}

#[test]
fn fails_when_the_source_is_silent_at_a_possible_end() {
    let mut deadlines = deadlines(&[(0, Event::Connected)]);
    deadlines.handle(1, Event::Expect(Expected::EndOfStream));
    // More bytes: this was not the end.
    deadlines.handle(2, Event::Moved);
    deadlines.handle(2, Event::Expect(Expected::Stream));
    assert_eq!(deadlines.poll_deadline(), None);
    deadlines.handle(9, Event::Expect(Expected::EndOfStream));
    deadlines.handle(10, Event::Expect(Expected::EndOfStream));
    assert_due(&mut deadlines, 9 + SILENCE, Timeout::EndOfStream);
}

#[test]
fn is_over_when_shut_was_written_on_the_only_connection() {
    let mut deadlines = deadlines(&[
        (0, Event::Connected),
        (1, Event::Finished(Ending::Postcopy)),
        (2, Event::ShutSent { reconnected: false }),
    ]);
    assert!(deadlines.is_over());
    assert_eq!(deadlines.poll_deadline(), None);
    deadlines.handle(3, Event::Lost);
    assert!(deadlines.is_over());
}

#[test]
fn lingers_after_the_source_closed_without_surely_reading_shut() {
    for shut_sent in [true, false] {
        let mut deadlines = deadlines(&[
            (0, Event::Connected),
            (1, Event::Finished(Ending::Postcopy)),
        ]);
        if shut_sent {
            deadlines.handle(2, Event::ShutSent { reconnected: true });
        }
        assert!(!deadlines.is_over());
        deadlines.handle(10, Event::Lost);
        // The source asks again: SHUT is sent again.
        deadlines.handle(11, Event::Connected);
        deadlines.handle(11, Event::Expect(Expected::Resume { rival: false }));
        assert_eq!(deadlines.poll_deadline(), Some(11 + RECOVERY));
        deadlines.handle(20, Event::Lost);
        assert_due(&mut deadlines, 20 + LINGER, Timeout::Linger);
        assert!(deadlines.is_over());
    }
}

#[test]
fn ends_a_precopy_migration_when_the_source_closes() {
    let finished = Event::Finished(Ending::Precopy);
    let mut deadlines = deadlines(&[(0, Event::Connected), (1, finished)]);
    deadlines.handle(2, Event::ShutSent { reconnected: false });
    assert!(!deadlines.is_over(), "the description may follow");
    deadlines.handle(3, Event::Lost);
    assert!(deadlines.is_over());
    let mut deadlines = self::deadlines(&[(0, Event::Connected), (1, Event::Lost)]);
    deadlines.handle(2, finished);
    assert!(deadlines.is_over(), "the source closed first");
}

#[test]
fn drops_a_source_that_does_not_close_after_shut() {
    let mut deadlines = deadlines(&[
        (0, Event::Connected),
        (1, Event::Finished(Ending::Precopy)),
        (1, Event::Expect(Expected::Close)),
        (9, Event::Moved),
    ]);
    assert_due(&mut deadlines, 9 + RECOVERY, Timeout::Close);
}

#[test]
fn reads_on_after_a_write_error() {
    let mut deadlines = deadlines(&[(0, Event::Connected), (1, Event::WriteFailed)]);
    deadlines.handle(5, Event::Moved);
    deadlines.handle(6, Event::WriteFailed);
    assert_due(&mut deadlines, 1 + LINGER, Timeout::WriteFailed);
    assert_eq!(deadlines.poll(u64::MAX), None, "it comes once");
    deadlines.handle(7, Event::Drained);
    assert_eq!(deadlines.poll_deadline(), None, "nothing failed");
    deadlines.handle(8, Event::WriteFailed);
    deadlines.handle(9, Event::Drained);
    assert_due(&mut deadlines, 9, Timeout::WriteFailed);
}

#[test]
fn waits_after_shut_1_only_for_a_source_that_has_stopped_its_guest() {
    let mut deadlines = deadlines(&[
        (0, Event::Connected),
        (7, Event::Failed { switched: true }),
        (8, Event::Moved),
    ]);
    assert_due(&mut deadlines, 7 + FAREWELL, Timeout::Farewell);
    assert!(deadlines.is_over());
    let mut deadlines = self::deadlines(&[(7, Event::Failed { switched: false })]);
    assert_eq!(deadlines.poll(7), Some(Timeout::Farewell));
}

#[test]
fn never_overflows() {
    let end = u64::MAX;
    for event in [
        Event::Lost,
        Event::WriteFailed,
        Event::Failed { switched: true },
        Event::Expect(Expected::Close),
    ] {
        let deadlines = deadlines(&[(end, Event::Connected), (end, event)]);
        assert_eq!(deadlines.poll_deadline(), Some(end), "{event:?}");
    }
}
