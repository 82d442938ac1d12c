//! `codec/src/generated/{ram,section}.rs`: the constants of the forward stream
//! behind its commands. What to do with them is the codec's business.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::codec::output;
use super::text::Text;
use super::{Output, notice};
use retpath_spec::model::Record;
use retpath_spec::table::{ram, stream};

/// The generated part of `codec::forward`.
pub fn outputs() -> Vec<Output> {
    [("ram", ram_flags()), ("section", sections())]
        .into_iter()
        .map(|(name, text)| output(name, text))
        .collect()
}

fn ram_flags() -> String {
    let mut text = Text::new(&notice("//!"));
    text.line("//!");
    text.line("//! Flags of RAM records: the low bits of the word that opens each of them.");
    for record in ram::RECORDS {
        text.line("");
        text.prose("/// ", record.doc, 80);
        text.line("///");
        text.line(&format!("/// `{}`.", record.qemu));
        text.line(&format!(
            "pub const {}: u64 = 0x{:03x};",
            record.label, record.flag
        ));
    }
    let mask = |belongs: fn(&Record) -> bool| {
        let flags = ram::RECORDS.iter().filter(|r| belongs(r));
        flags.fold(0, |mask, r| mask | r.flag)
    };
    for (name, doc, mask) in [
        (
            "IN_BLOCK",
            "Records that belong to a block.",
            mask(|r| r.in_block),
        ),
        (
            "PRECOPY",
            "What may open a record before POSTCOPY_LISTEN.",
            mask(|r| r.legal.precopy),
        ),
        (
            "POSTCOPY",
            "What may open a record after POSTCOPY_LISTEN.",
            mask(|r| r.legal.postcopy),
        ),
        (
            "PREEMPT",
            "What may open a record on the preempt channel.",
            mask(|r| r.legal.preempt),
        ),
    ] {
        constant(&mut text, doc, &format!("{name}: u64 = 0x{mask:03x}"));
    }
    for (doc, item) in [
        (
            "Smallest target page size whose offsets leave all flags free, in bytes.",
            format!("MIN_TARGET_PAGE: u64 = {}", ram::MIN_TARGET_PAGE),
        ),
        (
            "Largest target page size of any architecture, in bytes.",
            format!("MAX_TARGET_PAGE: u64 = {}", ram::MAX_TARGET_PAGE),
        ),
        (
            "The byte in front of an XBZRLE record's length.",
            format!("XBZRLE_ENCODING: u8 = {:#04x}", ram::XBZRLE_ENCODING),
        ),
    ] {
        constant(&mut text, doc, &item);
    }
    let labels = ram::RECORDS.iter().map(|record| record.label);
    label(&mut text, "flag", "u64", labels);
    text.finish()
}

fn sections() -> String {
    let mut text = Text::new(&notice("//!"));
    text.line("//!");
    text.line("//! The header of the forward stream, and the bytes that open its sections.");
    for section in stream::SECTIONS {
        text.line("");
        text.prose("/// ", section.doc, 80);
        text.line("///");
        text.line(&format!("/// `{}`.", section.qemu));
        text.line(&format!(
            "pub const {}: u8 = {:#04x};",
            section.label, section.number
        ));
    }
    for subsection in stream::SUBSECTIONS {
        text.line("");
        text.prose("/// ", subsection.doc, 80);
        text.line(&format!(
            "pub const {}: &[u8] = b\"{}\";",
            subsection.label, subsection.name
        ));
    }
    for (doc, item) in [
        (
            "First four bytes of a forward stream.",
            format!("MAGIC: u32 = {:#010x}", stream::MAGIC),
        ),
        (
            "Version of the stream.",
            format!("VERSION: u32 = {}", stream::VERSION),
        ),
        (
            "Version of every subsection of the configuration.",
            format!("SUBSECTION_VERSION: u32 = {}", stream::SUBSECTION_VERSION),
        ),
        (
            "The `ram` section's name.",
            format!("RAM_NAME: &[u8] = b\"{}\"", stream::RAM_NAME),
        ),
        (
            "The `ram` section's instance number.",
            format!("RAM_INSTANCE: u32 = {}", stream::RAM_INSTANCE),
        ),
        (
            "The `ram` section's version.",
            format!("RAM_VERSION: u32 = {}", stream::RAM_VERSION),
        ),
        (
            "Name of the section that carries the dirty bitmaps of disks.",
            format!(
                "DIRTY_BITMAP_NAME: &[u8] = b\"{}\"",
                stream::DIRTY_BITMAP_NAME
            ),
        ),
        (
            "The whole payload of a `dirty-bitmap` piece that has nothing to send.",
            format!(
                "DIRTY_BITMAP_NOTHING: u8 = {:#04x}",
                stream::DIRTY_BITMAP_NOTHING
            ),
        ),
        (
            "Capability with which the list of RAM blocks carries guest addresses.",
            format!("IGNORE_SHARED: &[u8] = b\"{}\"", stream::IGNORE_SHARED),
        ),
        (
            "Capability with which pages lie outside the stream.",
            format!("MAPPED_RAM: &[u8] = b\"{}\"", stream::MAPPED_RAM),
        ),
    ] {
        constant(&mut text, doc, &item);
    }
    let labels = stream::SECTIONS.iter().map(|section| section.label);
    label(&mut text, "byte", "u8", labels);
    text.finish()
}

fn constant(text: &mut Text, doc: &str, item: &str) {
    text.line("");
    text.line(&format!("/// {doc}"));
    text.line(&format!("pub const {item};"));
}

/// A function from the value of a constant to its name.
fn label(text: &mut Text, what: &str, ty: &str, labels: impl Iterator<Item = &'static str>) {
    text.line("");
    text.line(&format!("/// Label of a {what}, if it has one."));
    text.block(
        &format!("pub fn label({what}: {ty}) -> Option<&'static str> {{"),
        "}",
        |text| {
            text.block(&format!("match {what} {{"), "}", |text| {
                for label in labels {
                    text.line(&format!("{label} => Some(\"{label}\"),"));
                }
                text.line("_ => None,");
            });
        },
    );
}
