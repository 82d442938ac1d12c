//! The texts of errors: what failed, where, who has to act, and what to do.

use std::fmt::{self, Write};

use super::*;
use crate::blocks::BlockError;

const REPORT: &str = "a bug in the calling program: please report it";
const FAULTY: &str = "the source violates the protocol; check that the right peer is connected";
const SIZES: &str = "configure the page sizes of the source's RAM blocks here";

/// Each kind with its text, who has to act, and what to do.
fn all() -> Vec<(ErrorKind, &'static str, Blame, &'static str)> {
    use Blame::{Caller, Link, Peer, Settings};
    let what = "RUN";
    vec![
        (
            ErrorKind::OutOfTurn { what },
            "unexpected RUN",
            Peer,
            FAULTY,
        ),
        (
            ErrorKind::OnPreempt { what },
            "RUN is only allowed on the main channel",
            Peer,
            FAULTY,
        ),
        (
            ErrorKind::NoReturnPath { what },
            "RUN came before OPEN_RETURN_PATH",
            Peer,
            FAULTY,
        ),
        (
            ErrorKind::Unsupported { what },
            "RUN is not supported",
            Peer,
            "disable this capability at the source",
        ),
        (
            ErrorKind::Block(BlockError::Twice),
            "two blocks have the same name",
            Peer,
            FAULTY,
        ),
        (
            ErrorKind::Block(BlockError::HostPage { size: 3 }),
            "host page size 3: must be a power of two and at least the target page size",
            Peer,
            "configure the page size of the source's RAM block here",
        ),
        (
            ErrorKind::Block(BlockError::Length { len: 1, page: 2 }),
            "block length 1: must be a positive multiple of its page size 2",
            Peer,
            "configure the page size of the source's RAM block here",
        ),
        (
            ErrorKind::PageSize { ours: 1, theirs: 2 },
            "the block's page size is 2 bytes at the source, but 1 bytes here",
            Settings,
            SIZES,
        ),
        (
            ErrorKind::PageSummary { ours: 1, theirs: 2 },
            "the page sizes of all blocks are 0x2 at the source, but 0x1 here",
            Settings,
            SIZES,
        ),
        (
            ErrorKind::PageTooLarge { page: 1 << 32 },
            "the page size of 4294967296 bytes is too large to be requested",
            Settings,
            SIZES,
        ),
        (
            ErrorKind::TooMuchRam { total: 2, limit: 1 },
            "2 bytes of RAM exceed the limit of 1 bytes",
            Settings,
            "raise the limit if the machine really has this much RAM",
        ),
        (
            ErrorKind::TooManyBlocks,
            "more than 4096 RAM blocks",
            Settings,
            "no machine has this many: check what is connecting here",
        ),
        (
            ErrorKind::Violation("the page was sent twice"),
            "the page was sent twice",
            Peer,
            FAULTY,
        ),
        (
            ErrorKind::Interleaved { open: 0x2000 },
            "the host page at 0x2000 must be completed first",
            Peer,
            FAULTY,
        ),
        (
            ErrorKind::NoSwitch,
            "the stream ended without a switch to postcopy",
            Settings,
            "start postcopy at the source before precopy ends",
        ),
        (
            ErrorKind::LinkLost,
            "the connection was lost before the guest may run here",
            Link,
            "the guest is still at the source: start the migration again",
        ),
        (
            ErrorKind::DevicesLost,
            "the stream ended, but the device state was lost with an earlier connection",
            Link,
            "the source was told that it may run its guest again",
        ),
        (
            ErrorKind::Misuse("no such page"),
            "no such page",
            Caller,
            REPORT,
        ),
    ]
}

fn error(kind: ErrorKind) -> Error {
    Error {
        kind,
        location: None,
        channel: None,
        phase: Phase::Running,
    }
}

#[test]
fn describes_every_kind_and_who_has_to_act() {
    for (kind, words, blame, advice) in all() {
        assert_eq!(kind.to_string(), words);
        assert_eq!(kind.blame(), blame, "{words}");
        let error = error(kind);
        assert_eq!(error.to_string(), format!("{words} [running]: {advice}"));
        assert_eq!(error.is_peer_fault(), blame == Blame::Peer, "{words}");
    }
}

/// An error with a location and a channel.
fn whole() -> Error {
    Error {
        kind: ErrorKind::Incomplete { missing: 7 },
        location: Some(Location {
            block: names("pc.ram"),
            offset: Some(0x3000),
        }),
        channel: Some(Preempt),
        phase: Phase::Listening,
    }
}

#[test]
fn names_block_offset_channel_and_phase() {
    let mut error = whole();
    let rest = "the stream ended, but 7 target pages are missing (this is the first) \
                [preempt channel, listening]: the source was told; do not run a guest on this \
                memory";
    assert_eq!(error.to_string(), format!("block pc.ram at 0x3000: {rest}"));
    assert!(error.is_peer_fault());
    error.location.as_mut().unwrap().offset = None;
    assert_eq!(error.to_string(), format!("block pc.ram: {rest}"));
}

/// A writer with room for this many bytes.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[test]
fn passes_on_errors_of_the_writer() {
    let errors = all().into_iter().map(|(kind, ..)| error(kind));
    for error in errors.chain([whole()]) {
        for room in 0..error.to_string().len() {
            assert!(write!(Room(room), "{error}").is_err(), "{error}");
        }
    }
}
