//! What QEMU does that no layout shows, and how each statement was established.

use crate::model::{Behavior, Evidence};

use Evidence::{Read, Recorded, Tried, Unverified};

const fn row(releases: &'static str, what: &'static str, seen: &'static [Evidence]) -> Behavior {
    Behavior {
        releases,
        what,
        seen,
    }
}

/// How a source treats what the destination sends and does not send.
pub const SOURCE: &[Behavior] = &[
    row(
        "2.5 to 10.1",
        "Without a preempt channel the source only traces PONGs.",
        &[Tried("7.2, 10.0")],
    ),
    row(
        "8.0 and later",
        "With a preempt channel and a machine type later than 7.2, the source does not switch before \
         the first PONG.",
        &[Read("8.0, 10.2"), Tried("10.0")],
    ),
    row(
        "10.2 and later",
        "The source stays in the state `postcopy-device` until PONG 0x42. It sends every page \
         meanwhile, but does not complete. Before PONG 0x42 a failure returns the guest to the \
         source; after it, a failure pauses the migration.",
        &[Read("10.2"), Tried("11.1")],
    ),
    row(
        "",
        "A request for a page that is clean at the source is dropped without an answer or an error.",
        &[Read("2.5, 10.2"), Tried("5.2, 7.2, 10.0, 11.1")],
    ),
    row(
        "",
        "A request for several pages is served page by page. Nothing limits the number of \
         outstanding requests.",
        &[Read("10.2"), Tried("5.2, 7.2, 10.0, 11.1")],
    ),
    row(
        "8.0 and later",
        "With a preempt channel, a `len` that is not a multiple of the block's page size fails an \
         assertion and aborts the source process. Only blocks with huge pages are affected.",
        &[Read("8.0, 10.2")],
    ),
    row(
        "",
        "At completion the source waits for SHUT without a timeout: it stays in `postcopy-active` \
         while the connection stays open and silent.",
        &[Read("8.1, 8.2, 10.2"), Tried("5.2, 7.2, 10.0, 11.1")],
    ),
    row(
        "2.5 to 2.12",
        "If the connection is closed without SHUT, the migration is `failed`.",
        &[Read("2.5, 2.12")],
    ),
    row(
        "3.0 to 8.1",
        "If the connection is closed without SHUT, the source stays in `postcopy-active` forever.",
        &[Read("3.0, 8.1"), Tried("5.2, 7.2")],
    ),
    row(
        "8.2 and later",
        "If the connection is closed without SHUT, the migration is `failed`.",
        &[Read("8.2, 10.2"), Tried("10.0, 11.1")],
    ),
    row(
        "9.0 and later",
        "When postcopy is `failed`, the source starts the guest again if it ran before. It then may \
         run on both sides.",
        &[Read("8.2, 9.0, 10.0"), Tried("10.0, 11.1")],
    ),
    row(
        "10.2 and later",
        "The source does not start the guest again if it cannot re-activate its block devices.",
        &[Read("10.1, 10.2")],
    ),
];

/// How a source reacts to a malformed message, after the switch to postcopy.
pub const RETURN_PATH_ERRORS: &[Behavior] = &[
    row(
        "2.5, 2.6",
        "The source stops reading; the connection stays open. Pages continue, requests are not \
         served; `failed` at completion.",
        &[Read("2.5, 2.6")],
    ),
    row(
        "2.7 to 2.12",
        "The source stops reading and closes the connection: `failed`. The guest is lost.",
        &[Read("2.7, 2.12")],
    ),
    row(
        "3.0 to 8.1",
        "The source stops reading and closes the connection: `postcopy-paused`. After a \
         resume nothing reads the new return path, and the source stays in `postcopy-recover`.",
        &[Read("3.0, 8.1"), Tried("5.2, 7.2")],
    ),
    row(
        "8.2 and later",
        "The source stops reading; the connection stays open. Pages continue, **no request is served \
         any more**; `failed` at completion.",
        &[Read("8.2, 10.2"), Tried("10.0, 11.1")],
    ),
    row(
        "10.2, 11.0",
        "If this happens before PONG 0x42, the source stays in `postcopy-device` forever.",
        &[Read("10.2"), Unverified("11.0")],
    ),
    row(
        "11.1",
        "If this happens before PONG 0x42, the migration is `failed` and the guest runs at the \
         source again.",
        &[Tried("11.1")],
    ),
    row(
        "8.2 and later",
        "A source in `postcopy-recover` returns to `postcopy-paused`.",
        &[Read("8.2, 10.2")],
    ),
];

/// How a destination treats what the source sends and does not send.
pub const DESTINATION: &[Behavior] = &[
    row(
        "",
        "Without OPEN_RETURN_PATH, the fault thread of a destination with postcopy-ram blocks \
         forever.",
        &[Tried("7.2, 11.1")],
    ),
    row(
        "",
        "Without a POSTCOPY_RAM_DISCARD before LISTEN, a destination with postcopy-ram loses track \
         of its state and refuses POSTCOPY_RUN.",
        &[Read("10.2"), Tried("7.2, 10.0, 11.1")],
    ),
    row(
        "",
        "After LISTEN a page that is present already is a stream error.",
        &[Tried("5.2, 7.2, 10.0, 11.1")],
    ),
    row(
        "",
        "The destination does not check that every page arrived: missing pages read as zeroes after \
         the migration.",
        &[Tried("5.2, 7.2, 10.0, 11.1")],
    ),
    row(
        "6.0 and later",
        "Memory that a virtio-mem device has not plugged is never sent. A fault on it is answered \
         with a zero page, without a request. The device's state tells which ranges these are, the \
         RAM records do not.",
        &[Tried("7.2, 10.0, 11.1")],
    ),
    row(
        "9.0 and later",
        "With postcopy-preempt, the destination does not load a package before the preempt \
         connection exists. A source that connects it later blocks the destination forever.",
        &[Read("8.2, 9.0, 10.2")],
    ),
    row(
        "7.1, 7.2",
        "With postcopy-preempt, the destination does not read the main channel before the preempt \
         connection exists.",
        &[Tried("7.2")],
    ),
    row(
        "",
        "A stream error before POSTCOPY_RUN ends the process. Since 9.1 the parameter \
         `exit-on-error` of `migrate-incoming` keeps it alive.",
        &[Read("9.1"), Tried("5.2, 7.2, 10.0, 11.1")],
    ),
    row(
        "2.5 to 2.12",
        "A stream error after POSTCOPY_RUN ends the process.",
        &[Read("2.5, 2.12")],
    ),
    row(
        "3.0 and later",
        "Any stream error after POSTCOPY_RUN pauses the migration (`postcopy-paused`), until it is \
         recovered.",
        &[
            Read("3.0, 3.1, 4.0, 5.1, 7.0, 10.2"),
            Tried("5.2, 7.2, 10.0, 11.1"),
        ],
    ),
];

/// How connections are distinguished, and how the preempt channel differs between
/// releases.
pub const CHANNELS: &[Behavior] = &[
    row(
        "up to 7.2",
        "A destination tells connections apart by their order.",
        &[Read("7.2")],
    ),
    row(
        "8.0 to 10.0",
        "By their order; with multifd and without postcopy-ram it peeks at the first four bytes.",
        &[Read("8.0, 8.2, 10.0")],
    ),
    row(
        "10.1 and later",
        "It peeks at the first four bytes of the main and multifd connections, and so does nothing \
         until four bytes have arrived; the preempt connection comes after them and is not peeked \
         at. TLS and other channels without peeking: the first one is the main channel, then \
         multifd, then preempt.",
        &[Read("10.1, 10.2"), Tried("11.1, without TLS")],
    ),
    row(
        "7.1, 7.2",
        "The source connects the preempt channel directly behind the main channel, names the block \
         at each change between the channels, may interrupt a huge page on the main channel, and \
         ends with an EOS record behind the main channel's EOF.",
        &[Read("7.2"), Recorded("7.2")],
    ),
    row(
        "8.0 and later",
        "The source connects the preempt channel at the switch, once a PONG has shown that the main \
         channel is up, and ends it by closing the connection, without EOS. With machine types up to \
         7.2 it connects and ends as 7.1 and 7.2 do.",
        &[Read("8.0, 8.2, 10.2"), Recorded("10.0, 11.1")],
    ),
    row(
        "8.0 and later",
        "Whatever the machine type, the source keeps the current block of each channel, so it names \
         a block once, and sends whole host pages.",
        &[Read("8.0, 10.2"), Recorded("10.0, 11.1")],
    ),
];

/// Changes of behavior that brought no new layout, in order of releases.
pub const CHANGES: &[Behavior] = &[
    row(
        "2.6",
        "The capability is named `postcopy-ram`; in 2.5 it was `x-postcopy-ram`.",
        &[Read("2.5, 2.6")],
    ),
    row("2.7", "TLS.", &[Read("2.6, 2.7")]),
    row(
        "2.9",
        "Huge pages: the summary in POSTCOPY_ADVISE, page sizes in the block list, requests of the \
         block's page size.",
        &[Read("2.8, 2.9")],
    ),
    row(
        "2.10",
        "Capability return-path: a return path without postcopy.",
        &[Read("2.9, 2.10")],
    ),
    row(
        "2.12",
        "Dirty bitmaps in postcopy: POSTCOPY_ADVISE may be empty (2.11 already accepts it). Packages \
         of more than 16 MiB.",
        &[Read("2.11, 2.12")],
    ),
    row(
        "3.0",
        "Recovery of a paused migration.",
        &[Read("2.12, 3.0")],
    ),
    row(
        "5.0",
        "The target pages of a host page may arrive in any order. COMPRESS_PAGE is accepted after \
         LISTEN.",
        &[Read("4.2, 5.0")],
    ),
    row(
        "5.2",
        "Outstanding requests are sent again after a recovery.",
        &[Read("5.1, 5.2"), Recorded("5.2, 7.2, 10.0, 11.1")],
    ),
    row(
        "7.0",
        "A host page may continue in the next section.",
        &[Read("6.2, 7.0")],
    ),
    row("7.1", "The preempt channel.", &[Read("7.2")]),
    row(
        "8.0",
        "The preempt channel is opened after a PONG, with machine types later than 7.2.",
        &[Read("8.0"), Recorded("10.0, 11.1")],
    ),
    row(
        "8.2",
        "An error on the return path no longer closes the connection. ZERO must fill with 0.",
        &[Read("8.1, 8.2"), Tried("7.2, 10.0")],
    ),
    row(
        "9.0",
        "After a failed postcopy the source starts the guest again.",
        &[Read("8.2, 9.0"), Tried("10.0, 11.1")],
    ),
    row(
        "9.1",
        "State `postcopy-recover-setup` while a source reconnects. Capability compress is gone.",
        &[Read("9.0, 9.1")],
    ),
    row(
        "10.0",
        "MULTIFD_FLUSH is refused after LISTEN. Multifd packets may carry device state.",
        &[Read("9.2, 10.0")],
    ),
    row(
        "10.1",
        "Multifd together with postcopy. One more SECTION_PART (MULTIFD_FLUSH with multifd, then \
         EOS) directly before the guest stops. The destination peeks at connections.",
        &[Read("10.0, 10.1"), Recorded("11.1")],
    ),
    row(
        "10.2",
        "PING 0x42 and the state `postcopy-device`.",
        &[Read("10.2"), Recorded("11.1")],
    ),
    row(
        "11.1",
        "ENABLE_COLO is always refused (11.0: not verified). SWITCHOVER_ACK for each request of a \
         device, with machine types 11.1 and later.",
        &[Tried("11.1")],
    ),
];

/// What was looked for and does not exist.
pub const ABSENT: &[Behavior] = &[
    row(
        "up to 11.1",
        "A return-path message numbered 8 or higher.",
        &[Read("10.2"), Tried("5.2, 7.2, 10.0, 11.1: refuse 8 and 9")],
    ),
    row(
        "up to 11.1",
        "A command numbered 12 or higher.",
        &[Read("10.2"), Tried("5.2, 7.2, 10.0, 11.1: refuse 12")],
    ),
    row(
        "up to 11.1",
        "A flag of RAM records above 0x200.",
        &[Read("10.2"), Tried("5.2, 7.2, 10.0, 11.1: refuse 0x400")],
    ),
];
