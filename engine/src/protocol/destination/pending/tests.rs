use retpath_codec::{NameBuf, Rule};

use super::super::Config;
use super::*;
use crate::blocks::Block;

/// What has arrived on a connection, and whether it has been closed behind that.
type Arrived = (&'static [u8], bool);

const SILENT: Arrived = (b"", false);

/// A main channel up to its first section.
const FIRST: &[u8] = b"QEVM\0\0\0\x03\x07\0\0\0\x02pc\x08\0\x01\0\0\
    \x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04";

/// RECV_BITMAP of the block.
const ASKS: &[u8] = b"\x08\0\x0a\0\x07\x06pc.ram";

/// ZERO records: of the third page, which is requested, and of the first one.
const REQUESTED: &[u8] = b"\0\0\0\0\0\0\x20\x02\x06pc.ram\0";
const OTHER: &[u8] = b"\0\0\0\0\0\0\0\x02\x06pc.ram\0";

const EOS: &[u8] = b"\0\0\0\0\0\0\0\x10";

const MULTIFD: &[u8] = b"\x11\x22\x33\x44\0\0\0\x01";

/// A paused migration of four pages, of which the third is requested.
struct Fixture {
    core: Destination,
    refused: Vec<Refusal>,
}

impl Fixture {
    fn new() -> Self {
        let name = NameBuf::new("pc.ram").expect("a name");
        let (len, page) = (4 * 4096, 4096);
        let block = Block { name, len, page };
        let core = Destination::resumed(Config::default(), [(block, [0])], Some(&[]));
        let mut core = core.expect("a block");
        core.fault(0, 2 * 4096, 0).expect("a page");
        Self {
            core,
            refused: Vec::new(),
        }
    }

    fn take(&mut self, pending: &mut Pending<usize>) -> Option<usize> {
        pending.take(&self.core, |why| self.refused.push(why))
    }
}

fn none(wanted: Wanted, user: Option<u32>) -> Pending<usize> {
    Pending::new(wanted, user, forward::Options::default(), false)
}

/// Connections by number, of one user.
fn pending(wanted: Wanted, arrived: &[Arrived]) -> Pending<usize> {
    let mut pending = none(wanted, None);
    for number in 0..arrived.len() {
        assert_eq!(pending.admit(number, Some(7)), None);
    }
    update(&mut pending, arrived);
    pending
}

fn update(pending: &mut Pending<usize>, arrived: &[Arrived]) {
    let peek = |number: &usize, head: &mut [u8; HEAD]| {
        let (bytes, is_last) = arrived[*number];
        let len = bytes.len().min(HEAD);
        head[..len].copy_from_slice(&bytes[..len]);
        Ok((len > 0 || !is_last).then_some((len, is_last)))
    };
    pending.update(peek, |why| panic!("{why}"));
}

fn left(pending: &Pending<usize>) -> Vec<usize> {
    pending.connections.iter().map(|one| one.handle).collect()
}

#[test]
fn takes_a_main_channel_once_its_first_section_begins() {
    let mut fixture = Fixture::new();
    let mut pending = pending(Wanted::First, &[SILENT]);
    for len in 0..FIRST.len() {
        update(&mut pending, &[(&FIRST[..len], false)]);
        assert_eq!(fixture.take(&mut pending), None, "{len} bytes");
    }
    update(&mut pending, &[(FIRST, false)]);
    assert_eq!(fixture.take(&mut pending), Some(0));
    assert_eq!(fixture.refused, []);
}

#[test]
fn silence_after_a_header_blocks_no_other_main_channel() {
    let header = (&FIRST[..8], false);
    let mut pending = pending(Wanted::First, &[SILENT, header, (FIRST, true), header]);
    assert_eq!(Fixture::new().take(&mut pending), Some(2));
    assert_eq!(left(&pending), [0, 1, 3]);
}

#[test]
fn refuses_what_is_no_migration_and_takes_the_next_connection() {
    let pings = [&FIRST[..20], &b"\x08\0\x02\0\x04\0\0\0\0".repeat(HEAD / 9)].concat();
    let mut fixture = Fixture::new();
    for (bytes, is_last, malformed) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], false, true),
        (b"garbage.", false, true),
        (b"QEVM\0\0\0\x02", false, true),
        (b"x", true, false),
        (b"QEV", true, false),
        (&FIRST[..FIRST.len() - 1], true, false),
        (b"QEVM\0\0\0\x03\0", false, false),
        (pings.leak(), false, false),
    ] {
        let mut pending = pending(Wanted::First, &[(bytes, is_last), (FIRST, false)]);
        assert_eq!(fixture.take(&mut pending), Some(1), "{bytes:?}");
        assert!(pending.is_empty());
        let why = fixture.refused.pop().expect("a reason");
        assert_eq!(matches!(why, Refusal::Malformed(_)), malformed, "{why}");
    }
}

#[test]
fn drops_connections_that_close_without_data() {
    let mut pending = pending(Wanted::First, &[(b"", true), SILENT]);
    assert_eq!(left(&pending), [1]);
    let mut fixture = Fixture::new();
    assert_eq!(fixture.take(&mut pending), None);
    assert_eq!(fixture.refused, []);
}

#[test]
fn drops_and_reports_connections_that_cannot_be_read() {
    let mut pending = pending(Wanted::First, &[SILENT, SILENT]);
    let cause = || "Input/output error".into();
    let peek = |number: &usize, _: &mut [u8; HEAD]| match number {
        0 => Err(Refusal::Unreadable { cause: cause() }),
        _ => Ok(Some((0, false))),
    };
    let mut refused = Vec::new();
    pending.update(peek, |why| refused.push(why.clone()));
    assert_eq!(refused, [Refusal::Unreadable { cause: cause() }]);
    assert_eq!(left(&pending), [1]);
}

#[test]
fn one_byte_holds_no_seat_after_a_cut() {
    let one = (&ASKS[..1], false);
    let mut pending = pending(Wanted::Replacement, &[one, one, one, (ASKS, false), SILENT]);
    assert_eq!(Fixture::new().take(&mut pending), Some(3));
    assert_eq!(left(&pending), [0, 1, 2, 4]);
}

#[test]
fn refuses_replacements_that_cannot_resume() {
    let mut fixture = Fixture::new();
    let long = b"\x08\0\x06\xff\xff".iter().chain(&[0; HEAD]).copied();
    for (bytes, is_last) in [
        (OTHER, false),
        (FIRST, false),
        (b"GET /", false),
        (b"\x08\0\x0a\0\x07\x06pc.rom", false),
        (b"\x08\0\x0b\0\0", false),
        // Nobody reads the answer.
        (ASKS, true),
        (&ASKS[..3], true),
        (long.collect::<Vec<_>>().leak(), false),
    ] {
        let mut pending = pending(Wanted::Replacement, &[(bytes, is_last)]);
        assert_eq!(fixture.take(&mut pending), None, "{bytes:?}");
        assert!(pending.is_empty() && fixture.refused.pop().is_some());
    }
}

#[test]
fn tells_whether_another_connection_could_resume() {
    let fixture = Fixture::new();
    let mut pending = pending(Wanted::Preempt, &[SILENT, (&ASKS[..9], false)]);
    assert!(!pending.has_rival(&fixture.core));
    update(&mut pending, &[SILENT, (ASKS, false)]);
    assert!(pending.has_rival(&fixture.core));
}

#[test]
fn takes_a_preempt_channel_only_with_a_requested_page() {
    let mut fixture = Fixture::new();
    let all = [
        SILENT,
        (ASKS, false),
        (OTHER, false),
        (&REQUESTED[..REQUESTED.len() - 2], false),
        (REQUESTED, true),
    ];
    let mut pending = pending(Wanted::Preempt, &all);
    assert_eq!(fixture.take(&mut pending), Some(4));
    assert_eq!(fixture.take(&mut pending), None);
    // The next main channel is there already.
    pending.want(Wanted::Replacement);
    assert_eq!(fixture.take(&mut pending), Some(1));
}

#[test]
fn waits_for_a_preempt_channel_whose_first_record_comes_in_pieces() {
    let mut fixture = Fixture::new();
    let whole = REQUESTED.len() - 1;
    for cut in 0..=whole {
        let mut pending = pending(Wanted::Preempt, &[SILENT, (&REQUESTED[..cut], false)]);
        let taken = fixture.take(&mut pending);
        assert_eq!(taken, (cut == whole).then_some(1), "{cut} bytes");
        update(&mut pending, &[SILENT, (REQUESTED, false)]);
        assert_eq!(taken.or(fixture.take(&mut pending)), Some(1), "{cut} bytes");
        assert_eq!(fixture.refused, []);
    }
}

#[test]
fn takes_any_missing_page_after_another_process_requested_some() {
    let mut fixture = Fixture::new();
    let beyond = b"\0\0\0\0\0\0\x40\x02\x06pc.ram\0";
    let mut pending = pending(Wanted::Preempt, &[(beyond, false), (OTHER, false)]);
    pending.judge.resumed = true;
    assert_eq!(fixture.take(&mut pending), Some(1));
}

#[test]
fn refuses_records_that_cannot_begin_a_preempt_channel() {
    let mut fixture = Fixture::new();
    let continued = b"\0\0\0\0\0\0\x20\x22\0";
    for bytes in [&continued[..], &[0; 16], b"\0\0\0\0\0\0\x20\x04"] {
        let mut pending = pending(Wanted::Preempt, &[(bytes, false)]);
        assert_eq!(fixture.take(&mut pending), None);
        assert_eq!(fixture.refused.pop(), Some(Refusal::Unwanted));
    }
}

#[test]
fn drops_a_preempt_channel_that_ends_without_a_page_once_asked() {
    let mut fixture = Fixture::new();
    let mut pending = pending(Wanted::Preempt, &[(EOS, true), (OTHER, false)]);
    assert_eq!(fixture.take(&mut pending), None);
    assert_eq!(left(&pending), [0, 1]);
    assert!(pending.drop_ended(&fixture.core));
    assert!(!pending.drop_ended(&fixture.core));
    assert_eq!(left(&pending), [1]);
}

#[test]
fn detects_a_multifd_channel_and_never_takes_it_for_the_main_one() {
    for others in [&[(OTHER, false)][..], &[SILENT], &[(&MULTIFD[..3], false)]] {
        assert!(!pending(Wanted::Preempt, others).has_multifd());
    }
    let mut pending = pending(Wanted::First, &[SILENT, (MULTIFD, false)]);
    assert!(pending.has_multifd());
    let mut fixture = Fixture::new();
    assert_eq!(fixture.take(&mut pending), None);
    assert_eq!(fixture.refused, []);
    pending.clear();
    assert!(!pending.has_multifd() && pending.is_empty());
}

#[test]
fn evicts_the_oldest_of_those_that_have_sent_the_least() {
    for wanted in [Wanted::First, Wanted::Preempt, Wanted::Nothing] {
        let mut pending = pending(wanted, &[SILENT; MAX_PENDING]);
        for number in MAX_PENDING..1000 {
            assert_eq!(pending.admit(number, Some(7)), None);
        }
        let youngest: Vec<_> = (1000 - MAX_PENDING..1000).collect();
        assert_eq!(left(&pending), youngest);
    }
    // The next main channel, among strangers with a byte each.
    let mut all = [(&b"\x08"[..], false); MAX_PENDING];
    all[5] = (ASKS, false);
    let mut pending = pending(Wanted::Nothing, &all);
    for number in MAX_PENDING..2 * MAX_PENDING - 1 {
        assert_eq!(pending.admit(number, Some(7)), None);
    }
    pending.want(Wanted::Replacement);
    assert_eq!(Fixture::new().take(&mut pending), Some(5));
}

#[test]
fn accepts_channels_of_the_sources_user_only() {
    let mut fixture = Fixture::new();
    let mut pending = none(Wanted::First, None);
    for (number, user) in [(0, Some(1)), (1, Some(2)), (2, None), (3, Some(2))] {
        assert_eq!(pending.admit(number, user), None);
    }
    update(&mut pending, &[SILENT, (FIRST, false), SILENT, SILENT]);
    assert_eq!(fixture.take(&mut pending), Some(1));
    assert_eq!(left(&pending), [3]);
    let [one, none] = [Some(1), None].map(|uid| Refusal::User { uid });
    assert_eq!(fixture.refused, [one.clone(), none]);
    pending.want(Wanted::Replacement);
    assert_eq!(pending.admit(4, Some(1)), Some(one));
    assert_eq!(pending.admit(5, Some(2)), None);
}

#[test]
fn accepts_the_named_user_only_from_the_first_connection_on() {
    let mut pending = none(Wanted::First, Some(2));
    for user in [Some(1), None, Some(0)] {
        assert_eq!(pending.admit(0, user), Some(Refusal::User { uid: user }));
    }
    assert_eq!(pending.admit(1, Some(2)), None);
    assert_eq!(left(&pending), [1]);
}

#[test]
fn reads_no_more_of_a_connection_than_its_head() {
    let zeros = (&[0; 2 * HEAD][..], false);
    let pending = pending(Wanted::Preempt, &[SILENT, zeros, (OTHER, true)]);
    assert_eq!(pending.unread().collect::<Vec<_>>(), [&0]);
    assert_eq!(pending.connections[1].head.len(), HEAD);
}

#[test]
fn says_why_a_connection_was_dropped() {
    let mut fixture = Fixture::new();
    let mut pending = pending(Wanted::First, &[(b"GET / HT", false)]);
    fixture.take(&mut pending);
    let why = fixture.refused.pop().expect("a reason");
    assert!(matches!(&why, Refusal::Malformed(error) if matches!(error.rule, Rule::Magic { .. })));
    assert!(
        why.to_string()
            .starts_with("it does not begin like a migration: ")
    );
    let uid = Some(65534);
    assert!(Refusal::User { uid }.to_string().contains("user 65534"));
}
