//! Migration capabilities that change what is on the wire.
//!
//! A capability is set on both sides, out of band, before the migration
//! starts. Only the configuration section names some of them in the stream.

use crate::model::Capability;

/// Postcopy of RAM.
pub const POSTCOPY_RAM: &str = "postcopy-ram";
/// Requested pages on a channel of their own.
pub const POSTCOPY_PREEMPT: &str = "postcopy-preempt";
/// A return path without postcopy.
pub const RETURN_PATH: &str = "return-path";
/// The destination's devices must agree to the switchover.
pub const SWITCHOVER_ACK: &str = "switchover-ack";
/// Dirty bitmaps of block devices.
pub const DIRTY_BITMAPS: &str = "dirty-bitmaps";
/// RAM pages on several channels.
pub const MULTIFD: &str = "multifd";
/// Shared memory is left out of the stream.
pub const IGNORE_SHARED: &str = "x-ignore-shared";
/// Pages at fixed offsets of a file.
pub const MAPPED_RAM: &str = "mapped-ram";
/// The source frees pages once they are sent.
pub const RELEASE_RAM: &str = "release-ram";
/// Delta-compressed pages.
pub const XBZRLE: &str = "xbzrle";
/// Pages compressed with zlib.
pub const COMPRESS: &str = "compress";
/// COLO replication.
pub const COLO: &str = "x-colo";
/// The destination must have the source's UUID.
pub const VALIDATE_UUID: &str = "validate-uuid";
/// Statistics of page faults at the destination.
pub const POSTCOPY_BLOCKTIME: &str = "postcopy-blocktime";

const fn row(
    name: &'static str,
    label: &'static str,
    since: &'static str,
    doc: &'static str,
) -> Capability {
    Capability {
        name,
        label,
        doc,
        since,
    }
}

/// The capabilities, in order of their first release.
pub const CAPABILITIES: &[Capability] = &[
    row(
        XBZRLE,
        "XBZRLE",
        "1.2",
        "XBZRLE records before the switch to postcopy.",
    ),
    row(COMPRESS, "COMPRESS", "2.4 to 9.0", "COMPRESS_PAGE records."),
    row(
        POSTCOPY_RAM,
        "POSTCOPY_RAM",
        "2.5",
        "Postcopy of RAM: opens the return path and sends POSTCOPY_ADVISE with page sizes. Named \
         `x-postcopy-ram` in 2.5.",
    ),
    row(
        COLO,
        "COLO",
        "2.8",
        "COLO replication: sends ENABLE_COLO (3.1 and later).",
    ),
    row(
        RELEASE_RAM,
        "RELEASE_RAM",
        "2.9",
        "The source frees pages once they are sent. A paused migration then cannot be recovered.",
    ),
    row(
        RETURN_PATH,
        "RETURN_PATH",
        "2.10",
        "Opens the return path of a migration without postcopy.",
    ),
    row(
        DIRTY_BITMAPS,
        "DIRTY_BITMAPS",
        "2.12",
        "`dirty-bitmap` sections. Without postcopy-ram POSTCOPY_ADVISE is empty.",
    ),
    row(
        POSTCOPY_BLOCKTIME,
        "POSTCOPY_BLOCKTIME",
        "3.0",
        "Statistics at the destination; nothing on the wire.",
    ),
    row(
        MULTIFD,
        "MULTIFD",
        "4.0",
        "RAM pages on additional channels. With postcopy-ram since 10.1, then only before the \
         switch.",
    ),
    row(
        IGNORE_SHARED,
        "IGNORE_SHARED",
        "4.0",
        "Leaves shared memory out of the stream; each entry of the block list gains a \
         guest-physical address. Excludes postcopy-ram.",
    ),
    row(
        VALIDATE_UUID,
        "VALIDATE_UUID",
        "4.2",
        "Sends the guest's UUID in the configuration.",
    ),
    row(
        POSTCOPY_PREEMPT,
        "POSTCOPY_PREEMPT",
        "7.1",
        "Sends requested pages on the preempt channel.",
    ),
    row(
        SWITCHOVER_ACK,
        "SWITCHOVER_ACK",
        "8.1",
        "The source does not switch before SWITCHOVER_ACK. Requires return-path.",
    ),
    row(
        MAPPED_RAM,
        "MAPPED_RAM",
        "9.0",
        "Puts pages at fixed offsets of a file, outside the stream. Excludes postcopy-ram.",
    ),
];
