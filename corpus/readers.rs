// Lists the targets that replay each folder of the corpus. The replay tests of the
// codec and of the engine include this file and run their own targets; a folder
// without an entry fails them.

/// Targets implemented in the codec.
pub(crate) const CODEC: &[&str] = &["return_path", "round_trip", "split", "oracle", "forward"];

/// Targets implemented in `retpath-proptests`.
pub(crate) const ENGINE: &[&str] = &[
    "decode_cli",
    "destination",
    "source",
    "migration",
    "drive_receive",
    "drive_serve",
    "image",
];

/// Targets for return paths: everything that decodes bytes of a wire.
const PATH: &[&str] = &[
    "return_path",
    "round_trip",
    "split",
    "oracle",
    "forward",
    "decode_cli",
];

/// Targets for small inputs of any kind; the core targets read them as decisions.
const ANY: &[&str] = &[
    "return_path",
    "round_trip",
    "split",
    "oracle",
    "forward",
    "decode_cli",
    "destination",
    "source",
    "migration",
    "drive_receive",
    "drive_serve",
    "image",
];

/// Targets for channels of the forward stream.
const STREAM: &[&str] = &["forward", "split", "oracle", "decode_cli"];

/// Targets for main channels, which may also be saved streams.
const SAVED: &[&str] = &["forward", "split", "oracle", "decode_cli", "image"];

/// Folders in `corpus/` and their targets.
pub(crate) const READERS: &[(&str, &[&str])] = &[
    ("capture", &["return_path", "forward", "decode_cli"]),
    ("drivers", &["drive_receive", "drive_serve"]),
    ("malformed/command", STREAM),
    ("malformed/forward", SAVED),
    ("malformed/preempt", STREAM),
    ("malformed/qemu", PATH),
    ("malformed/resumed", STREAM),
    ("malformed/v7", PATH),
    ("manifest", &["image"]),
    ("regressions", ANY),
    ("seed/command", STREAM),
    ("seed/forward", SAVED),
    ("seed/qemu", ANY),
    ("seed/ram", STREAM),
    ("seed/v7", ANY),
];
