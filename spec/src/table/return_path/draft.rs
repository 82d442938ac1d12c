//! The draft of June 2015, as far as it differs from what QEMU merged.

use super::{PONG, RESERVED, SHUT, START_FIELD, migration};
use crate::model::{Dialect, Evidence, Evidence::Read, Field, Kind, Message, Refusal, Rule, Unit};

const UNCHECKED: &str = "The draft does not check this: its handler only traces.";
const DRAFT: &[Evidence] = &[Read("in the draft")];

const REQ_PAGES_V7: Message = Message {
    number: 3,
    rust: "ReqPages",
    label: "REQ_PAGES",
    qemu: "MIG_RP_MSG_REQ_PAGES",
    doc: "Requests pages of the named RAM block or, without a name, of the block that the last \
          request named.",
    when: "The destination's fault thread.",
    fields: &[
        START_FIELD,
        Field {
            name: "len",
            kind: Kind::FlaggedBe64,
            rule: Rule::Span,
            unit: Unit::Bytes,
            doc: "length of the requested range; even, because bit 0 is a flag: a name follows",
        },
        Field {
            name: "block",
            kind: Kind::FlaggedName,
            rule: Rule::Any,
            unit: Unit::Plain,
            doc: "name of the RAM block, present if bit 0 of `len` is set",
        },
    ],
    trailer: None,
    since: "never released",
    gate: &[],
    values: &[],
    writer: migration("migrate_send_rp_req_pages"),
    reader: migration("migrate_handle_rp_req_pages"),
    seen: DRAFT,
    refuse: &[
        Refusal::lax(
            "A payload length that does not match the flag and the name.",
            "The draft reports it, and a payload of fewer than 16 bytes as well, only after parsing; \
             it marks the return path bad and still calls the handler.",
        )
        .seen(DRAFT),
        Refusal::lax("An empty block name, or a NUL byte in it.", UNCHECKED).seen(DRAFT),
        Refusal::lax("A length of 0, or `start` + `len` beyond 2^64 - 1.", UNCHECKED).seen(DRAFT),
        Refusal::lax(
            "A request without a name before the first one with a name.",
            UNCHECKED,
        )
        .seen(DRAFT),
    ],
};

/// The return path of the seventh draft of the postcopy series.
pub const V7: Dialect = Dialect {
    name: "v7",
    title: "draft dialect of the return path",
    rust: "V7",
    message: "Message",
    qemu: "enum mig_rp_message_type",
    doc: "The draft of June 2015 (postcopy series, version 7, patch 30 of 42). No released QEMU \
          speaks it. Its bytes do not distinguish it from the merged dialect: select it out of \
          band.",
    lead: &[],
    max_payload: 512,
    reserved: RESERVED,
    messages: &[SHUT, PONG, REQ_PAGES_V7],
};
