//! The header, the configuration, sections and ends of the stream.

use retpath_codec::forward::SectionKind::{Full, Start};

use super::{BITS, EOS, MEM_SIZE, PAGE_FLAG, UUID, none, subsection};
use crate::kit::{PAGE, Stream};

const CAPABILITIES: &[u8] = b"configuration/capabilities";

fn header() -> Stream {
    Stream(b"QEVM\0\0\0\x03".to_vec())
}
/// Header and configuration.
pub(super) fn heads() -> Vec<(&'static str, Stream)> {
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
pub(super) fn sections() -> Vec<(&'static str, Stream)> {
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
