//! What a destination's errors tell a person: what, where, whose fault, and
//! what to do.

use std::fmt::{self, Write};

use super::*;
use crate::blocks::BlockError;

const REPORT: &str = "a fault of the program, please report it";
const FAULTY: &str = "the source is faulty, or not the one that is meant";
const SIZES: &str = "tell this side the page sizes that the source's RAM blocks have";

/// Each of them, with its words, whose fault it is, and what to do.
fn all() -> Vec<(What, &'static str, Blame, &'static str)> {
    use Blame::{Caller, Link, Peer, Settings};
    let what = "RUN";
    vec![
        (
            What::OutOfTurn { what },
            "RUN may not come now",
            Peer,
            FAULTY,
        ),
        (
            What::OnPreempt { what },
            "RUN may come on the main channel only",
            Peer,
            FAULTY,
        ),
        (
            What::NoReturnPath { what },
            "RUN came before OPEN_RETURN_PATH",
            Peer,
            FAULTY,
        ),
        (
            What::Unsupported { what },
            "RUN is not supported",
            Peer,
            "turn that capability off at the source",
        ),
        (
            What::UnknownBlock,
            "no RAM block has this name",
            Peer,
            FAULTY,
        ),
        (
            What::Block(BlockError::Twice),
            "two blocks have the same name",
            Peer,
            FAULTY,
        ),
        (
            What::Block(BlockError::HostPage { size: 3 }),
            "host page size 3: must be a power of two and at least the target page size",
            Peer,
            "tell this side the page size that the source's RAM block has",
        ),
        (
            What::Block(BlockError::Length { len: 1, page: 2 }),
            "block length 1: must be a positive multiple of its page size 2",
            Peer,
            "tell this side the page size that the source's RAM block has",
        ),
        (
            What::PageSize { ours: 1, theirs: 2 },
            "the block has pages of 2 bytes at the source, 1 here",
            Settings,
            SIZES,
        ),
        (
            What::PageSummary { ours: 1, theirs: 2 },
            "the page sizes of all blocks are 0x2 at the source, 0x1 here",
            Settings,
            SIZES,
        ),
        (
            What::PageTooLarge { page: 1 << 32 },
            "pages of 4294967296 bytes cannot be requested",
            Settings,
            SIZES,
        ),
        (
            What::TooMuchRam { total: 2, limit: 1 },
            "2 bytes of RAM, but 1 is the limit",
            Settings,
            "raise the limit if the machine really has that much",
        ),
        (
            What::TooManyBlocks,
            "more than 4096 RAM blocks",
            Settings,
            "no machine has that many: look at what is connecting here",
        ),
        (
            What::PageTwice,
            "the page comes a second time",
            Peer,
            FAULTY,
        ),
        (
            What::TargetPageTwice,
            "the target page comes twice in its host page",
            Peer,
            FAULTY,
        ),
        (
            What::Interleaved { open: 0x2000 },
            "the host page at 0x2000 is not complete yet",
            Peer,
            FAULTY,
        ),
        (
            What::OnBothChannels,
            "the host page is split over both channels",
            Peer,
            FAULTY,
        ),
        (
            What::Torn,
            "only a part of the host page was received or discarded",
            Peer,
            FAULTY,
        ),
        (
            What::BitmapTwice,
            "the received bitmap is asked for twice",
            Peer,
            FAULTY,
        ),
        (
            What::BitmapNotAsked,
            "POSTCOPY_RESUME came before the received bitmap was asked for",
            Peer,
            FAULTY,
        ),
        (
            What::Flood,
            "PINGs come faster than the PONGs are read",
            Peer,
            FAULTY,
        ),
        (
            What::NoSwitch,
            "the stream has ended without a switch to postcopy",
            Settings,
            "start postcopy at the source before precopy ends",
        ),
        (
            What::LinkLost,
            "the connection was lost before the guest may run",
            Link,
            "the source still has the guest: start the migration again",
        ),
        (
            What::LinkDown,
            "the connection is down, nothing can come from it",
            Caller,
            REPORT,
        ),
        (
            What::Over,
            "the migration has failed before",
            Caller,
            REPORT,
        ),
        (
            What::NoPreempt,
            "no preempt channel was agreed",
            Caller,
            REPORT,
        ),
        (What::NoSuchPage, "there is no such page", Caller, REPORT),
        (
            What::NotListening,
            "pages are not requested before POSTCOPY_LISTEN",
            Caller,
            REPORT,
        ),
        (
            What::BlockNumber { next: 3 },
            "the number of this RAM block is 3",
            Caller,
            REPORT,
        ),
        (
            What::PageLength { len: 9 },
            "a target page with 9 bytes of data",
            Caller,
            REPORT,
        ),
        (
            What::NotHandedOut,
            "the range was not handed out for placement",
            Caller,
            REPORT,
        ),
        (
            What::TooManyRuns,
            "64 ranges are being placed already",
            Caller,
            REPORT,
        ),
        (
            What::StillPlacing,
            "a range is still being placed",
            Caller,
            REPORT,
        ),
        (
            What::NothingToSave,
            "the device state is not complete",
            Caller,
            REPORT,
        ),
        (
            What::NothingToConfirm,
            "the end has not come",
            Caller,
            REPORT,
        ),
        (
            What::NotPaused,
            "there is nothing to recover",
            Caller,
            REPORT,
        ),
    ]
}

fn error(what: What) -> Error {
    Error {
        what,
        place: None,
        channel: None,
        phase: Phase::Running,
    }
}

#[test]
fn says_what_is_wrong_whose_fault_it_is_and_what_to_do() {
    for (what, words, blame, advice) in all() {
        assert_eq!(what.to_string(), words);
        assert_eq!(what.blame(), blame, "{words}");
        let error = error(what);
        assert_eq!(error.to_string(), format!("{words} [running]: {advice}"));
        assert_eq!(error.is_peer_fault(), blame == Blame::Peer, "{words}");
    }
}

/// An error with all that there is to say.
fn whole() -> Error {
    Error {
        what: What::Incomplete { missing: 7 },
        place: Some(Place {
            block: names("pc.ram"),
            offset: Some(0x3000),
        }),
        channel: Some(Preempt),
        phase: Phase::Listening,
    }
}

#[test]
fn says_where_it_is_wrong() {
    let mut error = whole();
    let rest = "the stream has ended, but 7 target pages are missing (this is the first) \
                [preempt channel, listening]: the source has been told; do not run a guest on \
                this memory";
    assert_eq!(error.to_string(), format!("block pc.ram at 0x3000: {rest}"));
    assert!(error.is_peer_fault());
    error.place.as_mut().unwrap().offset = None;
    assert_eq!(error.to_string(), format!("block pc.ram: {rest}"));
}

/// A writer with room for so many bytes.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[test]
fn stops_where_its_writer_does() {
    let errors = all().into_iter().map(|(what, ..)| error(what));
    for error in errors.chain([whole()]) {
        for room in 0..error.to_string().len() {
            assert!(write!(Room(room), "{error}").is_err(), "{error}");
        }
    }
}
