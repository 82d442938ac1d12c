//! Commands in the wrong phase, and packages.

use retpath_codec::command::Command;
use retpath_codec::forward::SectionKind::{Full, Start};

use super::{BITS, subsection};
use crate::kit::{Owned, PAGE, RAM, ROM, Stream, advise, discard};

/// Commands in the wrong phase, or inconsistent with the RAM blocks.
pub(super) fn commands() -> Vec<(&'static str, Stream)> {
    let with = |start: Stream, command: Owned| start.command(command);
    let listed = Stream::listed;
    let switched = Stream::switched;
    let configured = Stream::configured;
    let bits = subsection(BITS, 1, 13_u32.to_be_bytes());
    vec![
        ("unknown-command", Stream::advised().raw([8, 0, 12, 0, 0])),
        ("reserved-command", Stream::advised().raw([8, 0, 0, 0, 0])),
        ("length-command", Stream::advised().raw([8, 0, 2, 0, 1])),
        (
            "no-return-path",
            with(configured(), Command::Ping { value: 1 }),
        ),
        (
            "out-of-turn-advise-twice",
            with(Stream::advised(), advise(PAGE, PAGE)),
        ),
        (
            "out-of-turn-advise-after-a-section",
            with(configured().list(), advise(PAGE, PAGE)),
        ),
        ("target-page-advise", with(configured(), advise(PAGE, 512))),
        (
            "value-advise-target-page",
            with(configured().raw(bits), advise(PAGE, PAGE)),
        ),
        ("page-summary-0", with(configured(), advise(0, PAGE))),
        (
            "page-summary-below-the-target-page",
            with(configured(), advise(PAGE | 512, PAGE)),
        ),
        (
            "out-of-turn-discard",
            with(configured().list(), discard(RAM.0, 0, PAGE)),
        ),
        (
            "out-of-turn-discard-after-run",
            with(switched(), discard(RAM.0, 0, PAGE)),
        ),
        (
            "unknown-block-discard",
            with(listed(), discard(b"vga.vram", 0, PAGE)),
        ),
        (
            "past-block-discard",
            with(listed(), discard(ROM.0, PAGE, ROM.1)),
        ),
        (
            "misaligned-discard-start",
            with(listed(), discard(RAM.0, 1, PAGE)),
        ),
        (
            "misaligned-discard-length",
            with(listed(), discard(RAM.0, 0, 100)),
        ),
        (
            "out-of-turn-package-before-advise",
            with(configured(), Command::Packaged { size: 19 }),
        ),
        (
            "out-of-turn-package-after-run",
            with(switched(), Command::Packaged { size: 19 }),
        ),
        (
            "not-in-package-listen",
            with(listed(), Command::PostcopyListen),
        ),
        ("not-in-package-run", with(listed(), Command::PostcopyRun)),
        (
            "out-of-turn-resume",
            with(switched(), Command::PostcopyResume),
        ),
        (
            "out-of-turn-open-return-path",
            with(switched(), Command::OpenReturnPath),
        ),
        (
            "out-of-turn-switchover-start",
            with(switched(), Command::SwitchoverStart),
        ),
    ]
}

/// Packages.
pub(super) fn packages() -> Vec<(&'static str, Stream)> {
    let open = |size| Stream::discarded().command(Command::Packaged { size });
    let inside = || open(1000).listen();
    vec![
        (
            "in-package-package",
            inside().command(Command::Packaged { size: 9 }),
        ),
        ("in-package-start", inside().head(Start, 9, b"cpu")),
        ("in-package-part", inside().part(1)),
        ("in-package-eof", inside().eof()),
        (
            "in-package-discard",
            inside().command(discard(RAM.0, 0, PAGE)),
        ),
        ("out-of-turn-listen-twice", inside().listen()),
        (
            "out-of-turn-run-first",
            open(1000).command(Command::PostcopyRun),
        ),
        ("out-of-turn-device-first", open(1000).head(Full, 9, b"cpu")),
        ("after-run", open(26).listen().run().raw([0; 7])),
        ("no-run", open(5).listen()),
        ("no-run-empty", open(0)),
        ("package-end", open(18).listen().run()),
        ("cut-short-package", open(19).listen()),
    ]
}
