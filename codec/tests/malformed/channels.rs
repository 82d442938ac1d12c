//! Channels of the forward stream with one defect.

mod commands;
mod ram;
mod sections;

use retpath_codec::command::Command;

use crate::Malformed;
use crate::kit::{PAGE, RAM, Stream};

/// Writes the streams of one folder, by name.
type Make = fn() -> Vec<(&'static str, Stream)>;

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
        ("forward", sections::heads),
        ("forward", sections::sections),
        ("forward", ram::lists),
        ("forward", ram::records),
        ("forward", commands::commands),
        ("forward", commands::packages),
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

fn subsection(name: &[u8], version: u32, fields: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = vec![5, u8::try_from(name.len()).expect("a short name")];
    out.extend(name);
    out.extend(version.to_be_bytes());
    out.extend(fields.as_ref());
    out
}

const BITS: &[u8] = b"configuration/target-page-bits";
const UUID: &[u8] = b"configuration/uuid";

/// Channels that resume a migration whose first channel is not available.
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

/// Preempt channels whose main channel is not available.
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
