//! RAM records: the contents of a `ram` section and of the preempt channel.
//!
//! A record begins with a `be64` word: an offset in the bits above the target
//! page size, and below it exactly one of these flags, with or without
//! CONTINUE.

use crate::model::{Body, Constant, Evidence, Legal, Literal, Record, Refusal};

use Evidence::{Read, Recorded, Tried};

const NOWHERE: Legal = Legal {
    precopy: false,
    postcopy: false,
    preempt: false,
};
const PRECOPY: Legal = Legal {
    precopy: true,
    ..NOWHERE
};
const EVERYWHERE: Legal = Legal {
    precopy: true,
    postcopy: true,
    preempt: true,
};

const NAMELESS: Refusal =
    Refusal::strict("CONTINUE in the first record of a block on this channel.");

const UNKNOWN_BLOCK: Refusal = Refusal::strict("The name of an unknown block, or an empty name.");

const BEYOND_BLOCK: Refusal =
    Refusal::strict("A page that does not lie inside the block's used length.");

const INTERLEAVED: Refusal = Refusal::strict(
    "After LISTEN: a target page of another host page before the current one is complete.",
);

const REPEATED: Refusal = Refusal::lax(
    "After LISTEN: the same target page twice in one host page.",
    "QEMU counts the target pages of a host page: a repeated one completes the host page although \
     another is missing.",
);

const WITH_OFFSET: Refusal = Refusal::lax(
    "CONTINUE or an offset in the same word.",
    "QEMU ignores them.",
);

/// For every record that carries a page of a block.
const PAGE_REFUSALS: &[Refusal] = &[NAMELESS, UNKNOWN_BLOCK, BEYOND_BLOCK, INTERLEAVED, REPEATED];

/// Smallest target page size whose offsets leave all flags free, in bytes.
pub const MIN_TARGET_PAGE: u64 = 1024;

/// Largest target page size of any architecture, in bytes.
pub const MAX_TARGET_PAGE: u64 = 65536;

/// The byte in front of an XBZRLE record's length.
pub const XBZRLE_ENCODING: u8 = 0x01;

/// Values besides the flags.
pub const CONSTANTS: &[Constant] = &[
    Constant {
        name: "MIN_TARGET_PAGE",
        value: Literal::Decimal64(MIN_TARGET_PAGE),
        doc: "Smallest target page size whose offsets leave all flags free, in bytes.",
        since: "",
    },
    Constant {
        name: "MAX_TARGET_PAGE",
        value: Literal::Decimal64(MAX_TARGET_PAGE),
        doc: "Largest target page size of any architecture, in bytes.",
        since: "",
    },
    Constant {
        name: "XBZRLE_ENCODING",
        value: Literal::U8(XBZRLE_ENCODING),
        doc: "The byte in front of an XBZRLE record's length.",
        since: "",
    },
];

const RECORDED: &[Evidence] = &[Read("10.2"), Recorded("5.2, 7.2, 10.0, 11.1")];

/// The flags, in order of their values.
pub const RECORDS: &[Record] = &[
    Record {
        flag: 0x001,
        rust: "Full",
        label: "FULL",
        qemu: "RAM_SAVE_FLAG_FULL",
        doc: "Obsolete since 2009.",
        body: Body::Refused,
        in_block: false,
        legal: NOWHERE,
        since: "never in a stream of version 4",
        seen: &[Read("10.2")],
        refuse: &[],
    },
    Record {
        flag: 0x002,
        rust: "Zero",
        label: "ZERO",
        qemu: "RAM_SAVE_FLAG_ZERO",
        doc: "A page filled with one byte; since 8.2 that byte must be 0. Named \
              RAM_SAVE_FLAG_COMPRESS up to 2.9.",
        body: Body::Fill,
        in_block: true,
        legal: EVERYWHERE,
        since: "2.5",
        seen: RECORDED,
        refuse: &[
            Refusal::lax(
                "A fill byte other than 0.",
                "Before 8.2 QEMU fills the page with it.",
            )
            .seen(&[Read("7.0, 10.2"), Tried("5.2, 7.2, 10.0, 11.1")]),
            NAMELESS,
            UNKNOWN_BLOCK,
            BEYOND_BLOCK,
            INTERLEAVED,
            REPEATED,
        ],
    },
    Record {
        flag: 0x004,
        rust: "MemSize",
        label: "MEM_SIZE",
        qemu: "RAM_SAVE_FLAG_MEM_SIZE",
        doc: "The list of RAM blocks; the offset bits hold the total length of all of them.",
        body: Body::BlockList,
        in_block: false,
        legal: PRECOPY,
        since: "2.5",
        seen: RECORDED,
        refuse: &[
            Refusal::lax(
                "The list anywhere but in a SECTION_START.",
                "QEMU accepts it in any section before LISTEN.",
            ),
            Refusal::lax("A second list.", "QEMU applies each."),
            Refusal::lax(
                "Lengths whose sum exceeds the total.",
                "QEMU's unsigned subtraction wraps, and it continues to read blocks until an \
                 unknown name stops it.",
            ),
            Refusal::lax("The same block twice.", "QEMU applies each entry."),
            Refusal::lax(
                "A length that is not a multiple of the block's page size.",
                "QEMU rounds it up to the larger one of target page size and the host's base page \
                 size.",
            )
            .seen(&[Read("5.2, 10.1")]),
        ],
    },
    Record {
        flag: 0x008,
        rust: "Page",
        label: "PAGE",
        qemu: "RAM_SAVE_FLAG_PAGE",
        doc: "The contents of one target page.",
        body: Body::Page,
        in_block: true,
        legal: EVERYWHERE,
        since: "2.5",
        seen: RECORDED,
        refuse: PAGE_REFUSALS,
    },
    Record {
        flag: 0x010,
        rust: "Eos",
        label: "EOS",
        qemu: "RAM_SAVE_FLAG_EOS",
        doc: "End of the section's payload. The word is exactly 0x10.",
        body: Body::Nothing,
        in_block: false,
        legal: EVERYWHERE,
        since: "2.5",
        seen: RECORDED,
        refuse: &[WITH_OFFSET],
    },
    Record {
        flag: 0x020,
        rust: "Continue",
        label: "CONTINUE",
        qemu: "RAM_SAVE_FLAG_CONTINUE",
        doc: "Modifier: no block name follows, because the block is that of the previous record on \
              this channel, in this section or an earlier one.",
        body: Body::Modifier,
        in_block: false,
        legal: EVERYWHERE,
        since: "2.5",
        seen: RECORDED,
        refuse: &[Refusal::lax(
            "CONTINUE alone, or with a record that belongs to no block.",
            "QEMU ignores it with a record that belongs to no block.",
        )],
    },
    Record {
        flag: 0x040,
        rust: "Xbzrle",
        label: "XBZRLE",
        qemu: "RAM_SAVE_FLAG_XBZRLE",
        doc: "The difference from the previously sent version of the page.",
        body: Body::Xbzrle,
        in_block: true,
        legal: PRECOPY,
        since: "2.5",
        seen: &[Read("10.2")],
        refuse: &[
            Refusal::strict("A first byte other than 1, or more bytes than a target page."),
            NAMELESS,
            UNKNOWN_BLOCK,
            BEYOND_BLOCK,
        ],
    },
    Record {
        flag: 0x080,
        rust: "Hook",
        label: "HOOK",
        qemu: "RAM_SAVE_FLAG_HOOK",
        doc: "RDMA only. On a socket QEMU 5.2 and 7.2 refuse it, 10.0 and 11.1 ignore it.",
        body: Body::Nothing,
        in_block: false,
        legal: PRECOPY,
        since: "2.5",
        seen: &[Read("7.2, 8.2, 10.2"), Tried("5.2, 7.2, 10.0, 11.1")],
        refuse: &[WITH_OFFSET],
    },
    Record {
        flag: 0x100,
        rust: "CompressPage",
        label: "COMPRESS_PAGE",
        qemu: "RAM_SAVE_FLAG_COMPRESS_PAGE",
        doc: "A page compressed with zlib.",
        body: Body::Compressed,
        in_block: true,
        legal: Legal {
            precopy: true,
            postcopy: true,
            preempt: false,
        },
        since: "2.4 to 9.0",
        seen: &[Read("4.2, 5.0, 8.1, 9.0, 9.2")],
        refuse: &[
            Refusal::strict("More bytes than zlib can produce from a target page."),
            Refusal::lax(
                "The record on the preempt channel.",
                "One function reads both channels and accepts it (7.1 to 9.0); sources do not send \
                 it there.",
            )
            .seen(&[Read("8.1, 9.0")]),
            NAMELESS,
            UNKNOWN_BLOCK,
            BEYOND_BLOCK,
            INTERLEAVED,
            REPEATED,
        ],
    },
    Record {
        flag: 0x200,
        rust: "MultifdFlush",
        label: "MULTIFD_FLUSH",
        qemu: "RAM_SAVE_FLAG_MULTIFD_FLUSH",
        doc: "Wait until all packets on the multifd channels have been processed.",
        body: Body::Nothing,
        in_block: false,
        legal: PRECOPY,
        since: "8.1",
        seen: &[Read("8.1, 9.0, 9.2, 10.0, 10.2"), Recorded("11.1")],
        refuse: &[
            WITH_OFFSET,
            Refusal::lax(
                "The record after LISTEN or on the preempt channel.",
                "8.1 to 9.2 accept it, 10.0 and later refuse it.",
            )
            .seen(&[Read("8.1, 9.0, 9.2, 10.0"), Tried("10.0, 11.1")]),
        ],
    },
];
