// Who reads what of the corpus: for each folder the targets that replay its
// files. Included by the replay tests of the codec and the engine, which run
// the targets that are theirs; a folder that is not here fails them.

/// Targets whose bodies are in the codec.
pub(crate) const CODEC: &[&str] = &["return_path", "round_trip", "split", "walker", "forward"];

/// Targets whose bodies are in the engine.
pub(crate) const ENGINE: &[&str] = &["decode_cli", "destination", "source", "migration"];

/// Return paths, by anything that takes bytes off a wire.
const PATH: &[&str] = &[
    "return_path",
    "round_trip",
    "split",
    "walker",
    "forward",
    "decode_cli",
];

/// Small inputs of any kind: to the engine's cores they are decisions.
const ANY: &[&str] = &[
    "return_path",
    "round_trip",
    "split",
    "walker",
    "forward",
    "decode_cli",
    "destination",
    "source",
    "migration",
];

/// Channels of the forward stream.
const STREAM: &[&str] = &["forward", "split", "walker", "decode_cli"];

/// Folders below `corpus/`, and their targets.
pub(crate) const READERS: &[(&str, &[&str])] = &[
    ("capture", &["return_path", "forward", "decode_cli"]),
    ("malformed/command", STREAM),
    ("malformed/forward", STREAM),
    ("malformed/preempt", STREAM),
    ("malformed/qemu", PATH),
    ("malformed/resumed", STREAM),
    ("malformed/v7", PATH),
    ("regressions", ANY),
    ("seed/command", STREAM),
    ("seed/forward", STREAM),
    ("seed/qemu", ANY),
    ("seed/ram", STREAM),
    ("seed/v7", ANY),
];
