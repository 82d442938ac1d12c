//! The return path: messages from a migration's destination to its source.
//!
//! There are two dialects: the one that QEMU merged, and the draft of June 2015
//! (patch 30 of 42 of the postcopy series, version 7). The bytes do not show
//! which one is in use.

use super::capability::{POSTCOPY_RAM, SWITCHOVER_ACK as SWITCHOVER_ACK_CAPABILITY};
use crate::model::{
    Constant, Dialect, Evidence, Field, Kind, Literal, Message, Refusal, Reserved, Rule, Source,
    Trailer, Unit,
};

mod draft;

pub use draft::V7;

use Evidence::{Read, Recorded, Tried};

/// Last eight bytes of a received bitmap.
pub const BITMAP_END: u64 = 0x0123_4567_89ab_cdef;

/// The size of a received bitmap is a multiple of this many bytes.
pub const BITMAP_ALIGN: u64 = 8;

/// Values of the received bitmap.
pub const BITMAP: &[Constant] = &[
    Constant {
        name: "BITMAP_END",
        value: Literal::U64(BITMAP_END),
        doc: "Last eight bytes of a received bitmap.",
        since: "",
    },
    Constant {
        name: "BITMAP_ALIGN",
        value: Literal::Decimal64(BITMAP_ALIGN),
        doc: "The size of a received bitmap is a multiple of this many bytes.",
        since: "",
    },
];

/// Value of SHUT after success.
pub const SHUT_SUCCESS: u32 = 0;
/// Value of SHUT after an error of the destination's input stream.
pub const SHUT_FAILURE: u32 = 1;

/// The only value of RESUME_ACK.
pub const RESUME_ACK_READY: u32 = 1;

const SHUT_VALUES: &[Constant] = &[
    Constant {
        name: "SHUT_SUCCESS",
        value: Literal::U32(SHUT_SUCCESS),
        doc: "Every page arrived.",
        since: "",
    },
    Constant {
        name: "SHUT_FAILURE",
        value: Literal::U32(SHUT_FAILURE),
        doc: "The destination failed; QEMU's source treats every value but 0 like this.",
        since: "",
    },
];

const RESUME_ACK_VALUES: &[Constant] = &[Constant {
    name: "RESUME_ACK_READY",
    value: Literal::U32(RESUME_ACK_READY),
    doc: "The destination is ready.",
    since: "",
}];

const fn migration(function: &'static str) -> Source {
    Source {
        file: "migration.c",
        function,
    }
}

const RESERVED: Reserved = Reserved {
    number: 0,
    qemu: "MIG_RP_MSG_INVALID",
    doc: "Reserved, so that zeroed memory is not a valid message.",
};

const READER: Source = migration("source_return_path_thread");

const NAME_FIELD: Field = Field {
    name: "block",
    kind: Kind::Name,
    rule: Rule::Any,
    unit: Unit::Plain,
    doc: "name of the RAM block, as in the block list of the `ram` section",
};

const START_FIELD: Field = Field {
    name: "start",
    kind: Kind::Be64,
    rule: Rule::Any,
    unit: Unit::Offset,
    doc: "first byte of the requested range, a multiple of the block's host page size",
};

const LEN_FIELD: Field = Field {
    name: "len",
    kind: Kind::Be32,
    rule: Rule::Span,
    unit: Unit::Bytes,
    doc: "length of the requested range; QEMU requests exactly one host page, and reads 2^31 or \
          more as a negative number",
};

const EMPTY_SPAN: Refusal = Refusal::lax(
    "A length of 0.",
    "Unless `start` is 0, QEMU sends what is dirty of the host page from `start` on; with a preempt \
     channel it sends nothing.",
);

const WRAPPING_SPAN: Refusal = Refusal::lax(
    "`start` + `len` beyond 2^64 - 1.",
    "QEMU compares the wrapped sum with the block's length.",
);

const EMPTY_NAME: Refusal = Refusal::strict("An empty block name.");

const NUL_IN_NAME: Refusal = Refusal::lax(
    "A NUL byte in the block name.",
    "QEMU's string ends at the NUL and the rest of the name is ignored.",
);

const MISALIGNED: Refusal = Refusal::lax(
    "`start` or `len` not a multiple of the block's page size.",
    "QEMU compares with the host's base page size only. With a preempt channel (8.0 and later) it \
     asserts that `len` is a multiple of the block's page size: such a request aborts the source \
     process.",
)
.seen(&[Read("8.0, 10.2")]);

const BEYOND_BLOCK: Refusal =
    Refusal::strict("A range that does not lie inside the block's used length.");

const UNKNOWN_BLOCK: Refusal = Refusal::strict("The name of an unknown block.");

const NO_BLOCK_YET: Refusal =
    Refusal::strict("A request without a name before the first one with a name.");

const POSTCOPY: &[Evidence] = &[Read("2.5, 10.2"), Recorded("5.2, 7.2, 10.0, 11.1")];
const RECOVERY: &[Evidence] = &[Read("3.0, 10.2"), Recorded("5.2, 7.2, 10.0, 11.1")];

const SHUT: Message = Message {
    number: 1,
    rust: "Shut",
    label: "SHUT",
    qemu: "MIG_RP_MSG_SHUT",
    doc: "The destination will send nothing more: 0 after success, any other value after an error.",
    when: "The destination, once, as its last message; also at the end of a precopy migration with a \
           return path. A source waits for it without a timeout.",
    fields: &[Field {
        name: "value",
        kind: Kind::Be32,
        rule: Rule::Any,
        unit: Unit::Plain,
        doc: "outcome",
    }],
    trailer: Some(Trailer::End),
    since: "2.5",
    gate: &[],
    values: SHUT_VALUES,
    writer: migration("migrate_send_rp_shut"),
    reader: READER,
    seen: POSTCOPY,
    refuse: &[
        Refusal::lax(
            "A value of 0 before everything has been sent.",
            "QEMU accepts it at any time: it stops reading and continues to send.",
        ),
        Refusal::lax(
            "Any byte after this message.",
            "QEMU has stopped reading and does not notice.",
        ),
    ],
};

const PONG: Message = Message {
    number: 2,
    rust: "Pong",
    label: "PONG",
    qemu: "MIG_RP_MSG_PONG",
    doc: "Answers the PING command with the same value.",
    when: "The destination, at once for every PING, from the thread that read it. PONGs may overtake \
           each other: QEMU answers 1, 2, 4, 3. The value 0x42 tells a source of 10.2 or later that \
           the device states have been loaded.",
    fields: &[Field {
        name: "value",
        kind: Kind::Be32,
        rule: Rule::Any,
        unit: Unit::Plain,
        doc: "value of the PING",
    }],
    trailer: None,
    since: "2.5",
    gate: &[],
    values: &[],
    writer: migration("migrate_send_rp_pong"),
    reader: READER,
    seen: POSTCOPY,
    refuse: &[],
};

const REQ_PAGES_ID: Message = Message {
    number: 3,
    rust: "ReqPagesId",
    label: "REQ_PAGES_ID",
    qemu: "MIG_RP_MSG_REQ_PAGES_ID",
    doc: "Requests pages of the named RAM block.",
    when: "The destination's fault thread, when the block differs from that of the previous request \
           and for the first request after a recovery. The named block stays current for REQ_PAGES. \
           A request for a page that is clean at the source is dropped without an answer.",
    fields: &[START_FIELD, LEN_FIELD, NAME_FIELD],
    trailer: None,
    since: "2.5",
    gate: &[POSTCOPY_RAM],
    values: &[],
    writer: migration("migrate_send_rp_message_req_pages"),
    reader: migration("migrate_handle_rp_req_pages"),
    seen: POSTCOPY,
    refuse: &[
        Refusal::strict("A payload length that is not 13 + the name's length."),
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
    doc: "Requests pages of the RAM block that the last REQ_PAGES_ID named.",
    when: "The destination's fault thread, while the block stays the same.",
    fields: &[START_FIELD, LEN_FIELD],
    trailer: None,
    since: "2.5",
    gate: &[POSTCOPY_RAM],
    values: &[],
    writer: migration("migrate_send_rp_message_req_pages"),
    reader: migration("migrate_handle_rp_req_pages"),
    seen: POSTCOPY,
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
    doc: "Reports which pages of the named RAM block have been received; the bitmap follows the frame.",
    when: "The destination, once for each RECV_BITMAP command, in order, during recovery. QEMU \
           flushes the frame and releases the return path's lock before it writes the bitmap; \
           nothing comes between them, because the other writers are paused.",
    fields: &[NAME_FIELD],
    trailer: Some(Trailer::Bitmap),
    since: "3.0",
    gate: &[POSTCOPY_RAM],
    values: &[],
    writer: migration("migrate_send_rp_recv_bitmap"),
    reader: migration("migrate_handle_rp_recv_bitmap"),
    seen: RECOVERY,
    refuse: &[
        EMPTY_NAME,
        NUL_IN_NAME,
        Refusal::lax(
            "A payload length that is not 1 + the name's length.",
            "QEMU requires at least 1 byte, completes a short name from an older message in its \
             buffer and ignores surplus bytes.",
        ),
        Refusal::strict("A bitmap whose size is 0 or not a multiple of 8."),
        Refusal::strict(
            "A bitmap whose size differs from what the block needs; compare before allocating.",
        ),
        Refusal::lax(
            "A bit set beyond the block's last page.",
            "QEMU ignores it.",
        ),
        Refusal::lax(
            "A bit for a page that has not been sent, or for a part of a host page.",
            "QEMU checks neither and never sends a page that the bitmap claims.",
        ),
        Refusal::strict("A wrong end mark."),
        Refusal::strict("The message outside recovery."),
        Refusal::lax(
            "A block that was not requested, or a second bitmap of the same block.",
            "QEMU counts bitmaps, not blocks: a second bitmap of one block stands in for a missing \
             one of another.",
        ),
    ],
};

const RESUME_ACK: Message = Message {
    number: 6,
    rust: "ResumeAck",
    label: "RESUME_ACK",
    qemu: "MIG_RP_MSG_RESUME_ACK",
    doc: "The destination is ready to continue after a broken connection.",
    when: "The destination, in answer to POSTCOPY_RESUME. The requests that were outstanding when \
           the connection broke follow it.",
    fields: &[Field {
        name: "value",
        kind: Kind::Be32,
        rule: Rule::Equals(RESUME_ACK_READY as u64),
        unit: Unit::Plain,
        doc: "always 1",
    }],
    trailer: None,
    since: "3.0",
    gate: &[POSTCOPY_RAM],
    values: RESUME_ACK_VALUES,
    writer: migration("migrate_send_rp_resume_ack"),
    reader: migration("migrate_handle_rp_resume_ack"),
    seen: RECOVERY,
    refuse: &[
        Refusal::strict("A value other than 1."),
        Refusal::lax(
            "The message outside recovery.",
            "QEMU checks the value only.",
        ),
    ],
};

const SWITCHOVER_ACK: Message = Message {
    number: 7,
    rust: "SwitchoverAck",
    label: "SWITCHOVER_ACK",
    qemu: "MIG_RP_MSG_SWITCHOVER_ACK",
    doc: "The destination's devices agree to the switchover.",
    when: "The destination. Up to 11.0, and with machine types up to 11.0 on later releases, once: at \
           OPEN_RETURN_PATH if no device asked to be waited for, which makes it the first message, \
           before PONG 1; otherwise when the last device agrees. With machine types 11.1 and later \
           once for each request of a device, which may request again, and never without a request.",
    fields: &[],
    trailer: None,
    since: "8.1",
    gate: &[SWITCHOVER_ACK_CAPABILITY],
    values: &[],
    writer: migration("migrate_send_rp_switchover_ack"),
    reader: READER,
    seen: &[
        Read("10.2"),
        Recorded("10.0, 11.1"),
        Tried("10.0, 11.1, without a device that asks"),
        Evidence::Unverified("several requests of one device in 11.1"),
    ],
    refuse: &[Refusal::lax(
        "One that is not awaited.",
        "Up to 11.0 QEMU accepts any number of them. With machine types 11.1 and later it fails the \
         migration (\"Switchover ack pending num underflowed\").",
    )
    .seen(&[Read("10.2"), Tried("10.0, 11.1")])],
};

/// The return path as QEMU has spoken it since 2.5.
pub const QEMU: Dialect = Dialect {
    name: "qemu",
    title: "merged dialect of the return path",
    rust: "Qemu",
    message: "Message",
    qemu: "enum mig_rp_message_type",
    doc: "The return path of every released QEMU. A receiver refuses unknown numbers: there is no \
          forward compatibility, no magic number, no checksum and no way to find the next message \
          after an error.",
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
