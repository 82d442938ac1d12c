//! Unplugged memory, which is never sent.

use retpath_codec::forward::{Identity, SectionKind};

use super::*;

const MIB: u64 = 1 << 20;

/// The state of a device of 4 MiB in pieces of 2 MiB, in its early section or not.
fn state(plugged: u64, early: bool) -> Vec<u8> {
    let size = u64::from(plugged.count_ones()) * 2 * MIB;
    let mut bytes = [1 << 32, 4 * MIB, 2 * MIB].map(u64::to_be_bytes).concat();
    bytes.extend([0; 4]);
    let numbers = match early {
        true => vec![size, plugged],
        false => vec![size, size, size, plugged],
    };
    bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    bytes
}

fn device(dest: &mut Dest, name: &str, bytes: &[u8]) {
    let identity = Some(Identity {
        idstr: name.as_bytes(),
        instance: 0,
        version: 1,
    });
    let kind = SectionKind::Full;
    let id = 9;
    for event in [
        Event::Section { kind, id, identity },
        Event::DeviceState { id, bytes },
        Event::Footer { id },
    ] {
        dest.event(Main, event).unwrap();
    }
}

/// A block of one page, and one of 4 MiB whose device says what is plugged; in the package, or early.
/// `discarded` bytes of the device's block are promised.
fn switched(plugged: u64, early: bool, discarded: u64) -> Dest {
    let mut dest = Dest::new(Config::default());
    dest.event(Main, Event::Header).unwrap();
    dest.command(&Command::OpenReturnPath).unwrap();
    let sizes = Some(PageSizes {
        summary: PAGE,
        target: PAGE,
    });
    dest.command(&Command::PostcopyAdvise { sizes }).unwrap();
    if early {
        device(
            &mut dest,
            "dev/virtio-mem-device-early",
            &state(plugged, true),
        );
    }
    dest.block("ram", PAGE).unwrap();
    dest.block("dev/vm0", 4 * MIB).unwrap();
    dest.discard("ram", &[(0, PAGE)]).unwrap();
    if discarded > 0 {
        dest.discard("dev/vm0", &[(0, discarded)]).unwrap();
    }
    dest.command(&Command::Packaged { size: 100 }).unwrap();
    dest.command(&Command::PostcopyListen).unwrap();
    if !early {
        device(&mut dest, "dev/virtio-mem", &state(plugged, false));
    }
    dest.command(&Command::PostcopyRun).unwrap();
    dest.event(Main, Event::PackageEnd).unwrap();
    dest.core.device_state_saved().unwrap();
    dest.actions();
    dest.said();
    dest
}

#[test]
fn completes_without_unplugged_pages() {
    for early in [true, false] {
        let mut dest = switched(0, early, 0);
        assert_eq!(dest.core.pages().missing(), 1);
        dest.serve(0, 0);
        dest.eof().unwrap();
        assert_eq!(dest.said(), ["SHUT 0"]);
        assert_eq!(dest.actions(), [Action::Finished(Ending::Postcopy)]);
        assert_eq!(dest.core.stats().unplugged, 4 * MIB / PAGE);
    }
}

#[test]
fn requires_every_plugged_page() {
    // The second piece is plugged, and one of its pages is never sent.
    let mut dest = switched(0b10, false, 0);
    for offset in (2 * MIB..4 * MIB - PAGE).step_by(usize::try_from(PAGE).unwrap()) {
        dest.serve(1, offset);
    }
    dest.serve(0, 0);
    let error = dest.eof().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Incomplete { missing: 1 });
    let place = error.location.unwrap();
    assert_eq!(place.offset, Some(4 * MIB - PAGE));
    assert_eq!(dest.said(), ["SHUT 1"]);
}

#[test]
fn requires_every_page_of_other_blocks() {
    let mut dest = switched(0, true, 0);
    assert_eq!(refused(dest.eof()), ErrorKind::Incomplete { missing: 1 });
}

#[test]
fn requires_promised_pages() {
    for early in [true, false] {
        let mut dest = switched(0, early, 2 * PAGE);
        dest.serve(0, 0);
        assert_eq!(dest.fault(1, PAGE), PageState::Missing);
        assert_eq!(dest.said(), ["dev/vm0 0x1000+0x1000"]);
        dest.serve(1, PAGE);
        assert_eq!(refused(dest.eof()), ErrorKind::Incomplete { missing: 1 });
    }
}

#[test]
fn does_not_request_unplugged_pages() {
    let mut dest = switched(0b10, false, 0);
    assert_eq!(dest.fault(1, 2 * MIB - 1), PageState::Present);
    assert_eq!(dest.said(), [""; 0]);
    assert_eq!(dest.fault(1, 2 * MIB), PageState::Missing);
    assert_eq!(dest.said(), ["dev/vm0 0x200000+0x1000"]);
}

#[test]
fn accepts_an_unplugged_page_that_is_sent_anyway() {
    let mut dest = switched(0, false, 0);
    dest.serve(1, PAGE);
    assert_eq!(
        refused(dest.page(1, PAGE, 1)),
        ErrorKind::Violation("the page was sent twice")
    );
    let mut dest = switched(0, false, 0);
    dest.serve(1, PAGE);
    dest.serve(0, 0);
    dest.eof().unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);
}

/// A source forgets its promises of unplugged memory when it reads the received bitmaps.
#[test]
fn a_recovery_drops_promises_of_unplugged_pages() {
    let mut dest = switched(0, false, 2 * PAGE);
    dest.serve(1, PAGE);
    dest.core.link_lost(Main).unwrap();
    dest.core.link_restored().unwrap();
    for block in ["ram", "dev/vm0"] {
        let block = name(block);
        dest.command(&Command::RecvBitmap { block }).unwrap();
    }
    // Only pages that were sent are received.
    assert_eq!(
        dest.said(),
        ["RECV_BITMAP ram", "[]", "RECV_BITMAP dev/vm0", "[1]"]
    );
    dest.command(&Command::PostcopyResume).unwrap();
    dest.serve(0, 0);
    dest.eof().unwrap();
    assert_eq!(dest.said(), ["RESUME_ACK", "SHUT 0"]);
}

#[test]
fn completes_in_precopy_without_unplugged_pages() {
    let mut dest = Dest::new(Config::default());
    dest.advise(&[("ram", PAGE), ("dev/vm0", 4 * MIB)], PAGE);
    dest.page(0, 0, 1).unwrap();
    device(&mut dest, "dev/virtio-mem", &state(0, false));
    dest.eof().unwrap();
    dest.core.device_state_saved().unwrap();
    assert_eq!(dest.said(), ["SHUT 0"]);
}
