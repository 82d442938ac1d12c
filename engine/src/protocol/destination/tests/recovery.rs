use super::*;

fn bitmap(dest: &mut Dest, block: &str) -> Result<(), Error> {
    dest.command(&Command::RecvBitmap { block: name(block) })
}

fn resume(dest: &mut Dest) -> Result<(), Error> {
    dest.command(&Command::PostcopyResume)
}

#[test]
fn tells_what_it_has_and_asks_again_for_the_rest() {
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
    assert_eq!(dest.fault(0, 4 * PAGE), Fault::New);
    assert_eq!(dest.fault(1, HUGE), Fault::Pending);
    assert_eq!(dest.said(), [""; 0], "there is nobody to ask");

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
    // In order of the blocks; the first one with its name.
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
    // The half page is sent from its start again.
    for part in 0..HUGE / PAGE {
        dest.page(1, part * PAGE, 1).unwrap();
    }
    dest.placed(Main, 1, 0, HUGE).unwrap();
}

#[test]
fn continues_from_the_bitmaps_of_another_process() {
    let mut first = Dest::huge(2, false);
    first.serve(0, 0);
    first.serve(0, 3 * PAGE);
    let blocks = first.core.blocks().iter().enumerate().map(|(id, block)| {
        let mut words = first.core.pages().received(id).unwrap().words().to_vec();
        if block.page > PAGE {
            // A part of a host page, as a process that was killed may leave it.
            words[0] |= 1 << 3;
        }
        (block.clone(), words)
    });
    let core = Destination::taking_over(Config::default(), blocks, Some(&[])).unwrap();
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
    assert_eq!(error.what, What::PageTwice);
}

/// Switches, up to the package with the device state.
fn before_devices(give_back: bool) -> Dest {
    let mut dest = Dest::new(Config {
        give_back,
        ..Config::default()
    });
    dest.advise(&[("ram", 4 * PAGE)], PAGE);
    dest.page(0, 0, 1).unwrap();
    dest.discard("ram", &[(0, PAGE)]).unwrap();
    dest
}

#[test]
fn gives_the_guest_back_if_the_link_broke_before_the_device_state() {
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
    assert_eq!(error.what, What::DevicesLost);
    assert_eq!(dest.core.phase(), Phase::Failed);
    assert_eq!(dest.said(), ["SHUT 1"]);
}

#[test]
fn fails_at_once_where_the_source_does_not_pause_at_the_switch() {
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
    assert!(dest.core.link_lost(Main).is_err(), "its guest still runs");
}

#[test]
fn asks_once_even_while_the_outbox_is_drained_bit_by_bit() {
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
    // Behind and ahead of where the repetition stands.
    assert_eq!(dest.fault(0, PAGE), Fault::New);
    assert_eq!(dest.fault(0, (pages - 1) * PAGE), Fault::New);
    while !dest.core.outbox().is_empty() {
        assert!(dest.core.outbox().len() < 20_000, "a little at a time");
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
fn recovers_again_and_again() {
    let mut dest = Dest::running(10);
    dest.fault(0, 9 * PAGE);
    for round in 0..9 {
        dest.core.link_lost(Main).unwrap();
        dest.core.link_lost(Preempt).unwrap();
        dest.core.link_restored().unwrap();
        // Lost again while recovering.
        bitmap(&mut dest, "ram").unwrap();
        dest.core.link_lost(Main).unwrap();
        assert_eq!(dest.said(), [""; 0], "it was meant for the lost link");
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
fn fails_when_the_link_is_lost_before_the_guest_may_run() {
    let mut listening = Dest::advised(4);
    listening.command(&Command::Packaged { size: 1 }).unwrap();
    listening.command(&Command::PostcopyListen).unwrap();
    for mut dest in [Dest::new(Config::default()), Dest::advised(4), listening] {
        let error = dest.core.link_lost(Main).unwrap_err();
        assert_eq!(error.what, What::LinkLost);
        assert_eq!(error.what.blame(), Blame::Link);
        assert_eq!(dest.core.phase(), Phase::Failed);
        assert_eq!(dest.said(), [""; 0], "there is nobody to tell");
        assert_eq!(refused(dest.core.link_restored()), What::NotPaused);
        assert_eq!(refused(dest.eof()), What::Over);
        assert_eq!(dest.core.link_lost(Main), Ok(()));
    }
    let mut dest = Dest::advised(4);
    let error = dest.core.link_lost(Preempt).unwrap_err();
    assert_eq!(error.what, What::LinkLost);
    assert_eq!(dest.said(), ["SHUT 1"], "the other channel is there");
}

#[test]
fn takes_nothing_from_a_link_that_is_down() {
    let mut dest = Dest::running(4);
    dest.core.link_lost(Main).unwrap();
    assert_eq!(refused(dest.page(0, 0, 1)), What::LinkDown);
    assert_eq!(refused(dest.ping(1)), What::LinkDown);
    assert_eq!(
        refused(dest.core.run_of_pages(Main, 0, 0, PAGE)),
        What::LinkDown
    );
    assert_eq!(dest.core.phase(), Phase::Paused);
}

#[test]
fn keeps_what_is_placed_while_the_link_is_down() {
    let mut dest = Dest::huge(1, true);
    dest.page_on(Preempt, 0, 0, 1).unwrap();
    dest.core.link_lost(Main).unwrap();
    let error = dest.core.link_restored().unwrap_err();
    assert_eq!(error.what, What::StillPlacing);
    dest.placed(Preempt, 0, 0, PAGE).unwrap();
    dest.core.link_lost(Preempt).unwrap();
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    assert_eq!(dest.said(), ["RECV_BITMAP ram", "[0]"]);
}

#[test]
fn refuses_to_recover_what_is_not_paused() {
    let mut dest = Dest::running(4);
    assert_eq!(refused(dest.core.link_restored()), What::NotPaused);
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    assert_eq!(refused(dest.core.link_restored()), What::NotPaused);
    assert_eq!(dest.core.phase(), Phase::Recovering);
}

#[test]
fn refuses_a_recovery_that_is_out_of_order() {
    let recovering = || {
        let mut dest = Dest::huge(2, false);
        dest.core.link_lost(Main).unwrap();
        dest.core.link_restored().unwrap();
        dest
    };
    let mut dest = recovering();
    bitmap(&mut dest, "ram").unwrap();
    let error = resume(&mut dest).unwrap_err();
    assert_eq!(error.what, What::BitmapNotAsked);
    assert_eq!(error.place.unwrap().block, names("huge"));
    assert_eq!(dest.core.phase(), Phase::Paused);

    let mut dest = recovering();
    bitmap(&mut dest, "ram").unwrap();
    assert_eq!(refused(bitmap(&mut dest, "ram")), What::BitmapTwice);
    let mut dest = recovering();
    assert_eq!(refused(bitmap(&mut dest, "rom")), What::UnknownBlock);
    let mut dest = recovering();
    assert!(matches!(
        refused(dest.page(0, 0, 1)),
        What::OutOfTurn { .. }
    ));
    let mut dest = recovering();
    let what = refused(dest.event(Main, Event::Record(Record::Eos)));
    assert!(matches!(what, What::OutOfTurn { .. }), "{what:?}");
    let mut dest = recovering();
    assert!(matches!(refused(dest.eof()), What::OutOfTurn { .. }));
    let mut dest = recovering();
    let what = refused(dest.discard("ram", &[(0, PAGE)]));
    assert!(matches!(what, What::OutOfTurn { .. }));
    // After each of them it can be tried again.
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    bitmap(&mut dest, "huge").unwrap();
    resume(&mut dest).unwrap();
    assert_eq!(dest.core.phase(), Phase::Running);
}

#[test]
fn answers_ping_0x42_on_the_next_link_if_the_first_one_broke() {
    let mut dest = Dest::advised(1);
    dest.package(&[0x42]).unwrap();
    dest.core.link_lost(Main).unwrap();
    dest.core.device_state_saved().unwrap();
    assert_eq!(dest.said(), [""; 0]);
    dest.core.link_restored().unwrap();
    bitmap(&mut dest, "ram").unwrap();
    resume(&mut dest).unwrap();
    assert_eq!(dest.said()[2..], ["RESUME_ACK", "PONG 0x42"]);
}

#[test]
fn completes_the_device_state_when_the_link_breaks_right_after_run() {
    let mut dest = Dest::advised(1);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    dest.command(&Command::PostcopyListen).unwrap();
    dest.command(&Command::PostcopyRun).unwrap();
    // The package's end is not seen.
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
fn times_a_request_from_when_it_was_written_on_the_new_link() {
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
    // Written on the new link, but nobody says when.
    dest.said();
    dest.serve(0, 0);
    let latency = &dest.core.stats().latency;
    assert_eq!((latency.total.count(), latency.transfer.count()), (1, 0));
}

#[test]
fn says_nothing_after_shut_even_if_requests_wait_to_be_repeated() {
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
