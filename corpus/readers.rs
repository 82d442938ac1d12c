// Who reads what of the corpus: for each folder the targets that replay its
// files. Included by the replay tests of the codec and the engine, which run
// the targets that are theirs; a folder that is not here fails them.

/// Targets whose bodies are in the codec.
pub(crate) const CODEC: &[&str] = &["return_path", "round_trip", "split", "oracle", "forward"];

/// Targets whose bodies are in the engine.
pub(crate) const ENGINE: &[&str] = &["decode_cli", "destination", "source", "migration", "image"];

/// Return paths, by anything that takes bytes off a wire.
const PATH: &[&str] = &[
    "return_path",
    "round_trip",
    "split",
    "oracle",
    "forward",
    "decode_cli",
];

/// Small inputs of any kind: to the engine's cores they are decisions.
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
    "image",
];

/// Channels of the forward stream.
const STREAM: &[&str] = &["forward", "split", "oracle", "decode_cli"];

/// Main channels, which could be saved streams.
const SAVED: &[&str] = &["forward", "split", "oracle", "decode_cli", "image"];

/// Folders below `corpus/`, and their targets.
pub(crate) const READERS: &[(&str, &[&str])] = &[
    ("capture", &["return_path", "forward", "decode_cli"]),
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
