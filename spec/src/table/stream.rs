//! The forward stream: its header and its sections.

use crate::model::{Constant, Evidence, Form, Literal, Part, Refusal, Section, Subsection};

use Evidence::{Read, Recorded, Tried};

/// First four bytes of a forward stream: "QEVM".
pub const MAGIC: u32 = 0x5145_564d;

/// Version of the stream, behind [`MAGIC`].
pub const VERSION: u32 = 3;

/// First four bytes of a multifd channel.
pub const MULTIFD_MAGIC: u32 = 0x1122_3344;

/// Name of the `ram` section.
pub const RAM_NAME: &str = "ram";

/// Instance of the `ram` section.
pub const RAM_INSTANCE: u32 = 0;

/// Version of the `ram` section.
pub const RAM_VERSION: u32 = 4;

/// Name of the section with the dirty bitmaps of block devices.
pub const DIRTY_BITMAP_NAME: &str = "dirty-bitmap";

/// Payload of a `dirty-bitmap` section that has nothing to send.
pub const DIRTY_BITMAP_NOTHING: u8 = 0x01;

/// Version of every subsection of the configuration.
pub const SUBSECTION_VERSION: u32 = 1;

/// Values besides the section types.
pub const CONSTANTS: &[Constant] = &[
    constant(
        "MAGIC",
        Literal::U32(MAGIC),
        "First four bytes of a forward stream: \"QEVM\".",
    ),
    constant(
        "VERSION",
        Literal::Decimal32(VERSION),
        "Version of the stream.",
    ),
    constant(
        "MULTIFD_MAGIC",
        Literal::U32(MULTIFD_MAGIC),
        "First four bytes of a multifd channel.",
    ),
    constant(
        "SUBSECTION_VERSION",
        Literal::Decimal32(SUBSECTION_VERSION),
        "Version of every subsection of the configuration.",
    ),
    constant(
        "RAM_NAME",
        Literal::Bytes(RAM_NAME),
        "Name of the `ram` section.",
    ),
    constant(
        "RAM_INSTANCE",
        Literal::Decimal32(RAM_INSTANCE),
        "Instance of the `ram` section.",
    ),
    constant(
        "RAM_VERSION",
        Literal::Decimal32(RAM_VERSION),
        "Version of the `ram` section.",
    ),
    constant(
        "DIRTY_BITMAP_NAME",
        Literal::Bytes(DIRTY_BITMAP_NAME),
        "Name of the section with the dirty bitmaps of block devices.",
    ),
    constant(
        "DIRTY_BITMAP_NOTHING",
        Literal::U8(DIRTY_BITMAP_NOTHING),
        "Payload of a `dirty-bitmap` section that has nothing to send.",
    ),
];

const fn constant(name: &'static str, value: Literal, doc: &'static str) -> Constant {
    Constant {
        name,
        value,
        doc,
        since: "",
    }
}

const fn part(name: &'static str, form: Form, doc: &'static str) -> Part {
    Part { name, form, doc }
}

const SECTION_ID: Part = part(
    "section id",
    Form::Be32,
    "number that the source assigned to the section; it differs between releases",
);

/// START and FULL introduce a section by name.
const INTRODUCTION: &[Part] = &[
    SECTION_ID,
    part(
        "name",
        Form::Name,
        "`ram`, or the path of a device and the name of its state",
    ),
    part(
        "instance",
        Form::Be32,
        "number among the sections of the same name",
    ),
    part("version", Form::Be32, "version of the payload's format"),
    part("payload", Form::Open, "state"),
];

const CONTINUATION: &[Part] = &[SECTION_ID, part("payload", Form::Open, "state")];

const UNKNOWN_ID: Refusal = Refusal::lax(
    "A section id that no SECTION_START or SECTION_FULL introduced.",
    "QEMU refuses it, except for id 0: that matches the first section that has not been introduced, \
     and loads it with version 0.",
)
.seen(&[Read("10.2"), Tried("5.2, 7.2, 10.0, 11.1")]);

const RENAMED_ID: Refusal = Refusal::lax(
    "A section id that another section has.",
    "QEMU takes the id over without comparing.",
);

const EMPTY_NAME: Refusal = Refusal::strict("An empty section name.");

const LATE: Refusal = Refusal::lax(
    "A new section after LISTEN, except for SECTION_FULL in the package.",
    "QEMU accepts it at any time.",
);

const OUT_OF_PLACE: Refusal = Refusal::lax(
    "A section in a package, after its SECTION_END, or on a resumed channel before POSTCOPY_RESUME.",
    "QEMU looks at the section id only.",
);

const SECOND_RAM: Refusal = Refusal::lax(
    "A second `ram` section.",
    "QEMU takes its new section id over.",
)
.seen(&[Read("10.2"), Tried("5.2, 7.2, 10.0, 11.1")]);

const OTHER_RAM: Refusal = Refusal::strict("A `ram` section with another instance or version.");

const RECORDED: &[Evidence] = &[Read("2.5, 10.2"), Recorded("5.2, 7.2, 10.0, 11.1")];

const BY_MACHINE_TYPE: &[Evidence] = &[
    Read("2.12, 7.2"),
    Recorded(
        "5.2, 7.2, 10.0, 11.1; 7.2 with machine type 2.3 has neither configuration nor footers",
    ),
];

/// The sections, in order of their numbers.
pub const SECTIONS: &[Section] = &[
    Section {
        number: 0x00,
        label: "EOF",
        qemu: "QEMU_VM_EOF",
        doc: "End of the stream. In postcopy nothing follows; in precopy a VMDESCRIPTION may follow.",
        parts: &[],
        footer: false,
        seen: RECORDED,
        refuse: &[Refusal::lax(
            "EOF in a package, between the discards and the package, or on a resumed channel before \
             POSTCOPY_RESUME.",
            "QEMU stops reading there, as it does anywhere.",
        )],
    },
    Section {
        number: 0x01,
        label: "SECTION_START",
        qemu: "QEMU_VM_SECTION_START",
        doc: "First part of a section that is sent in several parts; for `ram` the list of RAM \
              blocks.",
        parts: INTRODUCTION,
        footer: true,
        seen: RECORDED,
        refuse: &[EMPTY_NAME, RENAMED_ID, SECOND_RAM, OTHER_RAM, LATE],
    },
    Section {
        number: 0x02,
        label: "SECTION_PART",
        qemu: "QEMU_VM_SECTION_PART",
        doc: "A further part; for `ram` pages.",
        parts: CONTINUATION,
        footer: true,
        seen: RECORDED,
        refuse: &[UNKNOWN_ID, OUT_OF_PLACE],
    },
    Section {
        number: 0x03,
        label: "SECTION_END",
        qemu: "QEMU_VM_SECTION_END",
        doc: "The last part.",
        parts: CONTINUATION,
        footer: true,
        seen: RECORDED,
        refuse: &[UNKNOWN_ID, OUT_OF_PLACE],
    },
    Section {
        number: 0x04,
        label: "SECTION_FULL",
        qemu: "QEMU_VM_SECTION_FULL",
        doc: "A section in one part: the state of a device.",
        parts: INTRODUCTION,
        footer: true,
        seen: RECORDED,
        refuse: &[
            EMPTY_NAME,
            RENAMED_ID,
            Refusal::lax("`ram` in one part.", "QEMU reads it like a SECTION_START."),
            LATE,
        ],
    },
    Section {
        number: 0x05,
        label: "SUBSECTION",
        qemu: "QEMU_VM_SUBSECTION",
        doc: "Part of a device state or of the configuration, never a section of its own.",
        parts: &[
            part(
                "name",
                Form::Name,
                "name of the enclosing structure, a slash, name of the part",
            ),
            part("version", Form::Be32, "version of the payload's format"),
            part("payload", Form::Open, "state"),
        ],
        footer: false,
        seen: &[Read("10.2")],
        refuse: &[
            Refusal::strict(
                "In the configuration: a name that is not in the list under CONFIGURATION.",
            ),
            Refusal::lax(
                "In the configuration: the same name twice.",
                "QEMU applies each.",
            ),
        ],
    },
    Section {
        number: 0x06,
        label: "VMDESCRIPTION",
        qemu: "QEMU_VM_VMDESCRIPTION",
        doc: "A description of all device states, as JSON. Behind EOF, in precopy only; omitted by \
              machine types 2.2 and earlier, and for Xen.",
        parts: &[part("description", Form::Text, "JSON")],
        footer: false,
        seen: &[Read("2.12, 7.2, 10.0"), Recorded("5.2, 7.2, 10.0, 11.1")],
        refuse: &[],
    },
    Section {
        number: 0x07,
        label: "CONFIGURATION",
        qemu: "QEMU_VM_CONFIGURATION",
        doc: "What the destination must be configured like. Directly behind the header, with machine \
              types 2.4 and later; subsections may follow, and nothing tells how many.",
        parts: &[part(
            "machine type",
            Form::Text,
            "the resolved name, such as `pc-i440fx-10.0`",
        )],
        footer: false,
        seen: BY_MACHINE_TYPE,
        refuse: &[Refusal::lax(
            "A machine type other than the expected one.",
            "QEMU compares only as many bytes as it received, so it accepts a prefix of the name.",
        )],
    },
    Section {
        number: 0x08,
        label: "COMMAND",
        qemu: "QEMU_VM_COMMAND",
        doc: "A command; see the chapter on commands.",
        parts: &[
            part("command", Form::Be16, "number of the command"),
            part("length", Form::Be16, "size of the payload"),
            part("payload", Form::Counted, "depends on the command"),
        ],
        footer: false,
        seen: RECORDED,
        refuse: &[],
    },
    Section {
        number: 0x7e,
        label: "SECTION_FOOTER",
        qemu: "QEMU_VM_SECTION_FOOTER",
        doc: "Ends a section, with machine types 2.4 and later.",
        parts: &[SECTION_ID],
        footer: false,
        seen: BY_MACHINE_TYPE,
        refuse: &[
            Refusal::strict("A section id other than that of the section it ends."),
            Refusal::strict("Footers behind some sections of a stream but not behind others."),
        ],
    },
];

/// The subsections of the configuration, in the order in which QEMU writes them.
pub const SUBSECTIONS: &[Subsection] = &[
    Subsection {
        name: "configuration/target-page-bits",
        label: "TARGET_PAGE_BITS",
        doc: "Binary logarithm of the target page size.",
        when: "The target page size is not the smallest of the architecture; hence always for \
               AArch64 `virt` machines.",
        parts: &[part("bits", Form::Be32, "12 for pages of 4096 bytes")],
        since: "2.8",
    },
    Subsection {
        name: "configuration/capabilities",
        label: "CAPABILITIES",
        doc: "Capabilities that must be equal on both sides.",
        when: "x-ignore-shared (4.0) or mapped-ram (9.0) is on.",
        parts: &[part(
            "capabilities",
            Form::Names,
            "names of those that are on",
        )],
        since: "4.0",
    },
    Subsection {
        name: "configuration/uuid",
        label: "UUID",
        doc: "The guest's UUID.",
        when: "validate-uuid is on and the guest has one.",
        parts: &[part("uuid", Form::Bytes(16), "the UUID, first byte first")],
        since: "4.2",
    },
];
