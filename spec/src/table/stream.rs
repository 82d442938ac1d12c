//! The forward stream: its header and its sections.

use crate::model::{Form, Part, Refusal, Section, Subsection};

/// First four bytes of a forward stream: "QEVM".
pub const MAGIC: u32 = 0x5145_564d;

/// Version of the stream, behind [`MAGIC`].
pub const VERSION: u32 = 3;

/// The `ram` section's name.
pub const RAM_NAME: &str = "ram";

/// The `ram` section's instance number.
pub const RAM_INSTANCE: u32 = 0;

/// The `ram` section's version.
pub const RAM_VERSION: u32 = 4;

/// Name of the section that carries the dirty bitmaps of disks.
pub const DIRTY_BITMAP_NAME: &str = "dirty-bitmap";

/// The whole payload of a `dirty-bitmap` piece that has nothing to send.
pub const DIRTY_BITMAP_NOTHING: u8 = 0x01;

/// Capability with which the list of RAM blocks carries guest addresses.
pub const IGNORE_SHARED: &str = "x-ignore-shared";

/// Capability with which pages lie at fixed places of a file, outside the
/// stream.
pub const MAPPED_RAM: &str = "mapped-ram";

const fn part(name: &'static str, form: Form, doc: &'static str) -> Part {
    Part { name, form, doc }
}

const SECTION_ID: Part = part(
    "section id",
    Form::Be32,
    "number that the source gave the section; it differs between releases",
);

/// START and FULL introduce a section by name.
const INTRODUCTION: &[Part] = &[
    SECTION_ID,
    part(
        "name",
        Form::Name,
        "`ram`, or a device's path and the name of its state",
    ),
    part(
        "instance",
        Form::Be32,
        "number among sections of the same name",
    ),
    part("version", Form::Be32, "version of the payload's format"),
    part("payload", Form::Open, "state"),
];

const CONTINUATION: &[Part] = &[SECTION_ID, part("payload", Form::Open, "state")];

const UNKNOWN_ID: Refusal = Refusal {
    what: "A section id that no SECTION_START or SECTION_FULL introduced.",
    laxer: None,
};

const RENAMED_ID: Refusal = Refusal {
    what: "A section id that has been given to a section before.",
    laxer: Some("QEMU takes the id over without comparing."),
};

const EMPTY_NAME: Refusal = Refusal {
    what: "An empty section name.",
    laxer: None,
};

const LATE: Refusal = Refusal {
    what: "A new section after LISTEN, except for SECTION_FULL in the package.",
    laxer: Some("QEMU takes it at any time."),
};

const OUT_OF_PLACE: Refusal = Refusal {
    what: "A piece in a package, behind the section's SECTION_END, or on a resumed channel before \
           RESUME.",
    laxer: Some("QEMU goes by the section id alone."),
};

const SECOND_RAM: Refusal = Refusal {
    what: "A second `ram` section.",
    laxer: Some("QEMU takes its new section id over."),
};

const OTHER_RAM: Refusal = Refusal {
    what: "A `ram` section with another instance or version.",
    laxer: None,
};

/// The sections, in order of their numbers.
pub const SECTIONS: &[Section] = &[
    Section {
        number: 0x00,
        label: "EOF",
        qemu: "QEMU_VM_EOF",
        doc: "End of the stream. Nothing follows it in postcopy; in precopy a VMDESCRIPTION may.",
        parts: &[],
        footer: false,
        refuse: &[Refusal {
            what: "EOF in a package, between the discards and the package, or on a resumed channel \
                   before RESUME.",
            laxer: Some("QEMU ends there what it is reading, as it does anywhere."),
        }],
    },
    Section {
        number: 0x01,
        label: "SECTION_START",
        qemu: "QEMU_VM_SECTION_START",
        doc: "First piece of a section that is sent in several; for `ram` the list of RAM blocks.",
        parts: INTRODUCTION,
        footer: true,
        refuse: &[EMPTY_NAME, RENAMED_ID, SECOND_RAM, OTHER_RAM, LATE],
    },
    Section {
        number: 0x02,
        label: "SECTION_PART",
        qemu: "QEMU_VM_SECTION_PART",
        doc: "A further piece; for `ram` pages.",
        parts: CONTINUATION,
        footer: true,
        refuse: &[UNKNOWN_ID, OUT_OF_PLACE],
    },
    Section {
        number: 0x03,
        label: "SECTION_END",
        qemu: "QEMU_VM_SECTION_END",
        doc: "The last piece.",
        parts: CONTINUATION,
        footer: true,
        refuse: &[UNKNOWN_ID, OUT_OF_PLACE],
    },
    Section {
        number: 0x04,
        label: "SECTION_FULL",
        qemu: "QEMU_VM_SECTION_FULL",
        doc: "A section in one piece: the state of a device.",
        parts: INTRODUCTION,
        footer: true,
        refuse: &[
            EMPTY_NAME,
            RENAMED_ID,
            Refusal {
                what: "`ram` in one piece.",
                laxer: Some("QEMU reads it like a SECTION_START."),
            },
            LATE,
        ],
    },
    Section {
        number: 0x05,
        label: "SUBSECTION",
        qemu: "QEMU_VM_SUBSECTION",
        doc: "Part of a device's state or of the configuration, never a section of its own.",
        parts: &[
            part("name", Form::Name, "the whole's name, a slash, the part's"),
            part("version", Form::Be32, "version of the payload's format"),
            part("payload", Form::Open, "state"),
        ],
        footer: false,
        refuse: &[
            Refusal {
                what: "In the configuration: a name that is not in the list under CONFIGURATION.",
                laxer: None,
            },
            Refusal {
                what: "In the configuration: the same one twice.",
                laxer: Some("QEMU applies each."),
            },
        ],
    },
    Section {
        number: 0x06,
        label: "VMDESCRIPTION",
        qemu: "QEMU_VM_VMDESCRIPTION",
        doc: "A description of all device states, as JSON. Behind EOF, in precopy only; left out by \
              machine types of 2.2 and earlier.",
        parts: &[part("description", Form::Text, "JSON")],
        footer: false,
        refuse: &[],
    },
    Section {
        number: 0x07,
        label: "CONFIGURATION",
        qemu: "QEMU_VM_CONFIGURATION",
        doc: "What the destination must be set up like. Right behind the header, with machine types \
              of 2.4 and later; subsections may follow, and nothing says how many.",
        parts: &[part(
            "machine type",
            Form::Text,
            "the resolved name, such as `pc-i440fx-10.0`",
        )],
        footer: false,
        refuse: &[Refusal {
            what: "A machine type other than the expected one.",
            laxer: Some(
                "QEMU compares only as many bytes as it received, so a prefix of the name passes.",
            ),
        }],
    },
    Section {
        number: 0x08,
        label: "COMMAND",
        qemu: "QEMU_VM_COMMAND",
        doc: "A command, see below.",
        parts: &[
            part("command", Form::Be16, "number of the command"),
            part("length", Form::Be16, "bytes of payload"),
            part("payload", Form::Counted, "depends on the command"),
        ],
        footer: false,
        refuse: &[],
    },
    Section {
        number: 0x7e,
        label: "SECTION_FOOTER",
        qemu: "QEMU_VM_SECTION_FOOTER",
        doc: "Closes a section, with machine types of 2.4 and later.",
        parts: &[SECTION_ID],
        footer: false,
        refuse: &[
            Refusal {
                what: "A section id other than that of the section it closes.",
                laxer: None,
            },
            Refusal {
                what: "A section without a footer after one with, or the reverse.",
                laxer: None,
            },
        ],
    },
];

/// The subsections of the configuration.
pub const SUBSECTIONS: &[Subsection] = &[
    Subsection {
        name: "configuration/target-page-bits",
        label: "TARGET_PAGE_BITS",
        doc: "Binary logarithm of the target page size.",
        when: "The target page size is not the smallest one of the architecture; so always for \
               `virt` machines of AArch64.",
        parts: &[part("bits", Form::Be32, "12 for pages of 4096 bytes")],
        since: "2.8",
    },
    Subsection {
        name: "configuration/capabilities",
        label: "CAPABILITIES",
        doc: "Capabilities that must be the same on both sides.",
        when: "`x-ignore-shared` (4.0) or `mapped-ram` (9.0) is on.",
        parts: &[part(
            "capabilities",
            Form::Names,
            "the names of those that are on",
        )],
        since: "4.0",
    },
    Subsection {
        name: "configuration/uuid",
        label: "UUID",
        doc: "The guest's UUID.",
        when: "`validate-uuid` is on and the guest has one.",
        parts: &[part("uuid", Form::Bytes(16), "the UUID, first byte first")],
        since: "4.2",
    },
];

/// Version of every subsection of the configuration.
pub const SUBSECTION_VERSION: u32 = 1;
