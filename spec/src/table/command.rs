//! Commands: messages from the source to the destination, between the sections
//! of the forward stream.

use super::capability::{COLO, DIRTY_BITMAPS, POSTCOPY_RAM, RETURN_PATH};
use crate::model::{
    Constant, Dialect, Evidence, Field, Kind, Literal, Message, Refusal, Reserved, Rule, Source,
    Trailer, Unit,
};

mod ping;

pub use ping::{
    PING_AFTER_PACKAGE, PING_BEFORE_PACKAGE, PING_IN_PACKAGE, PING_OPENED, PING_PACKAGE_LOADED,
};

use Evidence::{Read, Recorded, Tried, Unverified};

/// Most ranges that QEMU writes into one POSTCOPY_RAM_DISCARD.
pub const DISCARD_RANGES: usize = 12;

/// Limits of commands.
pub const LIMITS: &[Constant] = &[Constant {
    name: "DISCARD_RANGES",
    value: Literal::Count(DISCARD_RANGES),
    doc: "Most ranges that QEMU writes into one POSTCOPY_RAM_DISCARD.",
    since: "",
}];

const fn savevm(function: &'static str) -> Source {
    Source {
        file: "savevm.c",
        function,
    }
}

const READER: Source = savevm("loadvm_process_command");

/// In every recorded postcopy migration.
const POSTCOPY: &[Evidence] = &[Read("2.5, 10.2"), Recorded("5.2, 7.2, 10.0, 11.1")];
/// In every recorded recovery.
const RECOVERY: &[Evidence] = &[Read("3.0, 3.1, 10.2"), Recorded("5.2, 7.2, 10.0, 11.1")];
/// In migrations with a peer written for the purpose.
const ALL_TRIED: &[Evidence] = &[Tried("5.2, 7.2, 10.0, 11.1")];

const NAME_FIELD: Field = Field {
    name: "block",
    kind: Kind::Name,
    rule: Rule::Any,
    unit: Unit::Plain,
    doc: "name of the RAM block, as in the block list of the `ram` section",
};

const EMPTY_NAME: Refusal = Refusal::strict("An empty block name.");

const NUL_IN_NAME: Refusal = Refusal::lax(
    "A NUL byte in the block name.",
    "QEMU's string ends at the NUL and the rest of the name is ignored.",
);

const OUT_OF_STATE: Refusal = Refusal::strict(
    "The command out of order: ADVISE, DISCARD, LISTEN, RUN is the only valid order.",
);

const UNCHECKED: &str = "QEMU does not check this.";

const OUTSIDE_PACKAGE: Refusal = Refusal::lax("The command outside a package.", UNCHECKED);

const AFTER_LISTEN: Refusal = Refusal::lax("The command after LISTEN or in a package.", UNCHECKED);

const OUTSIDE_RECOVERY: &str =
    "The command anywhere but on a resumed channel before POSTCOPY_RESUME.";

/// These commands read their payload from the main channel even when the
/// command itself stands in a package.
const FROM_MAIN_CHANNEL: Refusal = Refusal::lax(
    "The command in a package.",
    "QEMU reads the command from the package, but its payload from the main channel.",
);

/// A command without payload.
const fn bare(
    number: u16,
    names: [&'static str; 3],
    doc: &'static str,
    when: &'static str,
    since: &'static str,
    [writer, reader]: [&'static str; 2],
) -> Message {
    let [rust, label, qemu] = names;
    Message {
        number,
        rust,
        label,
        qemu,
        doc,
        when,
        fields: &[],
        trailer: None,
        since,
        gate: &[POSTCOPY_RAM],
        values: &[],
        writer: savevm(writer),
        reader: savevm(reader),
        seen: POSTCOPY,
        refuse: &[],
    }
}

/// The commands of `QEMU_VM_COMMAND`.
pub const COMMAND: Dialect = Dialect {
    name: "command",
    title: "commands of the forward stream",
    rust: "Commands",
    message: "Command",
    qemu: "enum qemu_vm_cmd",
    doc: "Commands of the forward stream. Each one is a section of type 0x08 without a footer. QEMU \
          3.0 numbers POSTCOPY_RESUME 8 and RECV_BITMAP 9; 3.1 inserted ENABLE_COLO before them, so \
          3.0 and later releases cannot recover a migration together (read 3.0, 3.1).",
    lead: &[0x08],
    max_payload: 0xffff,
    reserved: Reserved {
        number: 0,
        qemu: "MIG_CMD_INVALID",
        doc: "Reserved, so that zeroed memory is not a valid command.",
    },
    messages: &[
        Message {
            gate: &[POSTCOPY_RAM, RETURN_PATH],
            refuse: &[AFTER_LISTEN],
            ..bare(
                1,
                [
                    "OpenReturnPath",
                    "OPEN_RETURN_PATH",
                    "MIG_CMD_OPEN_RETURN_PATH",
                ],
                "Opens the return path: the destination may write from now on.",
                "The source, as the first command, if postcopy-ram (or, since 2.10, return-path) is \
                 on. QEMU ignores a second one. Not sent on a resumed channel.",
                "2.5",
                [
                    "qemu_savevm_send_open_return_path",
                    "loadvm_process_command",
                ],
            )
        },
        Message {
            number: 2,
            rust: "Ping",
            label: "PING",
            qemu: "MIG_CMD_PING",
            doc: "Requests a PONG with the same value.",
            when: "The source, at fixed points of the stream. With dirty-bitmaps but without \
                   postcopy-ram, PINGs 2, 3 and 4 are not sent.",
            fields: &[Field {
                name: "value",
                kind: Kind::Be32,
                rule: Rule::Any,
                unit: Unit::Plain,
                doc: "value that the PONG repeats",
            }],
            trailer: None,
            since: "2.5",
            gate: &[POSTCOPY_RAM, RETURN_PATH],
            values: ping::VALUES,
            writer: savevm("qemu_savevm_send_ping"),
            reader: READER,
            seen: POSTCOPY,
            refuse: &[Refusal::strict("A PING before OPEN_RETURN_PATH.").seen(ALL_TRIED)],
        },
        Message {
            number: 3,
            rust: "PostcopyAdvise",
            label: "POSTCOPY_ADVISE",
            qemu: "MIG_CMD_POSTCOPY_ADVISE",
            doc: "Announces that postcopy may follow. With page sizes: check that the host supports \
                  it and discard all RAM contents.",
            when: "The source, before the first section, if postcopy-ram or dirty-bitmaps is on. With \
                   dirty-bitmaps alone the payload is empty (since 2.12) and no RAM is discarded.",
            fields: &[Field {
                name: "sizes",
                kind: Kind::PageSizes,
                rule: Rule::Any,
                unit: Unit::Bytes,
                doc: "bitwise OR of the page sizes of all RAM blocks (before 2.9: the host page \
                      size), then the target page size",
            }],
            trailer: None,
            since: "2.5",
            gate: &[POSTCOPY_RAM, DIRTY_BITMAPS],
            values: &[],
            writer: savevm("qemu_savevm_send_postcopy_advise"),
            reader: savevm("loadvm_postcopy_handle_advise"),
            seen: &[
                Read("2.5, 2.11, 2.12, 3.0, 10.2"),
                Recorded("5.2, 7.2, 10.0, 11.1"),
            ],
            refuse: &[
                Refusal::strict("A payload of neither 0 nor 16 bytes."),
                Refusal::strict(
                    "An empty payload with postcopy-ram on, or 16 bytes with it off (since 2.12).",
                )
                .seen(ALL_TRIED),
                Refusal::strict(
                    "A page-size summary or target page size other than the receiver's own.",
                )
                .seen(ALL_TRIED),
                Refusal::strict(
                    "A target page size that is not a power of two from 1024 to 65536, or a page \
                     size below it.",
                ),
                Refusal::lax("The command after the first section.", UNCHECKED),
                FROM_MAIN_CHANNEL,
                OUT_OF_STATE,
            ],
        },
        Message {
            gate: &[POSTCOPY_RAM, DIRTY_BITMAPS],
            refuse: &[OUT_OF_STATE, OUTSIDE_PACKAGE],
            ..bare(
                4,
                [
                    "PostcopyListen",
                    "POSTCOPY_LISTEN",
                    "MIG_CMD_POSTCOPY_LISTEN",
                ],
                "Pages may arrive in any order from now on: start to trap accesses to missing pages.",
                "The source, first in the package. A QEMU destination with postcopy-ram needs at \
                 least one POSTCOPY_RAM_DISCARD before it.",
                "2.5",
                [
                    "qemu_savevm_send_postcopy_listen",
                    "loadvm_postcopy_handle_listen",
                ],
            )
        },
        Message {
            gate: &[POSTCOPY_RAM, DIRTY_BITMAPS],
            refuse: &[OUT_OF_STATE, OUTSIDE_PACKAGE],
            ..bare(
                5,
                ["PostcopyRun", "POSTCOPY_RUN", "MIG_CMD_POSTCOPY_RUN"],
                "The guest may run at the destination.",
                "The source, last in the package.",
                "2.5",
                [
                    "qemu_savevm_send_postcopy_run",
                    "loadvm_postcopy_handle_run",
                ],
            )
        },
        Message {
            number: 6,
            rust: "PostcopyRamDiscard",
            label: "POSTCOPY_RAM_DISCARD",
            qemu: "MIG_CMD_POSTCOPY_RAM_DISCARD",
            doc: "Ranges of a RAM block that will be sent after the switch: discard their contents.",
            when: "The source, between the last precopy pages and the package, if postcopy-ram is \
                   on; QEMU writes at most 12 ranges into one command.",
            fields: &[
                Field {
                    name: "version",
                    kind: Kind::U8,
                    rule: Rule::Equals(0),
                    unit: Unit::Plain,
                    doc: "version of the command",
                },
                NAME_FIELD,
                Field {
                    name: "terminator",
                    kind: Kind::U8,
                    rule: Rule::Equals(0),
                    unit: Unit::Plain,
                    doc: "NUL behind the name",
                },
                Field {
                    name: "ranges",
                    kind: Kind::Ranges,
                    rule: Rule::Any,
                    unit: Unit::Bytes,
                    doc: "start and length of each range, multiples of the block's page size",
                },
            ],
            trailer: None,
            since: "2.5",
            gate: &[POSTCOPY_RAM],
            values: &[],
            writer: savevm("qemu_savevm_send_postcopy_ram_discard"),
            reader: savevm("loadvm_postcopy_ram_handle_discard"),
            seen: POSTCOPY,
            refuse: &[
                EMPTY_NAME,
                Refusal::lax(
                    "A NUL byte in the block name.",
                    "QEMU's string ends at the NUL; its length check fails unless the rest of the \
                     name is a multiple of 16 bytes.",
                ),
                Refusal::strict("A version other than 0, or no NUL behind the name."),
                Refusal::strict("Ranges whose size is not a multiple of 16 bytes."),
                Refusal::lax(
                    "No range.",
                    "QEMU only requires 20 bytes of payload, which a name of 17 bytes fills without \
                     a range.",
                ),
                Refusal::lax(
                    "A range of length 0, or one whose end exceeds 2^64 - 1.",
                    "QEMU compares the wrapped end, and discards nothing for a length of 0.",
                ),
                Refusal::lax(
                    "A range that exceeds the block's used length.",
                    "QEMU compares with the block's maximum length.",
                )
                .seen(&[Read("10.1"), Tried("5.2, 7.2, 10.0, 11.1")]),
                Refusal::strict("A range that is not aligned to the block's page size."),
                FROM_MAIN_CHANNEL,
                OUT_OF_STATE,
            ],
        },
        Message {
            number: 7,
            rust: "Packaged",
            label: "PACKAGED",
            qemu: "MIG_CMD_PACKAGED",
            doc: "Precedes a nested stream: LISTEN, the device states, RUN.",
            when: "The source, at the switch. The command's length does not cover the nested stream.",
            fields: &[Field {
                name: "size",
                kind: Kind::Be32,
                rule: Rule::Any,
                unit: Unit::Bytes,
                doc: "size of the nested stream; at most 16 MiB up to 2.11",
            }],
            trailer: Some(Trailer::Package),
            since: "2.5",
            gate: &[POSTCOPY_RAM, DIRTY_BITMAPS],
            values: &[],
            writer: savevm("qemu_savevm_send_packaged"),
            reader: savevm("loadvm_handle_cmd_packaged"),
            seen: &[
                Read("2.5, 2.11, 2.12, 10.2"),
                Recorded("5.2, 7.2, 10.0, 11.1"),
            ],
            refuse: &[
                Refusal::lax(
                    "A package in a package.",
                    "QEMU reads the inner size and the inner bytes from the main channel, not from \
                     the package.",
                ),
                Refusal::lax(
                    "A package that does not begin with LISTEN, or contains anything but PINGs and \
                     SECTION_FULLs between LISTEN and RUN.",
                    "QEMU reads it like the rest of the stream.",
                ),
                Refusal::strict("A package that ends without RUN.").seen(ALL_TRIED),
                Refusal::lax("Bytes behind RUN.", "QEMU does not read them."),
                OUT_OF_STATE,
            ],
        },
        Message {
            gate: &[COLO],
            seen: &[
                Read("3.1, 5.2, 7.2, 8.0, 8.1, 10.2"),
                Tried("5.2, 7.2, 10.0, 11.1"),
                Unverified("11.0"),
            ],
            refuse: &[AFTER_LISTEN],
            ..bare(
                8,
                ["EnableColo", "ENABLE_COLO", "MIG_CMD_ENABLE_COLO"],
                "The source wants to continue with COLO replication.",
                "The source, with x-colo. 3.1 to 8.0 accept it in any case, 8.1 to 10.2 only with \
                 x-colo on; 11.1 always refuses it as deprecated.",
                "3.1",
                ["qemu_savevm_send_colo_enable", "loadvm_process_enable_colo"],
            )
        },
        Message {
            seen: RECOVERY,
            refuse: &[Refusal::lax(
                OUTSIDE_RECOVERY,
                "QEMU ignores it and logs a warning.",
            )],
            ..bare(
                9,
                [
                    "PostcopyResume",
                    "POSTCOPY_RESUME",
                    "MIG_CMD_POSTCOPY_RESUME",
                ],
                "The source has processed the received bitmaps and is ready to continue.",
                "The source, on a resumed channel, after the last received bitmap. The destination \
                 answers with RESUME_ACK.",
                "3.0 (as 8), 3.1",
                [
                    "qemu_savevm_send_postcopy_resume",
                    "loadvm_postcopy_handle_resume",
                ],
            )
        },
        Message {
            number: 10,
            rust: "RecvBitmap",
            label: "RECV_BITMAP",
            qemu: "MIG_CMD_RECV_BITMAP",
            doc: "Requests the received bitmap of a RAM block.",
            when: "The source, first on a resumed channel, once for each RAM block, without waiting \
                   for the answers.",
            fields: &[NAME_FIELD],
            trailer: None,
            since: "3.0 (as 9), 3.1",
            gate: &[POSTCOPY_RAM],
            values: &[],
            writer: savevm("qemu_savevm_send_recv_bitmap"),
            reader: savevm("loadvm_handle_recv_bitmap"),
            seen: RECOVERY,
            refuse: &[
                EMPTY_NAME,
                NUL_IN_NAME,
                Refusal::strict("The name of an unknown block."),
                FROM_MAIN_CHANNEL,
                Refusal::lax(OUTSIDE_RECOVERY, "QEMU does not answer it."),
            ],
        },
        Message {
            gate: &[],
            seen: &[Read("10.0, 10.2"), Recorded("10.0, 11.1")],
            refuse: &[AFTER_LISTEN],
            ..bare(
                11,
                [
                    "SwitchoverStart",
                    "SWITCHOVER_START",
                    "MIG_CMD_SWITCHOVER_START",
                ],
                "The guest has stopped at the source and the switchover begins.",
                "The source, before the last sections of precopy or before the discards, with machine \
                 types 10.0 and later. No answer.",
                "10.0",
                [
                    "qemu_savevm_maybe_send_switchover_start",
                    "loadvm_postcopy_handle_switchover_start",
                ],
            )
        },
    ],
};
