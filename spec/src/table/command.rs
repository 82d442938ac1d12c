//! Commands: what a migration's source tells the destination between the
//! sections of the forward stream (section type 0x08).

use crate::model::{Dialect, Field, Kind, Message, Refusal, Reserved, Rule, Source, Trailer, Unit};

const fn savevm(function: &'static str) -> Source {
    Source {
        file: "savevm.c",
        function,
    }
}

const READER: Source = savevm("loadvm_process_command");

const NAME_FIELD: Field = Field {
    name: "block",
    kind: Kind::Name,
    rule: Rule::Any,
    unit: Unit::Plain,
    doc: "RAM block, as the block list of the `ram` section spells it",
};

const EMPTY_NAME: Refusal = Refusal {
    what: "An empty block name.",
    laxer: None,
};

const NUL_IN_NAME: Refusal = lax(
    "A NUL byte inside the block name.",
    "QEMU's string ends at the NUL: the rest of the name is ignored.",
);

const OUT_OF_STATE: Refusal = Refusal {
    what: "The command out of turn: ADVISE, DISCARD, LISTEN, RUN is the only order.",
    laxer: None,
};

/// Something that QEMU refuses, too.
const fn strict(what: &'static str) -> Refusal {
    Refusal { what, laxer: None }
}

/// Something that QEMU does not refuse.
const fn lax(what: &'static str, qemu: &'static str) -> Refusal {
    Refusal {
        what,
        laxer: Some(qemu),
    }
}

const NOT_IN_PACKAGE: Refusal = lax("The command outside a package.", UNCHECKED);

const AFTER_LISTEN: Refusal = lax("The command after LISTEN, or in a package.", UNCHECKED);

const UNCHECKED: &str = "QEMU does not check this.";

const OUTSIDE_RECOVERY: &str = "The command anywhere but on a resumed channel, before RESUME.";

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
        gate: None,
        writer: savevm(writer),
        reader: savevm(reader),
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
    doc: "Commands of the forward stream. Each is a section of type 0x08 without a footer. QEMU 3.0 \
          numbers POSTCOPY_RESUME 8 and RECV_BITMAP 9; 3.1 put ENABLE_COLO in front of them, so 3.0 \
          and later releases cannot recover together.",
    lead: &[0x08],
    max_payload: 0xffff,
    reserved: Reserved {
        number: 0,
        qemu: "MIG_CMD_INVALID",
        doc: "Kept out of use so that zeroed memory is no command.",
    },
    messages: &[
        Message {
            refuse: &[AFTER_LISTEN],
            ..bare(
                1,
                [
                    "OpenReturnPath",
                    "OPEN_RETURN_PATH",
                    "MIG_CMD_OPEN_RETURN_PATH",
                ],
                "The destination may write to the return path from now on.",
                "Source, as the first command if postcopy-ram (or, since 2.10, return-path) is on. A \
                 second one is ignored. Not sent on a resumed channel.",
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
            doc: "Asks for a PONG with the same value.",
            when: "Source: 1 after OPEN_RETURN_PATH, 2 before the package, 3 inside it, 4 behind it; \
                   since 10.2 also 0x42 inside the package, just before RUN.",
            fields: &[Field {
                name: "value",
                kind: Kind::Be32,
                rule: Rule::Any,
                unit: Unit::Plain,
                doc: "what the PONG must carry",
            }],
            trailer: None,
            since: "2.5",
            gate: None,
            writer: savevm("qemu_savevm_send_ping"),
            reader: READER,
            refuse: &[strict("A PING before OPEN_RETURN_PATH.")],
        },
        Message {
            number: 3,
            rust: "PostcopyAdvise",
            label: "POSTCOPY_ADVISE",
            qemu: "MIG_CMD_POSTCOPY_ADVISE",
            doc: "Postcopy may follow: check that this host can do it, and forget all RAM contents.",
            when: "Source, before the first section, if postcopy-ram or dirty-bitmaps is on. With \
                   dirty-bitmaps alone the payload is empty (since 2.11).",
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
            gate: Some("postcopy-ram or dirty-bitmaps"),
            writer: savevm("qemu_savevm_send_postcopy_advise"),
            reader: savevm("loadvm_postcopy_handle_advise"),
            refuse: &[
                strict("A payload of neither 0 nor 16 bytes."),
                strict(
                    "A target page size that is no power of two from 1024 to 65536, or a page \
                           size below it.",
                ),
                lax(
                    "The command after the first section.",
                    "QEMU takes it there, too.",
                ),
                OUT_OF_STATE,
            ],
        },
        Message {
            refuse: &[OUT_OF_STATE, NOT_IN_PACKAGE],
            ..bare(
                4,
                [
                    "PostcopyListen",
                    "POSTCOPY_LISTEN",
                    "MIG_CMD_POSTCOPY_LISTEN",
                ],
                "Pages may arrive in any order from now on: trap accesses to the missing ones.",
                "Source, first in the package. A QEMU destination must have seen at least one \
             POSTCOPY_RAM_DISCARD before it.",
                "2.5",
                [
                    "qemu_savevm_send_postcopy_listen",
                    "loadvm_postcopy_handle_listen",
                ],
            )
        },
        Message {
            refuse: &[OUT_OF_STATE, NOT_IN_PACKAGE],
            ..bare(
                5,
                ["PostcopyRun", "POSTCOPY_RUN", "MIG_CMD_POSTCOPY_RUN"],
                "The guest may run.",
                "Source, last in the package.",
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
            doc: "These ranges of a RAM block will be sent after the switch: forget what was \
                  received of them.",
            when: "Source, between the last precopy pages and the package; QEMU puts at most 12 \
                   ranges in one command.",
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
                    doc: "a NUL behind the name",
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
            gate: Some("postcopy-ram"),
            writer: savevm("qemu_savevm_send_postcopy_ram_discard"),
            reader: savevm("loadvm_postcopy_ram_handle_discard"),
            refuse: &[
                EMPTY_NAME,
                Refusal {
                    what: "A NUL byte inside the block name.",
                    laxer: Some(
                        "QEMU's string ends at the NUL; its length check fails unless the rest of \
                         the name is a multiple of 16 bytes.",
                    ),
                },
                strict("A version other than 0, or no NUL behind the name."),
                strict("A rest that is not a multiple of 16 bytes."),
                Refusal {
                    what: "No range at all.",
                    laxer: Some(
                        "QEMU demands 20 bytes of payload, which a name of 17 bytes fills without \
                         a range.",
                    ),
                },
                Refusal {
                    what: "A range of length 0, or one that passes 2^64 - 1.",
                    laxer: Some(
                        "QEMU adds without looking and compares the wrapped end; it discards \
                         nothing for a length of 0.",
                    ),
                },
                strict("A range past the block, or not aligned to its page size."),
                OUT_OF_STATE,
            ],
        },
        Message {
            number: 7,
            rust: "Packaged",
            label: "PACKAGED",
            qemu: "MIG_CMD_PACKAGED",
            doc: "The next bytes are a nested stream: LISTEN, the device state, RUN.",
            when: "Source, at the switch. The nested stream is not counted by the command's length.",
            fields: &[Field {
                name: "size",
                kind: Kind::Be32,
                rule: Rule::Any,
                unit: Unit::Bytes,
                doc: "size of the nested stream; at most 16 MiB up to 2.11",
            }],
            trailer: Some(Trailer::Package),
            since: "2.5",
            gate: Some("postcopy-ram"),
            writer: savevm("qemu_savevm_send_packaged"),
            reader: savevm("loadvm_handle_cmd_packaged"),
            refuse: &[
                Refusal {
                    what: "A package inside a package.",
                    laxer: Some(
                        "QEMU has no check for it: it takes the inner size and bytes from the main \
                         channel, not from the package.",
                    ),
                },
                Refusal {
                    what: "A package that does not begin with LISTEN, or holds anything but PINGs \
                           and SECTION_FULLs between it and RUN.",
                    laxer: Some("QEMU reads it like the rest of the stream."),
                },
                lax(
                    "A package that ends without RUN, or goes on behind it.",
                    "QEMU leaves what is behind RUN unread.",
                ),
                OUT_OF_STATE,
            ],
        },
        Message {
            refuse: &[AFTER_LISTEN],
            ..bare(
                8,
                ["EnableColo", "ENABLE_COLO", "MIG_CMD_ENABLE_COLO"],
                "The source wants to go on with COLO replication.",
                "Source with x-colo. Accepted by 3.1 to 7.2, refused without x-colo since 8.0, always \
                 refused since 11.0.",
                "3.1",
                ["qemu_savevm_send_colo_enable", "loadvm_process_enable_colo"],
            )
        },
        Message {
            refuse: &[lax(OUTSIDE_RECOVERY, "QEMU ignores it there.")],
            ..bare(
                9,
                [
                    "PostcopyResume",
                    "POSTCOPY_RESUME",
                    "MIG_CMD_POSTCOPY_RESUME",
                ],
                "The source has taken over the received bitmaps and is ready to go on.",
                "Source, on a resumed channel, after the last bitmap. Answered by RESUME_ACK; ignored \
                 outside recovery.",
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
            doc: "Asks for the received bitmap of a RAM block.",
            when: "Source, first on a resumed channel, one for each RAM block, without waiting for \
                   the answers.",
            fields: &[NAME_FIELD],
            trailer: None,
            since: "3.0 (as 9), 3.1",
            gate: Some("postcopy-ram, in recovery"),
            writer: savevm("qemu_savevm_send_recv_bitmap"),
            reader: savevm("loadvm_handle_recv_bitmap"),
            refuse: &[
                EMPTY_NAME,
                NUL_IN_NAME,
                strict("The name of an unknown block."),
                lax(OUTSIDE_RECOVERY, "QEMU does not answer it there."),
            ],
        },
        Message {
            refuse: &[AFTER_LISTEN],
            ..bare(
                11,
                [
                    "SwitchoverStart",
                    "SWITCHOVER_START",
                    "MIG_CMD_SWITCHOVER_START",
                ],
                "The guest has been stopped at the source; the switch begins.",
                "Source, before the last sections, with machine types of 10.0 and later. No answer.",
                "10.0",
                [
                    "qemu_savevm_maybe_send_switchover_start",
                    "loadvm_postcopy_handle_switchover_start",
                ],
            )
        },
    ],
};
