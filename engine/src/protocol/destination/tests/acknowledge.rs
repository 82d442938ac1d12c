//! Detection of a source that waits for SWITCHOVER_ACK.

use super::*;

const ACK: [&str; 1] = ["SWITCHOVER_ACK"];

fn detecting(machine: Option<&[u8]>) -> Dest {
    let mut dest = Dest::new(Config {
        detect_switchover_ack: true,
        ..Config::default()
    });
    if let Some(machine) = machine {
        dest.event(Main, Event::Configuration { machine }).unwrap();
    }
    dest
}

/// A `ram` section with this many pages.
fn piece(dest: &mut Dest, pages: u64) {
    for at in 0..pages {
        dest.page(0, at * PAGE, 7).unwrap();
    }
    dest.event(Main, Event::Record(Record::Eos)).unwrap();
}

#[test]
fn acknowledges_immediately_for_machine_types_8_1_to_11_0() {
    for (machine, says) in [
        (&b"pc-q35-7.2"[..], &[][..]),
        (b"pc-q35-8.0", &[]),
        (b"pc-q35-8.1", &ACK),
        (b"pc-i440fx-11.0", &ACK),
        (b"pc-q35-11.1", &[]),
        (b"pc-q35-rhel9.4.0", &[]),
    ] {
        let mut dest = detecting(Some(machine));
        dest.command(&Command::OpenReturnPath).unwrap();
        assert_eq!(dest.said(), says, "{}", String::from_utf8_lossy(machine));
    }
}

#[test]
fn acknowledges_once_the_source_sends_only_empty_sections() {
    for machine in [None, Some(&b"pc-q35-7.2"[..]), Some(b"pc-q35-rhel9.4.0")] {
        let mut dest = detecting(machine);
        dest.advise(&[("ram", 4 * PAGE)], PAGE);
        assert_eq!(dest.said(), [""; 0]);
        assert!(dest.core.may_await_ack());
        for _ in 0..63 {
            piece(&mut dest, 0);
        }
        assert_eq!(dest.said(), [""; 0]);
        piece(&mut dest, 0);
        assert_eq!(dest.said(), ACK);
        assert!(!dest.core.may_await_ack());
        (0..200).for_each(|_| piece(&mut dest, 0));
        assert_eq!(dest.said(), [""; 0], "once");
    }
}

#[test]
fn does_not_acknowledge_while_the_source_sends_pages() {
    let mut dest = detecting(None);
    dest.advise(&[("ram", 4 * PAGE)], PAGE);
    for _ in 0..500 {
        piece(&mut dest, 0);
        piece(&mut dest, 2);
    }
    assert_eq!(dest.said(), [""; 0]);
    assert!(dest.core.may_await_ack(), "the source may be waiting");
}

#[test]
fn never_acknowledges_for_machine_type_11_1() {
    let mut dest = detecting(Some(b"pc-q35-11.1"));
    dest.advise(&[("ram", 4 * PAGE)], PAGE);
    (0..500).for_each(|_| piece(&mut dest, 0));
    assert_eq!(dest.said(), [""; 0]);
    assert!(!dest.core.may_await_ack());
}
