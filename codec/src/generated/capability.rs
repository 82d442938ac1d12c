// Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.

//! Names of the migration capabilities that change the protocol. A capability
//! is set on both sides before the migration starts.
//!
//! ```
//! use retpath_codec::wire::capability;
//!
//! assert_eq!(capability::POSTCOPY_RAM, "postcopy-ram");
//! ```

/// XBZRLE records before the switch to postcopy.
///
/// Since 1.2.
pub const XBZRLE: &str = "xbzrle";

/// COMPRESS_PAGE records.
///
/// In 2.4 to 9.0.
pub const COMPRESS: &str = "compress";

/// Postcopy of RAM: opens the return path and sends POSTCOPY_ADVISE with page
/// sizes. Named `x-postcopy-ram` in 2.5.
///
/// Since 2.5.
pub const POSTCOPY_RAM: &str = "postcopy-ram";

/// COLO replication: sends ENABLE_COLO (3.1 and later).
///
/// Since 2.8.
pub const COLO: &str = "x-colo";

/// The source frees pages once they are sent. A paused migration then cannot be
/// recovered.
///
/// Since 2.9.
pub const RELEASE_RAM: &str = "release-ram";

/// Opens the return path of a migration without postcopy.
///
/// Since 2.10.
pub const RETURN_PATH: &str = "return-path";

/// `dirty-bitmap` sections. Without postcopy-ram POSTCOPY_ADVISE is empty.
///
/// Since 2.12.
pub const DIRTY_BITMAPS: &str = "dirty-bitmaps";

/// Statistics at the destination; nothing on the wire.
///
/// Since 3.0.
pub const POSTCOPY_BLOCKTIME: &str = "postcopy-blocktime";

/// RAM pages on additional channels. With postcopy-ram since 10.1, then only
/// before the switch.
///
/// Since 4.0.
pub const MULTIFD: &str = "multifd";

/// Leaves shared memory out of the stream; each entry of the block list gains a
/// guest-physical address. Excludes postcopy-ram.
///
/// Since 4.0.
pub const IGNORE_SHARED: &str = "x-ignore-shared";

/// Sends the guest's UUID in the configuration.
///
/// Since 4.2.
pub const VALIDATE_UUID: &str = "validate-uuid";

/// Sends requested pages on the preempt channel.
///
/// Since 7.1.
pub const POSTCOPY_PREEMPT: &str = "postcopy-preempt";

/// The source does not switch before SWITCHOVER_ACK. Requires return-path.
///
/// Since 8.1.
pub const SWITCHOVER_ACK: &str = "switchover-ack";

/// Puts pages at fixed offsets of a file, outside the stream. Excludes
/// postcopy-ram.
///
/// Since 9.0.
pub const MAPPED_RAM: &str = "mapped-ram";
