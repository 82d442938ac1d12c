//! What a source's errors tell a person, and whose fault they are.

use retpath_codec::{DecodeError, NameBuf, Rule};

use retpath_engine::blocks::BlockError;
use retpath_engine::source::SourcePhase;
use retpath_engine::source::{Cause, Error};

fn refused(cause: Cause) -> Error {
    Error::Refused {
        offset: 300,
        message: "REQ_PAGES",
        cause,
    }
}

#[test]
fn says_why_a_message_is_refused() {
    let block = NameBuf::new("pc.ram").expect("a name");
    let range = BlockError::Overrun {
        start: 0x2000,
        len: 0x1000,
        block: 0x2000,
    };
    for (cause, words) in [
        (
            Cause::Phase(SourcePhase::Paused),
            "not expected while paused",
        ),
        (
            Cause::Unasked,
            "nothing asked for it, or it has come already",
        ),
        (
            Cause::UnknownBlock(block.clone()),
            "no RAM block is called \"pc.ram\"",
        ),
        (Cause::NoBlock, "no request has named a RAM block yet"),
        (
            Cause::Range {
                block: block.clone(),
                error: range,
            },
            "block \"pc.ram\": range 0x2000 + 0x1000 passes the end of the block at 0x2000",
        ),
        (
            Cause::Order,
            "a bitmap must follow RECV_BITMAP, and nothing else",
        ),
        (
            Cause::Bitmap {
                block: block.clone(),
                rule: Rule::BitmapTail,
            },
            "block \"pc.ram\": bitmap has bits set beyond the block's last page",
        ),
        (
            Cause::NeverSent {
                block: block.clone(),
                offset: 0x3000,
            },
            "block \"pc.ram\": page 0x3000 is called received but was never sent; \
             is this the same destination?",
        ),
        (
            Cause::HalfPage {
                block,
                offset: 0x1_0000,
            },
            "block \"pc.ram\": only a part of the host page at 0x10000 is called received",
        ),
        (
            Cause::EarlyShut { left: 4096 },
            "the destination says that it is done, but 4096 bytes are not sent",
        ),
    ] {
        let error = refused(cause);
        let text = format!("return path, offset 300 (0x12c), REQ_PAGES: {words}");
        assert_eq!(error.to_string(), text);
        assert!(error.is_peer_fault());
    }
}

#[test]
fn says_what_went_wrong_and_whose_fault_it_is() {
    let malformed = |rule| {
        Error::Malformed(DecodeError {
            offset: 4,
            message: None,
            field: None,
            rule,
        })
    };
    let limit = Rule::BitmapLimit { size: 16, limit: 8 };
    for (error, words, theirs) in [
        (
            malformed(Rule::Reserved),
            "return path, offset 4 (0x4): message number 0 is never valid [reserved]",
            true,
        ),
        (
            malformed(limit),
            "return path, offset 4 (0x4): bitmap of 16 bytes, but 8 is the most this reader \
             allows [bitmap-limit]",
            false,
        ),
        (
            Error::GaveUp { value: 1 },
            "the destination has failed (SHUT 1): its own messages say why",
            true,
        ),
        (
            Error::LinkLost,
            "the link broke before the switch: the guest is still here, start again",
            false,
        ),
        (
            Error::Phase {
                call: "switch",
                phase: SourcePhase::Fresh,
            },
            "`switch` is not possible while fresh",
            false,
        ),
        (
            Error::Blocks(BlockError::Twice),
            "two blocks have the same name",
            false,
        ),
        (
            Error::TooMuch,
            "the RAM blocks' lengths add up to more than 2^64 - 1",
            false,
        ),
        (
            Error::Machine { len: 256 },
            "a machine type of 256 bytes: 1 to 255 fit",
            false,
        ),
        (
            Error::Run {
                run: 512,
                target: 4096,
            },
            "runs of 512 bytes do not hold a target page of 4096 bytes",
            false,
        ),
        (
            Error::DeviceState { len: 1 << 32 },
            "a device state of 4294967296 bytes does not fit a package of at most 2^32 - 1",
            false,
        ),
    ] {
        assert_eq!(error.to_string(), words);
        assert_eq!(error.is_peer_fault(), theirs, "{words}");
    }
}

#[test]
fn calls_each_phase_by_its_own_name() {
    let phases = [
        (SourcePhase::Fresh, "fresh"),
        (SourcePhase::Precopy, "precopy"),
        (SourcePhase::Switching, "switching"),
        (SourcePhase::Postcopy, "postcopy"),
        (SourcePhase::Completing, "completing"),
        (SourcePhase::Paused, "paused"),
        (SourcePhase::Recovering, "recovering"),
        (SourcePhase::Resuming, "resuming"),
        (SourcePhase::Completed, "completed"),
        (SourcePhase::Failed, "failed"),
    ];
    for (phase, name) in phases {
        assert_eq!(phase.to_string(), name);
        assert_eq!(phase.is_over(), ["completed", "failed"].contains(&name));
    }
}
