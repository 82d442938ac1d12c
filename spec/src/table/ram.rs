//! RAM records: what a `ram` section, and the preempt channel, consist of.
//!
//! A record opens with a `be64` word: an offset in its high bits and exactly
//! one of these flags, with or without CONTINUE, in the bits below the target
//! page size.

use crate::row::{Body, Legal, Record};

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

/// Smallest target page size whose offsets leave all flags free, in bytes.
pub const MIN_TARGET_PAGE: u64 = 1024;

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
    },
];
