//! Channels of the forward stream: sound up to one defect.

use retpath_codec::command::Command;
use retpath_codec::forward::SectionKind::{Full, Start};
use retpath_codec::forward::write;

use crate::Malformed;
use crate::kit::{Owned, PAGE, RAM, ROM, Stream, advise, discard, name};

/// Writes the streams of one folder, by name.
type Make = fn() -> Vec<(&'static str, Stream)>;

const HUGE: u64 = 2 << 20;

const ZERO: u64 = 0x002;
const MEM_SIZE: u64 = 0x004;
const PAGE_FLAG: u64 = 0x008;
const EOS: u64 = 0x010;
const CONTINUE: u64 = 0x020;
const XBZRLE: u64 = 0x040;
const HOOK: u64 = 0x080;
const COMPRESS: u64 = 0x100;
const FLUSH: u64 = 0x200;

pub(crate) fn all() -> Vec<Malformed> {
    let folders: [(_, Make); 8] = [
        ("forward", heads),
        ("forward", sections),
        ("forward", lists),
        ("forward", records),
        ("forward", commands),
        ("forward", packages),
        ("resumed", resumed),
        ("preempt", preempt),
    ];
    let files = |(folder, make): (&'static str, Make)| {
        make().into_iter().map(move |(name, stream)| Malformed {
            folder,
            name,
            bytes: stream.0,
        })
    };
    folders.into_iter().flat_map(files).collect()
}

fn none() -> Stream {
    Stream::default()
}

fn header() -> Stream {
    Stream(b"QEVM\0\0\0\x03".to_vec())
}

fn subsection(name: &[u8], version: u32, fields: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = vec![5, u8::try_from(name.len()).expect("a short name")];
    out.extend(name);
    out.extend(version.to_be_bytes());
    out.extend(fields.as_ref());
    out
}

const BITS: &[u8] = b"configuration/target-page-bits";
const CAPABILITIES: &[u8] = b"configuration/capabilities";
const UUID: &[u8] = b"configuration/uuid";

/// Header and configuration.
fn heads() -> Vec<(&'static str, Stream)> {
    let configured = Stream::configured;
    let listing = |capability: &[u8]| {
        let size = u8::try_from(capability.len()).expect("a short name");
        let fields = [&[0, 0, 0, 1, size], capability].concat();
        subsection(CAPABILITIES, 1, fields)
    };
    let mapped = configured().raw(listing(b"mapped-ram"));
    let mapped = mapped.head(Start, 1, b"ram").word(PAGE | MEM_SIZE);
    vec![
        ("magic", none().raw(b"RIFF\0\0\0\x03")),
        ("value-version", none().raw(b"QEVM\0\0\0\x02")),
        ("zero-machine", header().raw([7, 0, 0, 0, 0])),
        ("limit-machine", header().raw([7, 0, 0, 1, 0])),
        (
            "unknown-subsection",
            configured().raw(subsection(b"configuration/new", 1, [])),
        ),
        (
            "value-subsection-version",
            configured().raw(subsection(UUID, 2, [0; 16])),
        ),
        (
            "repeated-subsection",
            configured()
                .raw(subsection(UUID, 1, [1; 16]))
                .raw(subsection(UUID, 1, [1; 16])),
        ),
        (
            "target-page-bits-9",
            configured().raw(subsection(BITS, 1, 9_u32.to_be_bytes())),
        ),
        (
            "target-page-bits-64",
            configured().raw(subsection(BITS, 1, 64_u32.to_be_bytes())),
        ),
        (
            "limit-capabilities",
            configured().raw(subsection(CAPABILITIES, 1, 65_u32.to_be_bytes())),
        ),
        ("unknown-capability", configured().raw(listing(b"new"))),
        ("mapped-ram", mapped),
        ("section-type-second-configuration", configured().raw([7])),
    ]
}

/// Sections, footers and ends.
fn sections() -> Vec<(&'static str, Stream)> {
    let listed = Stream::listed;
    let precopy = || listed().end(1).eos(1).eof();
    let ram = |instance: u8, version: u8| {
        let head = b"\x01\0\0\0\x01\x03ram\0\0\0";
        Stream::advised()
            .raw(head)
            .raw([instance, 0, 0, 0, version])
    };
    vec![
        ("section-type-9", listed().raw([9])),
        ("section-type-footer", listed().footer(1)),
        (
            "section-type-subsection",
            listed().raw(subsection(UUID, 1, [0; 16])),
        ),
        ("unknown-section-part", listed().part(2)),
        ("unknown-section-end", listed().end(2)),
        ("section-twice", listed().head(Full, 1, b"cpu")),
        ("section-ended-part", listed().end(1).eos(1).part(1)),
        ("section-ended-twice", listed().end(1).eos(1).end(1)),
        ("repeated-ram", listed().head(Start, 2, b"ram")),
        (
            "illegal-ram-in-one-piece",
            Stream::advised().head(Full, 2, b"ram"),
        ),
        ("zero-idstr", listed().raw([4, 0, 0, 0, 9, 0])),
        ("value-ram-version-3", ram(0, 3)),
        ("value-ram-instance-1", ram(1, 4)),
        ("value-footer", listed().part(1).word(EOS).footer(2)),
        ("no-footer", listed().part(1).word(EOS).end(1)),
        (
            "unskippable-vfio",
            listed().head(Start, 2, b"0000:00:02.0/vfio").raw([0]),
        ),
        (
            "unskippable-dirty-bitmap",
            listed().head(Start, 2, b"dirty-bitmap").raw([2]),
        ),
        (
            "out-of-turn-section",
            Stream::switched().head(Full, 9, b"cpu"),
        ),
        ("out-of-turn-eof", Stream::discarded().eof()),
        ("after-end-precopy", precopy().raw([0])),
        (
            "after-end-description",
            precopy().description(b"{}").raw([6]),
        ),
        (
            "after-end-postcopy",
            Stream::switched().end(1).eos(1).eof().raw([6]),
        ),
        (
            "limit-description",
            precopy().raw([6, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("cut-short-header", none().raw(b"QEVM\0\0\0")),
        ("cut-short-section", listed().raw([2, 0, 0])),
        ("cut-short-record", listed().part(1).raw([0, 0, 0])),
        (
            "cut-short-page",
            listed().part(1).word(PAGE_FLAG).raw(b"\x06pc.ram\xab\xab"),
        ),
        (
            "cut-short-footer",
            listed().part(1).word(EOS).raw([0x7e, 0, 0]),
        ),
        ("cut-short-without-eof", listed()),
        ("cut-short-description", precopy().raw(b"\x06\0\0\0\x09{")),
    ]
}

/// The list of RAM blocks with this total, as far as its entries.
fn list(summary: u64, total: u64) -> Stream {
    let mut out = Stream::configured().command(advise(summary, PAGE)).0;
    write::ram_start(1, &mut out);
    write::mem_size(total, &mut out).expect("whole pages");
    Stream(out)
}

fn entry(block: &[u8], len: u64, page_size: Option<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    write::block(name(block), len, page_size, None, &mut out);
    out
}

/// The list of RAM blocks.
fn lists() -> Vec<(&'static str, Stream)> {
    let two = || list(PAGE, 2 * PAGE);
    let mut twice = Stream::listed();
    // Without the end of the section.
    twice.0.truncate(twice.0.len() - 13);
    vec![
        (
            "past-total",
            two().raw(entry(b"a", 3 * PAGE, None)).raw([0; 8]),
        ),
        (
            "past-total-second-block",
            two()
                .raw(entry(b"a", PAGE, None))
                .raw(entry(b"b", u64::MAX - 4095, None))
                .raw([0; 8]),
        ),
        (
            "block-twice",
            two()
                .raw(entry(b"a", PAGE, None))
                .raw(entry(b"a", PAGE, None)),
        ),
        ("zero-block", two().raw(entry(b"a", 0, None))),
        ("misaligned-block", two().raw(entry(b"a", PAGE + 1, None))),
        (
            "misaligned-block-of-huge-pages",
            list(PAGE | HUGE, 2 * HUGE).raw(entry(b"hugemem", PAGE, Some(HUGE))),
        ),
        ("empty-name-block", two().raw([0])),
        ("nul-block", two().raw([2, b'a', 0])),
        (
            "not-advised",
            list(PAGE | HUGE, HUGE).raw(entry(b"a", HUGE, Some(1 << 30))),
        ),
        (
            "block-page",
            list(PAGE | HUGE, HUGE)
                .raw(entry(b"hugemem", HUGE, None))
                .word(EOS),
        ),
        ("repeated-list", twice.word(PAGE | MEM_SIZE)),
        (
            "illegal-list-outside-start",
            Stream::listed().part(1).word(PAGE | MEM_SIZE),
        ),
    ]
}

/// RAM records.
fn records() -> Vec<(&'static str, Stream)> {
    let before = || Stream::listed().part(1);
    let after = || Stream::switched().part(1);
    let named = |start: Stream, flag: u64| start.word(flag).raw(b"\x06pc.ram");
    let last = u64::MAX - (PAGE - 1);
    vec![
        ("flags-none", before().word(PAGE)),
        ("flags-continue-alone", before().word(CONTINUE)),
        ("flags-two-records", before().word(ZERO | PAGE_FLAG)),
        ("flags-eos-with-continue", before().word(EOS | CONTINUE)),
        ("flags-unknown-400", before().word(0x400)),
        ("flags-after-the-switch", after().word(PAGE_FLAG | 0x800)),
        ("value-offset-of-eos", before().word(PAGE | EOS)),
        ("value-offset-of-hook", before().word(PAGE | HOOK)),
        ("value-offset-of-flush", before().word(PAGE | FLUSH)),
        ("illegal-full", before().word(1)),
        ("illegal-xbzrle-after-the-switch", after().word(XBZRLE)),
        ("illegal-hook-after-the-switch", after().word(HOOK)),
        ("illegal-flush-after-the-switch", after().word(FLUSH)),
        (
            "illegal-list-after-the-switch",
            after().word(PAGE | MEM_SIZE),
        ),
        ("no-block", before().word(ZERO | CONTINUE)),
        ("unknown-block", before().zero(0, Some(b"vga.vram"))),
        ("unknown-block-prefix", before().zero(0, Some(b"pc.ra"))),
        ("empty-name-record", before().word(ZERO).raw([0])),
        ("nul-record", before().word(ZERO).raw(b"\x06pc.ra\0")),
        ("past-block", before().zero(ROM.1, Some(ROM.0))),
        (
            "past-block-after-the-switch",
            after().page(ROM.1, Some(ROM.0)),
        ),
        (
            "past-block-with-continue",
            before().zero(0, Some(ROM.0)).zero(ROM.1, None),
        ),
        ("overflow-record", before().zero(last, Some(ROM.0))),
        ("fill", named(before(), ZERO).raw([0xaa])),
        ("fill-after-the-switch", named(after(), ZERO).raw([1])),
        (
            "value-xbzrle-encoding",
            named(before(), XBZRLE).raw([2, 0, 9]),
        ),
        ("too-long-xbzrle", named(before(), XBZRLE).raw([1, 0x10, 1])),
        (
            "too-long-compressed",
            named(before(), COMPRESS).raw([0, 0, 0x10, 0x0f]),
        ),
    ]
}

/// Commands out of turn, or at odds with the RAM blocks.
fn commands() -> Vec<(&'static str, Stream)> {
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
fn packages() -> Vec<(&'static str, Stream)> {
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

/// Channels that resume a migration whose first one is not there.
fn resumed() -> Vec<(&'static str, Stream)> {
    let resume = || none().command(Command::PostcopyResume);
    let piece = || resume().part(1);
    vec![
        ("out-of-turn-part-before-resume", none().part(1)),
        ("out-of-turn-eof-before-resume", none().eof()),
        (
            "out-of-turn-open-return-path",
            none().command(Command::OpenReturnPath),
        ),
        (
            "out-of-turn-resume-twice",
            resume().command(Command::PostcopyResume),
        ),
        ("section-type-header", none().raw(b"QEVM\0\0\0\x03")),
        ("no-block", piece().word(ZERO | CONTINUE)),
        ("fill", piece().word(ZERO).raw(b"\x06pc.ram\x01")),
        ("illegal-list", piece().word(PAGE | MEM_SIZE)),
        (
            "unknown-section",
            piece().zero(0, Some(RAM.0)).eos(1).part(2),
        ),
        ("after-end", piece().eos(1).end(1).eos(1).eof().raw([0])),
        ("cut-short", none().raw(b"\x08\0\x0a\0\x07\x06pc.")),
    ]
}

/// Preempt channels whose main channel is not there.
fn preempt() -> Vec<(&'static str, Stream)> {
    let first = || none().zero(0, Some(RAM.0));
    let last = u64::MAX - (PAGE - 1);
    vec![
        ("no-block", none().word(PAGE_FLAG | CONTINUE)),
        ("illegal-list", first().word(PAGE | MEM_SIZE)),
        ("illegal-compressed", first().word(COMPRESS)),
        ("illegal-flush", first().word(FLUSH)),
        ("flags", first().word(ZERO | EOS)),
        ("value-offset-of-eos", first().word(PAGE | EOS)),
        ("overflow", first().zero(last, None)),
        ("fill", first().word(PAGE | ZERO | CONTINUE).raw([0xff])),
        ("empty-name", none().word(ZERO).raw([0])),
        ("nul", none().word(ZERO).raw(b"\x02a\0")),
        ("after-end", first().word(EOS).raw([0])),
        (
            "cut-short",
            first().word(PAGE | PAGE_FLAG | CONTINUE).raw([0xab; 7]),
        ),
    ]
}
