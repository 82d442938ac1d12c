//! The texts of a source's errors, and whose fault they are.

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
fn errors_state_why_a_message_is_refused() {
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
        (Cause::Unasked, "not requested, or received already"),
        (
            Cause::UnknownBlock(block.clone()),
            "unknown RAM block \"pc.ram\"",
        ),
        (Cause::NoBlock, "no REQ_PAGES_ID has named a RAM block yet"),
        (
            Cause::Range {
                block: block.clone(),
                error: range,
            },
            "block \"pc.ram\": range 0x2000 + 0x1000 exceeds the block length 0x2000",
        ),
        (Cause::Order, "RECV_BITMAP must be followed by its bitmap"),
        (
            Cause::Bitmap {
                block: block.clone(),
                rule: Rule::BitmapTail,
            },
            "block \"pc.ram\": the bitmap has bits set after the last page of the block",
        ),
        (
            Cause::NeverSent {
                block: block.clone(),
                offset: 0x3000,
            },
            "block \"pc.ram\": page 0x3000 is marked received but was never sent; \
             check that this is the same destination",
        ),
        (
            Cause::HalfPage {
                block,
                offset: 0x1_0000,
            },
            "block \"pc.ram\": the host page at 0x10000 is marked partly received",
        ),
        (
            Cause::EarlyShut { left: 4096 },
            "the destination ended the migration, but 4096 bytes have not been sent",
        ),
    ] {
        let error = refused(cause);
        let text = format!("return path, offset 300 (0x12c), REQ_PAGES: {words}");
        assert_eq!(error.to_string(), text);
        assert!(error.is_peer_fault());
    }
}

#[test]
fn errors_state_the_cause_and_whose_fault_it_is() {
    let malformed = |rule| Error::Malformed(DecodeError::new(4, None, None, rule));
    let limit = Rule::BitmapLimit { size: 16, limit: 8 };
    for (error, words, theirs) in [
        (
            malformed(Rule::Reserved),
            "return path, offset 4 (0x4): message number 0 is reserved [reserved]",
            true,
        ),
        (
            malformed(limit),
            "return path, offset 4 (0x4): bitmap size is 16 bytes, but this reader \
             accepts at most 8 [bitmap-limit]",
            false,
        ),
        (
            Error::GaveUp { value: 1 },
            "the destination failed (SHUT 1): see its own messages for the cause",
            true,
        ),
        (
            Error::LinkLost,
            "the link broke before the switch: the guest is still at the source; start the \
             migration again",
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
        (Error::Config("run size 512".into()), "run size 512", false),
    ] {
        assert_eq!(error.to_string(), words);
        assert_eq!(error.is_peer_fault(), theirs, "{words}");
    }
}

#[test]
fn each_phase_has_its_own_name() {
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
