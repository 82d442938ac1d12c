use super::*;

#[test]
fn requests_each_page_once_and_names_the_block_when_it_changes() {
    let mut dest = Dest::huge(4, false);
    assert_eq!(dest.fault(0, 5 * PAGE + 17), PageState::Missing);
    assert_eq!(dest.fault(0, 6 * PAGE), PageState::Missing);
    assert_eq!(dest.fault(0, 5 * PAGE), PageState::Requested);
    assert_eq!(dest.fault(1, HUGE + 4097), PageState::Missing);
    assert_eq!(dest.fault(1, 2 * HUGE - 1), PageState::Requested);
    assert_eq!(dest.fault(1, 2 * HUGE), PageState::Missing);
    assert_eq!(dest.fault(0, 0), PageState::Missing);
    assert_eq!(
        dest.said(),
        [
            "ram 0x5000+0x1000",
            "0x6000+0x1000",
            "huge 0x10000+0x10000",
            "0x20000+0x10000",
            "ram 0x0+0x1000"
        ]
    );
    assert_eq!(dest.said(), [""; 0]);
    let stats = dest.core.stats();
    assert_eq!(
        (stats.faults, stats.faults_pending, stats.requests),
        (5, 2, 5)
    );
}

#[test]
fn does_not_request_a_page_that_is_present() {
    let mut dest = Dest::running(4);
    dest.fault(0, 0);
    dest.serve(0, 0);
    dest.serve(0, PAGE);
    dest.said();
    assert_eq!(dest.fault(0, 0), PageState::Present);
    assert_eq!(dest.fault(0, PAGE), PageState::Present);
    assert_eq!(dest.said(), [""; 0]);
    let stats = dest.core.stats();
    assert_eq!((stats.demand, stats.sweep, stats.faults_present), (1, 1, 2));
}

#[test]
fn does_not_request_a_page_that_is_being_placed() {
    let mut dest = Dest::running(4);
    dest.run(Main, 0, 0, 2 * PAGE).unwrap();
    assert_eq!(dest.fault(0, PAGE), PageState::Missing);
    assert_eq!(dest.said(), [""; 0]);
    dest.placed(Main, 0, 0, PAGE).unwrap();
    assert_eq!(dest.core.pages().pending(), 1);
    dest.placed(Main, 0, PAGE, PAGE).unwrap();
    assert_eq!(dest.core.pages().pending(), 0);
    assert_eq!(dest.core.stats().demand, 1);
}

#[test]
fn requests_a_page_if_the_connection_is_lost_before_it_is_placed() {
    let mut dest = Dest::running(4);
    dest.run(Main, 0, 0, 2 * PAGE).unwrap();
    dest.fault(0, PAGE);
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    dest.command(&Command::RecvBitmap { block: name("ram") })
        .unwrap();
    dest.command(&Command::PostcopyResume).unwrap();
    assert_eq!(dest.said().last().unwrap(), "ram 0x1000+0x1000");
}

#[test]
fn refuses_faults_that_cannot_be_served() {
    let mut dest = Dest::advised(4);
    let fault = |dest: &mut Dest, block, offset| refused(dest.core.fault(block, offset, 0));
    assert_eq!(
        fault(&mut dest, 0, 0),
        ErrorKind::Misuse("pages cannot be requested before POSTCOPY_LISTEN")
    );
    assert_eq!(fault(&mut dest, 1, 0), ErrorKind::Misuse("no such page"));
    dest.switch();
    for (block, offset) in [(0, 4 * PAGE), (0, u64::MAX), (1, 0), (usize::MAX, 0)] {
        assert_eq!(
            fault(&mut dest, block, offset),
            ErrorKind::Misuse("no such page")
        );
    }
    assert_eq!(dest.core.phase(), Phase::Running);
    dest.serve(0, 0);
    dest.eof().unwrap_err();
    assert_eq!(
        fault(&mut dest, 0, PAGE),
        ErrorKind::Misuse("the migration has already failed")
    );
    assert_eq!(dest.fault(0, 0), PageState::Present);
}

#[test]
fn requests_while_the_device_state_is_loading() {
    let mut dest = Dest::advised(4);
    dest.command(&Command::Packaged { size: 1 }).unwrap();
    dest.command(&Command::PostcopyListen).unwrap();
    assert_eq!(dest.fault(0, 0), PageState::Missing);
    assert_eq!(dest.said(), ["ram 0x0+0x1000"]);
    assert_eq!(dest.page(0, 0, 1), Ok(Did::Copy(0, 0, vec![1])));
}

#[test]
fn limits_repeated_requests_in_the_outbox() {
    // RESUME_ACK, one request with a name, and 1022 without.
    const CHUNK: usize = 8 + (4 + 12 + 1 + 7) + 1022 * (4 + 12);
    let mut dest = Dest::new(Config::default());
    dest.advise(&[("vga.ram", 1100 * PAGE)], PAGE);
    dest.switch();
    for page in 0..1100 {
        dest.fault(0, page * PAGE);
    }
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    let block = name("vga.ram");
    dest.command(&Command::RecvBitmap { block }).unwrap();
    dest.said();
    dest.command(&Command::PostcopyResume).unwrap();
    assert_eq!(dest.core.outbox().len(), CHUNK);
    dest.core.outbox().clear();
    assert_eq!(dest.core.outbox().len(), (1100 - 1023) * 16);
}
