// Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.

//! Flags of RAM records: the low bits of the word at the start of each record.
//!
//! ```
//! use retpath_codec::wire::ram;
//!
//! // A page of zeros at offset 0x3000 of the block of the previous record.
//! let word = 0x3000 | ram::ZERO | ram::CONTINUE;
//! let flags = word & (4096 - 1);
//! assert_eq!(ram::label(flags & !ram::CONTINUE), Some("ZERO"));
//! assert!(flags & ram::POSTCOPY != 0);
//! ```

/// Obsolete since 2009.
///
/// `RAM_SAVE_FLAG_FULL`.
pub const FULL: u64 = 0x001;

/// A page filled with one byte; since 8.2 that byte must be 0. Named
/// RAM_SAVE_FLAG_COMPRESS up to 2.9.
///
/// `RAM_SAVE_FLAG_ZERO`.
pub const ZERO: u64 = 0x002;

/// The list of RAM blocks; the offset bits hold the total length of all of
/// them.
///
/// `RAM_SAVE_FLAG_MEM_SIZE`.
pub const MEM_SIZE: u64 = 0x004;

/// The contents of one target page.
///
/// `RAM_SAVE_FLAG_PAGE`.
pub const PAGE: u64 = 0x008;

/// End of the section's payload. The word is exactly 0x10.
///
/// `RAM_SAVE_FLAG_EOS`.
pub const EOS: u64 = 0x010;

/// Modifier: no block name follows, because the block is that of the previous
/// record on this channel, in this section or an earlier one.
///
/// `RAM_SAVE_FLAG_CONTINUE`.
pub const CONTINUE: u64 = 0x020;

/// The difference from the previously sent version of the page.
///
/// `RAM_SAVE_FLAG_XBZRLE`.
pub const XBZRLE: u64 = 0x040;

/// RDMA only. On a socket QEMU 5.2 and 7.2 refuse it, 10.0 and 11.1 ignore it.
///
/// `RAM_SAVE_FLAG_HOOK`.
pub const HOOK: u64 = 0x080;

/// A page compressed with zlib.
///
/// `RAM_SAVE_FLAG_COMPRESS_PAGE`.
pub const COMPRESS_PAGE: u64 = 0x100;

/// Wait until all packets on the multifd channels have been processed.
///
/// `RAM_SAVE_FLAG_MULTIFD_FLUSH`.
pub const MULTIFD_FLUSH: u64 = 0x200;

/// Records that belong to a block.
pub const IN_BLOCK: u64 = 0x14a;

/// Flags that are allowed before POSTCOPY_LISTEN.
pub const PRECOPY: u64 = 0x3fe;

/// Flags that are allowed after POSTCOPY_LISTEN.
pub const POSTCOPY: u64 = 0x13a;

/// Flags that are allowed on the preempt channel.
pub const PREEMPT: u64 = 0x03a;

/// Smallest target page size whose offsets leave all flags free, in bytes.
pub const MIN_TARGET_PAGE: u64 = 1024;

/// Largest target page size of any architecture, in bytes.
pub const MAX_TARGET_PAGE: u64 = 65536;

/// The byte in front of an XBZRLE record's length.
pub const XBZRLE_ENCODING: u8 = 0x01;

/// Label of a flag, if it has one.
pub fn label(flag: u64) -> Option<&'static str> {
    match flag {
        FULL => Some("FULL"),
        ZERO => Some("ZERO"),
        MEM_SIZE => Some("MEM_SIZE"),
        PAGE => Some("PAGE"),
        EOS => Some("EOS"),
        CONTINUE => Some("CONTINUE"),
        XBZRLE => Some("XBZRLE"),
        HOOK => Some("HOOK"),
        COMPRESS_PAGE => Some("COMPRESS_PAGE"),
        MULTIFD_FLUSH => Some("MULTIFD_FLUSH"),
        _ => None,
    }
}
