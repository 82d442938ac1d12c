use super::*;
use crate::blocks::BlockError;

#[test]
fn goes_through_the_phases_of_a_migration() {
    let mut dest = Dest::new(Config::default());
    assert_eq!(dest.core.phase(), Phase::Fresh);
    dest.advise(&[("ram", 4 * PAGE)], PAGE);
    assert_eq!(dest.core.phase(), Phase::Advised);
    dest.discard("ram", &[(0, 4 * PAGE)]).unwrap();
    assert_eq!(dest.core.phase(), Phase::Discarding);
    dest.discard("ram", &[(0, PAGE)]).unwrap();
    dest.command(&Command::Packaged { size: 100 }).unwrap();
    dest.command(&Command::PostcopyListen).unwrap();
    assert_eq!(dest.core.phase(), Phase::Listening);
    dest.command(&Command::PostcopyRun).unwrap();
    assert_eq!(dest.core.phase(), Phase::Running);
    dest.event(Main, Event::PackageEnd).unwrap();
    dest.core.device_state_saved().unwrap();
    for page in 0..4 {
        dest.serve(0, page * PAGE);
    }
    dest.eof().unwrap();
    assert_eq!(dest.core.phase(), Phase::Finished);
    let (block, start) = (0, 0);
    let discard = |len| Action::Discard { block, start, len };
    assert_eq!(
        dest.actions(),
        [
            discard(4 * PAGE),
            discard(PAGE),
            Action::Listen,
            Action::Run,
            Action::DeviceStateComplete,
            Action::Finished(Ending::Postcopy)
        ]
    );
}

#[test]
fn refuses_turns_that_the_table_does_not_have() {
    use Phase::*;
    use phase::Turn;
    let phases = [
        Fresh, Advised, Discarding, Listening, Running, Paused, Recovering, Finished, Failed,
    ];
    let legal = |phase: Phase, turn| {
        let wanted: &[Phase] = match turn {
            Turn::Advise => &[Fresh],
            Turn::Discard | Turn::Listen => &[Advised, Discarding],
            Turn::Run => &[Listening],
            Turn::LinkLost => &phases,
            Turn::LinkLostAtSwitch => &[Advised, Discarding, Listening],
            Turn::LinkRestored => &[Paused, Finished],
            Turn::Resume => &[Recovering],
            Turn::Finish => &[Fresh, Advised, Discarding, Running],
            Turn::Fail => &phases[..7],
        };
        wanted.contains(&phase) || (phase, turn) == (Failed, Turn::Fail)
    };
    for phase in phases {
        for turn in [
            Turn::Advise,
            Turn::Discard,
            Turn::Listen,
            Turn::Run,
            Turn::LinkLost,
            Turn::LinkLostAtSwitch,
            Turn::LinkRestored,
            Turn::Resume,
            Turn::Finish,
            Turn::Fail,
        ] {
            let after = phase.after(turn);
            assert_eq!(after.is_some(), legal(phase, turn), "{phase} {turn:?}");
            if phase.is_over() && after.is_some() {
                assert!(after == Some(phase) || after == Some(Recovering));
            }
        }
    }
}

#[test]
fn refuses_commands_out_of_turn() {
    let sizes = Some(PageSizes {
        summary: PAGE,
        target: PAGE,
    });
    type Make = fn() -> Dest;
    let advised: Make = || Dest::advised(4);
    let running: Make = || Dest::running(4);
    let fresh: Make = || Dest::new(Config::default());
    for (make, command) in [
        (advised, Command::PostcopyAdvise { sizes }),
        (advised, Command::PostcopyRun),
        (advised, Command::PostcopyResume),
        (advised, Command::RecvBitmap { block: name("ram") }),
        (fresh, Command::PostcopyListen),
        (fresh, Command::PostcopyRun),
        (fresh, Command::Packaged { size: 1 }),
        (running, Command::PostcopyAdvise { sizes }),
        (running, Command::PostcopyListen),
        (running, Command::PostcopyRun),
        (running, Command::Packaged { size: 1 }),
        (running, Command::SwitchoverStart),
        (running, Command::PostcopyResume),
        (running, Command::RecvBitmap { block: name("ram") }),
    ] {
        let mut dest = make();
        if command == Command::PostcopyListen {
            dest.command(&Command::OpenReturnPath).unwrap();
        }
        let was = dest.core.phase();
        let what = refused(dest.command(&command));
        assert!(matches!(what, What::OutOfTurn { .. }), "{was}: {what:?}");
        let now = match was {
            Phase::Running => Phase::Paused,
            _ => Phase::Failed,
        };
        assert_eq!(dest.core.phase(), now, "{command:?}");
    }
}

#[test]
fn takes_the_announcement_of_a_switch_before_it() {
    let mut dest = Dest::advised(4);
    dest.command(&Command::SwitchoverStart).unwrap();
    dest.switch();
}

#[test]
fn takes_the_size_of_all_memory_before_the_switch_only() {
    let size = || Event::Record(Record::MemSize { total: 4 * PAGE });
    let mut dest = Dest::advised(4);
    assert_eq!(dest.event(Main, size()), Ok(Did::Nothing));
    dest.switch();
    let what = refused(dest.event(Main, size()));
    assert!(matches!(what, What::OutOfTurn { .. }), "{what:?}");
}

#[test]
fn refuses_a_package_twice_and_one_without_a_switch() {
    let mut dest = Dest::advised(4);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    let what = refused(dest.command(&Command::Packaged { size: 1 }));
    assert!(matches!(what, What::OutOfTurn { .. }));

    let mut dest = Dest::advised(4);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    let what = refused(dest.event(Main, Event::PackageEnd));
    assert!(matches!(what, What::OutOfTurn { .. }));
}

#[test]
fn refuses_what_it_does_not_do() {
    let page = |what: fn(forward::BlockId) -> Record<'static>| what(forward::BlockId::new(0));
    let records = [
        Record::Hook,
        Record::MultifdFlush,
        page(|block| Record::Xbzrle {
            block,
            offset: 0,
            data: &[],
            named: true,
        }),
        page(|block| Record::Compressed {
            block,
            offset: 0,
            data: &[],
            named: true,
        }),
    ];
    for record in records {
        let error = Dest::advised(4).event(Main, Event::Record(record));
        let error = error.unwrap_err();
        assert!(matches!(error.what, What::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("at the source"), "{error}");
    }
    for command in [Command::EnableColo, Command::PostcopyAdvise { sizes: None }] {
        let what = refused(Dest::new(Config::default()).command(&command));
        assert!(matches!(what, What::Unsupported { .. }));
    }
}

#[test]
fn answers_every_ping_with_its_value() {
    let mut dest = Dest::advised(1);
    dest.ping(1).unwrap();
    dest.ping(0x42).unwrap();
    assert_eq!(dest.said(), ["PONG 0x1", "PONG 0x42"]);
    dest.package(&[3, 0xffff_ffff]).unwrap();
    dest.ping(4).unwrap();
    assert_eq!(dest.said(), ["PONG 0x3", "PONG 0xffffffff", "PONG 0x4"]);
}

#[test]
fn holds_the_answer_to_ping_0x42_until_the_device_state_is_saved() {
    let mut dest = Dest::advised(1);
    assert_eq!(refused(dest.core.device_state_saved()), What::NothingToSave);
    dest.package(&[3, 0x42]).unwrap();
    dest.ping(4).unwrap();
    assert_eq!(dest.said(), ["PONG 0x3", "PONG 0x4"]);
    dest.core.device_state_saved().unwrap();
    assert_eq!(dest.said(), ["PONG 0x42"]);
    dest.core.device_state_saved().unwrap();
    assert_eq!(dest.said(), [""; 0]);
    dest.ping(0x42).unwrap();
    assert_eq!(dest.said(), ["PONG 0x42"]);
}

#[test]
fn refuses_pings_whose_answers_nobody_reads() {
    for value in [1, PING_LOADED] {
        let mut dest = Dest::advised(1);
        dest.package(&[]).unwrap();
        for _ in 0..MAX_PONGS {
            dest.ping(value).unwrap();
        }
        assert_eq!(refused(dest.ping(value)), What::Flood);
    }
    let mut dest = Dest::running(1);
    for _ in 0..MAX_PONGS * 2 {
        dest.ping(1).unwrap();
        assert_eq!(dest.said(), ["PONG 0x1"]);
    }
}

#[test]
fn refuses_to_go_on_without_a_return_path() {
    let mut dest = Dest::new(Config::default());
    assert_eq!(refused(dest.ping(1)), What::NoReturnPath { what: "PING" });

    let mut dest = Dest::new(Config::default());
    let sizes = Some(PageSizes {
        summary: PAGE,
        target: PAGE,
    });
    dest.command(&Command::PostcopyAdvise { sizes }).unwrap();
    dest.block("ram", PAGE).unwrap();
    let what = refused(dest.package(&[]));
    assert!(matches!(what, What::NoReturnPath { .. }));
    assert_eq!(dest.said(), [""; 0], "no SHUT without a return path");
}

#[test]
fn acknowledges_the_switchover_once_and_first() {
    let mut dest = Dest::new(Config {
        switchover_ack: true,
        ..Config::default()
    });
    for _ in 0..2 {
        dest.command(&Command::OpenReturnPath).unwrap();
    }
    dest.ping(1).unwrap();
    assert_eq!(dest.said(), ["SWITCHOVER_ACK", "PONG 0x1"]);
}

#[test]
fn acknowledges_no_switchover_that_only_devices_may() {
    for (machine, says) in [
        (&b"pc-q35-11.0"[..], &["SWITCHOVER_ACK"][..]),
        (b"pc-q35-11.1", &[]),
        (b"pc-q35-12.0", &[]),
        (b"microvm", &["SWITCHOVER_ACK"]),
    ] {
        let mut dest = Dest::new(Config {
            switchover_ack: true,
            ..Config::default()
        });
        dest.event(Channel::Main, Event::Configuration { machine })
            .unwrap();
        dest.command(&Command::OpenReturnPath).unwrap();
        assert_eq!(dest.said(), says);
    }
}

#[test]
fn refuses_discards_outside_their_block() {
    let page = |start, len| (start, len);
    for (block, range, want) in [
        ("rom", page(0, PAGE), What::UnknownBlock),
        (
            "ram",
            page(3 * PAGE, 2 * PAGE),
            What::Block(BlockError::Overrun {
                start: 3 * PAGE,
                len: 2 * PAGE,
                block: 4 * PAGE,
            }),
        ),
        (
            "ram",
            page(0, KIB),
            What::Block(BlockError::Unaligned {
                start: 0,
                len: KIB,
                page: PAGE,
            }),
        ),
    ] {
        let mut dest = Dest::advised(4);
        let error = dest.discard(block, &[(0, PAGE), range]).unwrap_err();
        assert_eq!(error.what, want);
        assert!(error.to_string().contains(block), "{error}");
        assert_eq!(dest.actions(), [], "nothing of the command is done");
        assert_eq!(dest.said(), ["SHUT 1"]);
    }
}

#[test]
fn refuses_a_switch_that_tears_a_host_page() {
    let mut dest = Dest::new(Config {
        page_sizes: vec![(names("huge"), HUGE)],
        ..Config::default()
    });
    dest.advise(&[("ram", HUGE), ("huge", 4 * HUGE)], PAGE | HUGE);
    dest.page(1, 2 * HUGE, 7).unwrap();
    dest.discard("huge", &[(0, HUGE)]).unwrap();
    let error = dest.package(&[]).unwrap_err();
    assert_eq!(error.what, What::Torn);
    assert_eq!(error.place.unwrap().offset, Some(2 * HUGE));
}
