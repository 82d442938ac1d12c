//! The return path: what a migration's destination sends back to its source.
//!
//! Two dialects, which cannot be told apart from the bytes: the one that QEMU
//! merged, and the draft of June 2015 (patch 30 of 42 of the postcopy series,
//! version 7).

use crate::model::{Dialect, Field, Kind, Message, Refusal, Reserved, Rule, Source, Trailer, Unit};

const fn migration(function: &'static str) -> Source {
    Source {
        file: "migration.c",
        function,
    }
}

const RESERVED: Reserved = Reserved {
    number: 0,
    qemu: "MIG_RP_MSG_INVALID",
    doc: "Kept out of use so that zeroed memory is no message.",
};

const READER: Source = migration("source_return_path_thread");

const NAME_FIELD: Field = Field {
    name: "block",
    kind: Kind::Name,
    rule: Rule::Any,
    unit: Unit::Plain,
    doc: "RAM block, as the block list of the `ram` section spells it",
};

const START_FIELD: Field = Field {
    name: "start",
    kind: Kind::Be64,
    rule: Rule::Any,
    unit: Unit::Offset,
    doc: "first byte wanted; a multiple of the block's host page size",
};

const LEN_FIELD: Field = Field {
    name: "len",
    kind: Kind::Be32,
    rule: Rule::Span,
    unit: Unit::Bytes,
    doc: "how much is wanted; QEMU asks for exactly one host page, and reads 2^31 or more as \
          negative",
};

const EMPTY_SPAN: Refusal = Refusal {
    what: "A length of 0.",
    laxer: Some("QEMU takes it as one target page if `start` is not 0."),
};

const WRAPPING_SPAN: Refusal = Refusal {
    what: "`start` + `len` beyond 2^64 - 1.",
    laxer: Some("QEMU adds without looking and compares the wrapped sum with the block's length."),
};

const EMPTY_NAME: Refusal = Refusal {
    what: "An empty block name.",
    laxer: None,
};

const NUL_IN_NAME: Refusal = Refusal {
    what: "A NUL byte inside the block name.",
    laxer: Some("QEMU's string ends at the NUL: the rest of the name is ignored."),
};

const MISALIGNED: Refusal = Refusal {
    what: "`start` or `len` not a multiple of the block's page size.",
    laxer: Some(
        "QEMU checks against the system's page size only; with a preempt channel it checks `len` \
         against the block's page size too.",
    ),
};

const BEYOND_BLOCK: Refusal = Refusal {
    what: "A range that does not lie inside the block's used length.",
    laxer: None,
};

const UNKNOWN_BLOCK: Refusal = Refusal {
    what: "The name of an unknown block.",
    laxer: None,
};

const NO_BLOCK_YET: Refusal = Refusal {
    what: "A request without a name before any with one.",
    laxer: None,
};

const SHUT: Message = Message {
    number: 1,
    rust: "Shut",
    label: "SHUT",
    qemu: "MIG_RP_MSG_SHUT",
    doc: "The destination will send nothing more: 0 after success, anything else after an error.",
    when: "Destination, once, as the last message; also at the end of a precopy migration with a \
           return path. A source that never gets it waits for ever (3.0 to 8.1) or fails the \
           migration and, since 9.0, restarts the guest.",
    fields: &[Field {
        name: "value",
        kind: Kind::Be32,
        rule: Rule::Any,
        unit: Unit::Plain,
        doc: "0 = every page arrived; QEMU sends 1 when its input stream had an error",
    }],
    trailer: Some(Trailer::End),
    since: "2.5",
    gate: None,
    writer: migration("migrate_send_rp_shut"),
    reader: READER,
    refuse: &[
        Refusal {
            what: "A value of 0 before everything has been sent.",
            laxer: Some("QEMU takes it at any time: it stops reading, and goes on sending."),
        },
        Refusal {
            what: "Any byte after this message.",
            laxer: Some("QEMU stops reading, so it never sees one."),
        },
    ],
};

const PONG: Message = Message {
    number: 2,
    rust: "Pong",
    label: "PONG",
    qemu: "MIG_RP_MSG_PONG",
    doc: "Answer to the PING command with the same value.",
    when: "Destination, for every PING, at once, from the thread that read the PING; so PONGs may \
           overtake each other (QEMU answers 1, 2, 4, 3). 0x42 tells a source of 10.2 or later \
           that the device state has been loaded.",
    fields: &[Field {
        name: "value",
        kind: Kind::Be32,
        rule: Rule::Any,
        unit: Unit::Plain,
        doc: "the value of the PING",
    }],
    trailer: None,
    since: "2.5",
    gate: None,
    writer: migration("migrate_send_rp_pong"),
    reader: READER,
    refuse: &[],
};

const REQ_PAGES_ID: Message = Message {
    number: 3,
    rust: "ReqPagesId",
    label: "REQ_PAGES_ID",
    qemu: "MIG_RP_MSG_REQ_PAGES_ID",
    doc: "Wants pages of the named RAM block.",
    when: "Destination's fault thread, when the block differs from the previous request's and for \
           the first request after a recovery. The named block stays current for REQ_PAGES. A page \
           that is clean at the source is dropped without an answer.",
    fields: &[START_FIELD, LEN_FIELD, NAME_FIELD],
    trailer: None,
    since: "2.5",
    gate: Some("postcopy-ram"),
    writer: migration("migrate_send_rp_message_req_pages"),
    reader: migration("migrate_handle_rp_req_pages"),
    refuse: &[
        Refusal {
            what: "A payload length that is not 13 + the name's length.",
            laxer: None,
        },
        EMPTY_NAME,
        NUL_IN_NAME,
        UNKNOWN_BLOCK,
        EMPTY_SPAN,
        WRAPPING_SPAN,
        BEYOND_BLOCK,
        MISALIGNED,
    ],
};

const REQ_PAGES: Message = Message {
    number: 4,
    rust: "ReqPages",
    label: "REQ_PAGES",
    qemu: "MIG_RP_MSG_REQ_PAGES",
    doc: "Wants pages of the RAM block that the last REQ_PAGES_ID named.",
    when: "Destination's fault thread, while the block stays the same.",
    fields: &[START_FIELD, LEN_FIELD],
    trailer: None,
    since: "2.5",
    gate: Some("postcopy-ram"),
    writer: migration("migrate_send_rp_message_req_pages"),
    reader: migration("migrate_handle_rp_req_pages"),
    refuse: &[
        NO_BLOCK_YET,
        EMPTY_SPAN,
        WRAPPING_SPAN,
        BEYOND_BLOCK,
        MISALIGNED,
    ],
};

const RECV_BITMAP: Message = Message {
    number: 5,
    rust: "RecvBitmap",
    label: "RECV_BITMAP",
    qemu: "MIG_RP_MSG_RECV_BITMAP",
    doc: "Which pages of the named RAM block have been received; the bitmap follows the frame.",
    when: "Destination, one for each RECV_BITMAP command, in order, during recovery. Nothing else \
           may be written between the frame and the bitmap's end mark.",
    fields: &[NAME_FIELD],
    trailer: Some(Trailer::Bitmap),
    since: "3.0",
    gate: Some("postcopy-ram, in recovery"),
    writer: migration("migrate_send_rp_recv_bitmap"),
    reader: migration("migrate_handle_rp_recv_bitmap"),
    refuse: &[
        EMPTY_NAME,
        NUL_IN_NAME,
        Refusal {
            what: "A payload length that is not 1 + the name's length.",
            laxer: Some(
                "QEMU demands at least 1 byte, takes what is missing of the name from an older \
                 message and ignores what is left over.",
            ),
        },
        Refusal {
            what: "A bitmap whose size is 0 or not a multiple of 8.",
            laxer: None,
        },
        Refusal {
            what: "A bitmap of another size than the block needs, before it is allocated.",
            laxer: None,
        },
        Refusal {
            what: "A bit set beyond the block's last page.",
            laxer: Some("QEMU ignores it."),
        },
        Refusal {
            what: "A page that has not been sent, or a part of a host page.",
            laxer: Some("QEMU checks neither: it never sends what the bitmap claims."),
        },
        Refusal {
            what: "An end mark other than 0x0123456789abcdef.",
            laxer: None,
        },
        Refusal {
            what: "The message outside recovery.",
            laxer: None,
        },
        Refusal {
            what: "A block that was not asked for, or a second bitmap of one that was.",
            laxer: Some(
                "QEMU counts bitmaps and not blocks: a second one of the same block stands for one \
                 that has not come.",
            ),
        },
    ],
};

const RESUME_ACK: Message = Message {
    number: 6,
    rust: "ResumeAck",
    label: "RESUME_ACK",
    qemu: "MIG_RP_MSG_RESUME_ACK",
    doc: "The destination is ready to go on after a broken link.",
    when: "Destination, as the answer to POSTCOPY_RESUME; the requests that were open when the \
           link broke follow it.",
    fields: &[Field {
        name: "value",
        kind: Kind::Be32,
        rule: Rule::Equals(1),
        unit: Unit::Plain,
        doc: "always 1",
    }],
    trailer: None,
    since: "3.0",
    gate: Some("postcopy-ram, in recovery"),
    writer: migration("migrate_send_rp_resume_ack"),
    reader: migration("migrate_handle_rp_resume_ack"),
    refuse: &[
        Refusal {
            what: "A value other than 1.",
            laxer: None,
        },
        Refusal {
            what: "The message outside recovery.",
            laxer: Some("QEMU looks at the value only."),
        },
    ],
};

const SWITCHOVER_ACK: Message = Message {
    number: 7,
    rust: "SwitchoverAck",
    label: "SWITCHOVER_ACK",
    qemu: "MIG_RP_MSG_SWITCHOVER_ACK",
    doc: "The destination's devices agree to the switch.",
    when: "Destination, once. Up to 11.0 at OPEN_RETURN_PATH if no device asked to be waited for, \
           which makes it the first message, before PONG 1; else when the last device agrees. With \
           machine types of 11.1 and later once for each device that asked, and never if none did.",
    fields: &[],
    trailer: None,
    since: "8.1",
    gate: Some("switchover-ack with return-path"),
    writer: migration("migrate_send_rp_switchover_ack"),
    reader: READER,
    refuse: &[Refusal {
        what: "A second one.",
        laxer: Some(
            "QEMU takes any, awaited or not; with machine types of 11.1 and later it refuses one \
             that no device has asked for.",
        ),
    }],
};

/// The return path as QEMU has spoken it since 2.5.
pub const QEMU: Dialect = Dialect {
    name: "qemu",
    title: "merged dialect of the return path",
    rust: "Qemu",
    message: "Message",
    qemu: "enum mig_rp_message_type",
    doc: "The return path of every released QEMU. A receiver refuses unknown numbers: there is no \
          forward compatibility, no magic, no checksum and no way to find the next message after \
          an error.",
    lead: &[],
    max_payload: 512,
    reserved: RESERVED,
    messages: &[
        SHUT,
        PONG,
        REQ_PAGES_ID,
        REQ_PAGES,
        RECV_BITMAP,
        RESUME_ACK,
        SWITCHOVER_ACK,
    ],
};

const UNCHECKED: Option<&str> = Some("The draft does not check it: its handler only traces.");

const REQ_PAGES_V7: Message = Message {
    number: 3,
    rust: "ReqPages",
    label: "REQ_PAGES",
    qemu: "MIG_RP_MSG_REQ_PAGES",
    doc: "Wants pages of the named RAM block or, without a name, of the block that the last request \
          named.",
    when: "Destination's fault thread.",
    fields: &[
        START_FIELD,
        Field {
            name: "len",
            kind: Kind::FlaggedBe64,
            rule: Rule::Span,
            unit: Unit::Bytes,
            doc: "how much is wanted; even, since bit 0 says that a name follows",
        },
        Field {
            name: "block",
            kind: Kind::FlaggedName,
            rule: Rule::Any,
            unit: Unit::Plain,
            doc: "RAM block, if bit 0 of `len` is set",
        },
    ],
    trailer: None,
    since: "never released",
    gate: None,
    writer: migration("migrate_send_rp_req_pages"),
    reader: migration("migrate_handle_rp_req_pages"),
    refuse: &[
        Refusal {
            what: "A payload length that does not fit the flag and the name.",
            laxer: Some(
                "The draft reports it, marks the return path bad and serves the request all the same.",
            ),
        },
        Refusal {
            what: "An empty block name, or a NUL byte inside it.",
            laxer: UNCHECKED,
        },
        Refusal {
            what: "A length of 0, or `start` + `len` beyond 2^64 - 1.",
            laxer: UNCHECKED,
        },
        Refusal {
            what: "A request without a name before any with one.",
            laxer: UNCHECKED,
        },
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
          spoke it. It cannot be told from the merged dialect by its bytes: choose out of band.",
    lead: &[],
    max_payload: 512,
    reserved: RESERVED,
    messages: &[SHUT, PONG, REQ_PAGES_V7],
};
