//! RAM records: what a `ram` section, and the preempt channel, consist of.
//!
//! A record opens with a `be64` word: an offset in its high bits and exactly
//! one of these flags, with or without CONTINUE, in the bits below the target
//! page size.

use crate::model::{Body, Legal, Record, Refusal};

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

const NAMELESS: Refusal = Refusal {
    what: "CONTINUE in the first record of a block on this channel.",
    laxer: None,
};

const UNKNOWN_BLOCK: Refusal = Refusal {
    what: "The name of an unknown block, or an empty one.",
    laxer: None,
};

const BEYOND_BLOCK: Refusal = Refusal {
    what: "A page that does not lie inside the block's used length.",
    laxer: None,
};

const INTERLEAVED: Refusal = Refusal {
    what: "After LISTEN: a target page of another host page before the last one is complete.",
    laxer: None,
};

const REPEATED: Refusal = Refusal {
    what: "After LISTEN: the same target page twice in one host page.",
    laxer: Some(
        "QEMU counts the target pages of a host page, so the same one twice passes for two and \
         the host page is placed with a hole.",
    ),
};

const WITH_OFFSET: Refusal = Refusal {
    what: "CONTINUE or an offset in the same word.",
    laxer: Some("QEMU ignores them."),
};

/// For every record that carries a page of a block.
const PAGE_REFUSALS: &[Refusal] = &[NAMELESS, UNKNOWN_BLOCK, BEYOND_BLOCK, INTERLEAVED, REPEATED];

/// Smallest target page size whose offsets leave all flags free, in bytes.
pub const MIN_TARGET_PAGE: u64 = 1024;

/// Largest target page size of any architecture, in bytes.
pub const MAX_TARGET_PAGE: u64 = 65536;

/// The byte in front of an XBZRLE record's length.
pub const XBZRLE_ENCODING: u8 = 0x01;

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
        refuse: &[],
    },
    Record {
        flag: 0x002,
        rust: "Zero",
        label: "ZERO",
        qemu: "RAM_SAVE_FLAG_ZERO",
        doc: "The page is filled with one byte; since 8.2 that byte must be 0. Called COMPRESS up \
              to 8.x.",
        body: Body::Fill,
        in_block: true,
        legal: EVERYWHERE,
        since: "2.5",
        refuse: &[
            Refusal {
                what: "A fill byte other than 0.",
                laxer: Some("Before 8.2 QEMU fills the page with it."),
            },
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
        doc: "The offset bits hold the total length of all RAM blocks; the list of blocks follows.",
        body: Body::BlockList,
        in_block: false,
        legal: PRECOPY,
        since: "2.5",
        refuse: &[
            Refusal {
                what: "The list anywhere but in a SECTION_START.",
                laxer: Some("QEMU takes it in any piece before LISTEN."),
            },
            Refusal {
                what: "A second list.",
                laxer: Some("QEMU applies each."),
            },
            Refusal {
                what: "Lengths whose sum passes the total.",
                laxer: Some(
                    "QEMU subtracts without looking and goes on to read blocks until an unknown \
                     name stops it.",
                ),
            },
            Refusal {
                what: "The same block twice.",
                laxer: Some("QEMU applies each entry."),
            },
            Refusal {
                what: "A length that is not a multiple of the block's page size.",
                laxer: Some("QEMU rounds it up."),
            },
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
        refuse: &[WITH_OFFSET],
    },
    Record {
        flag: 0x020,
        rust: "Continue",
        label: "CONTINUE",
        qemu: "RAM_SAVE_FLAG_CONTINUE",
        doc: "No block name follows: the block is the one of the previous record on this channel. \
              Holds across sections.",
        body: Body::Modifier,
        in_block: false,
        legal: EVERYWHERE,
        since: "2.5",
        refuse: &[Refusal {
            what: "CONTINUE without a record, or with one that belongs to no block.",
            laxer: Some("QEMU ignores it beside a flag that stands for a whole record."),
        }],
    },
    Record {
        flag: 0x040,
        rust: "Xbzrle",
        label: "XBZRLE",
        qemu: "RAM_SAVE_FLAG_XBZRLE",
        doc: "The difference to the page as it was sent before.",
        body: Body::Xbzrle,
        in_block: true,
        legal: PRECOPY,
        since: "2.5",
        refuse: &[
            Refusal {
                what: "A first byte other than 1, or more bytes than a target page.",
                laxer: None,
            },
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
        doc: "RDMA only; nothing follows it on a socket.",
        body: Body::Nothing,
        in_block: false,
        legal: PRECOPY,
        since: "2.5",
        refuse: &[WITH_OFFSET],
    },
    Record {
        flag: 0x100,
        rust: "CompressPage",
        label: "COMPRESS_PAGE",
        qemu: "RAM_SAVE_FLAG_COMPRESS_PAGE",
        doc: "The page, compressed with zlib.",
        body: Body::Compressed,
        in_block: true,
        legal: Legal {
            precopy: true,
            postcopy: true,
            preempt: false,
        },
        since: "2.4 to 9.0",
        refuse: &[
            Refusal {
                what: "More bytes than zlib can make of a target page.",
                laxer: None,
            },
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
        doc: "Wait until the multifd channels have delivered what they hold.",
        body: Body::Nothing,
        in_block: false,
        legal: PRECOPY,
        since: "8.1",
        refuse: &[WITH_OFFSET],
    },
];
