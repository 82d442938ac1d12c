use super::*;
use crate::blocks::BlockError;
use retpath_codec::wire::value::PING_PACKAGE_LOADED;

#[test]
fn passes_through_the_phases_of_a_migration() {
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
    let (block, offset) = (0, 0);
    let discard = |len| Action::Discard(Span { block, offset, len });
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
fn refuses_transitions_that_are_not_allowed() {
    use Phase::*;
    let phases = [
        Fresh, Advised, Discarding, Listening, Running, Paused, Recovering, Finished, Failed,
    ];
    for next in phases {
        let before: &[Phase] = match next {
            Fresh => &[],
            Advised => &[Fresh],
            Discarding | Listening => &[Advised, Discarding],
            Running => &[Listening, Recovering],
            Paused => &[Advised, Discarding, Listening, Running, Paused, Recovering],
            Recovering => &[Paused, Finished],
            Finished => &[Fresh, Advised, Discarding, Running],
            Failed => &phases[..7],
        };
        for phase in phases {
            let legal = before.contains(&phase);
            assert_eq!(phase.may_become(next), legal, "{phase} to {next}");
        }
    }
}

#[test]
fn refuses_unexpected_commands() {
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
        assert!(
            matches!(what, ErrorKind::OutOfTurn { .. }),
            "{was}: {what:?}"
        );
        let now = match was {
            Phase::Running => Phase::Paused,
            _ => Phase::Failed,
        };
        assert_eq!(dest.core.phase(), now, "{command:?}");
    }
}

#[test]
fn accepts_switchover_start_before_the_switch() {
    let mut dest = Dest::advised(4);
    dest.command(&Command::SwitchoverStart).unwrap();
    dest.switch();
}

#[test]
fn accepts_mem_size_only_before_the_switch() {
    let size = || Event::Record(Record::MemSize { total: 4 * PAGE });
    let mut dest = Dest::advised(4);
    assert_eq!(dest.event(Main, size()), Ok(Did::Nothing));
    dest.switch();
    let what = refused(dest.event(Main, size()));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }), "{what:?}");
}

#[test]
fn refuses_a_second_package_and_one_without_a_switch() {
    let mut dest = Dest::advised(4);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    let what = refused(dest.command(&Command::Packaged { size: 1 }));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }));

    let mut dest = Dest::advised(4);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    let what = refused(dest.event(Main, Event::PackageEnd));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }));
}

#[test]
fn refuses_unsupported_features() {
    let page = |what: fn(forward::BlockIndex) -> Record<'static>| what(forward::BlockIndex::new(0));
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
        assert!(
            matches!(error.kind, ErrorKind::Unsupported { .. }),
            "{error}"
        );
        let text = format!(
            "{} [main channel, advised]: disable this capability at the source",
            error.kind
        );
        assert_eq!(error.to_string(), text);
    }
    for command in [Command::EnableColo, Command::PostcopyAdvise { sizes: None }] {
        let what = refused(Dest::new(Config::default()).command(&command));
        assert!(matches!(what, ErrorKind::Unsupported { .. }));
    }
}

#[test]
fn answers_every_ping_with_its_value() {
    let mut dest = Dest::advised(1);
    dest.ping(1).unwrap();
    dest.ping(PING_PACKAGE_LOADED).unwrap();
    assert_eq!(dest.said(), ["PONG 0x1", "PONG 0x42"]);
    dest.package(&[3, 0xffff_ffff]).unwrap();
    dest.ping(4).unwrap();
    assert_eq!(dest.said(), ["PONG 0x3", "PONG 0xffffffff", "PONG 0x4"]);
}

#[test]
fn answers_ping_0x42_once_the_device_state_is_saved() {
    let mut dest = Dest::advised(1);
    assert_eq!(
        refused(dest.core.device_state_saved()),
        ErrorKind::Misuse("the device state is not complete")
    );
    dest.package(&[3, PING_PACKAGE_LOADED]).unwrap();
    dest.ping(4).unwrap();
    assert_eq!(dest.said(), ["PONG 0x3", "PONG 0x4"]);
    dest.core.device_state_saved().unwrap();
    assert_eq!(dest.said(), ["PONG 0x42"]);
    dest.core.device_state_saved().unwrap();
    assert_eq!(dest.said(), [""; 0]);
    dest.ping(PING_PACKAGE_LOADED).unwrap();
    assert_eq!(dest.said(), ["PONG 0x42"]);
}

#[test]
fn refuses_pings_while_too_many_pongs_are_unread() {
    for value in [1, PING_PACKAGE_LOADED] {
        let mut dest = Dest::advised(1);
        dest.package(&[]).unwrap();
        for _ in 0..MAX_PONGS {
            dest.ping(value).unwrap();
        }
        assert_eq!(
            refused(dest.ping(value)),
            ErrorKind::Violation("the source sends PINGs faster than it reads PONGs")
        );
    }
    let mut dest = Dest::running(1);
    for _ in 0..MAX_PONGS * 2 {
        dest.ping(1).unwrap();
        assert_eq!(dest.said(), ["PONG 0x1"]);
        dest.core.written(dest.now);
    }
    for _ in 0..MAX_PONGS {
        dest.ping(1).unwrap();
        assert_eq!(dest.said(), ["PONG 0x1"], "moved, but not written");
    }
    assert_eq!(
        refused(dest.ping(1)),
        ErrorKind::Violation("the source sends PINGs faster than it reads PONGs")
    );
}

#[test]
fn refuses_to_switch_without_a_return_path() {
    let mut dest = Dest::new(Config::default());
    assert_eq!(
        refused(dest.ping(1)),
        ErrorKind::NoReturnPath { what: "PING" }
    );

    let mut dest = Dest::new(Config::default());
    let sizes = Some(PageSizes {
        summary: PAGE,
        target: PAGE,
    });
    dest.command(&Command::PostcopyAdvise { sizes }).unwrap();
    dest.block("ram", PAGE).unwrap();
    let what = refused(dest.package(&[]));
    assert!(matches!(what, ErrorKind::NoReturnPath { .. }));
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
fn does_not_acknowledge_for_devices() {
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
        ("rom", page(0, PAGE), ErrorKind::Block(BlockError::Unknown)),
        (
            "ram",
            page(3 * PAGE, 2 * PAGE),
            ErrorKind::Block(BlockError::Overrun {
                start: 3 * PAGE,
                len: 2 * PAGE,
                block: 4 * PAGE,
            }),
        ),
        (
            "ram",
            page(0, KIB),
            ErrorKind::Block(BlockError::Unaligned {
                start: 0,
                len: KIB,
                page: PAGE,
            }),
        ),
    ] {
        let mut dest = Dest::advised(4);
        let error = dest.discard(block, &[(0, PAGE), range]).unwrap_err();
        assert_eq!(error.kind, want);
        assert_eq!(error.location.unwrap().block, names(block));
        assert_eq!(dest.actions(), [], "the command has no effect");
        assert_eq!(dest.said(), ["SHUT 1"]);
    }
}

#[test]
fn refuses_a_switch_with_a_partly_received_host_page() {
    let mut dest = Dest::new(Config {
        page_sizes: vec![(names("huge"), HUGE)],
        ..Config::default()
    });
    dest.advise(&[("ram", HUGE), ("huge", 4 * HUGE)], PAGE | HUGE);
    dest.page(1, 2 * HUGE, 7).unwrap();
    dest.discard("huge", &[(0, HUGE)]).unwrap();
    let error = dest.package(&[]).unwrap_err();
    assert_eq!(
        error.kind,
        ErrorKind::Violation("the host page was only partly received or discarded")
    );
    assert_eq!(error.location.unwrap().offset, Some(2 * HUGE));
}
