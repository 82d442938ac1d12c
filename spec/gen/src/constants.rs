//! `codec/src/generated/{ram,section,value,capability}.rs`: the constants of
//! the protocol, for the codec and for everything above it.

use super::Output;
use super::codec::{output, public_module};
use super::text::Text;
use retpath_spec::model::{Constant, Literal, Record};
use retpath_spec::table::{DIALECTS, capability, command, ram, return_path, stream};

/// Modules of the codec that this file writes.
pub const MODULES: [&str; 4] = ["capability", "ram", "section", "value"];

/// The modules with constants.
pub fn outputs() -> Vec<Output> {
    let texts = [capabilities(), ram_flags(), sections(), values()];
    MODULES
        .into_iter()
        .zip(texts)
        .map(|(name, text)| output(name, text))
        .collect()
}

fn capabilities() -> String {
    let mut text = public_module(
        "Names of the migration capabilities that change the protocol. A capability is set on both \
         sides before the migration starts.",
        "
use retpath_codec::wire::capability;

assert_eq!(capability::POSTCOPY_RAM, \"postcopy-ram\");
",
    );
    for row in capability::CAPABILITIES {
        let releases = match row.since.contains(' ') {
            true => format!("In {}.", row.since),
            false => format!("Since {}.", row.since),
        };
        let doc = format!("{}\n\n{releases}", row.doc);
        constant(&mut text, row.label, Literal::Text(row.name), &doc);
    }
    text.finish()
}

fn values() -> String {
    let mut text = public_module(
        "Values of messages and commands that have a name.",
        "
use retpath_codec::wire::value;
use retpath_codec::{Decoded, Message, Qemu, Trailer, decode};

// SHUT without an error of the destination.
let shut = Decoded::Message {
    message: Message::Shut { value: value::SHUT_SUCCESS },
    trailer: Trailer::End,
    rest: &[],
};
assert_eq!(decode::<Qemu>(&[0, 1, 0, 4, 0, 0, 0, 0])?, shut);
# Ok::<(), retpath_codec::DecodeError>(())
",
    );
    let messages = DIALECTS.iter().flat_map(|dialect| dialect.messages);
    let mut written: Vec<&str> = Vec::new();
    for message in messages {
        for value in message.values {
            if !written.contains(&value.name) {
                written.push(value.name);
                let doc = format!("{}\n\nValue of {}.", value.doc, message.label);
                constant(&mut text, value.name, value.value, &since(doc, value));
            }
        }
    }
    constants(&mut text, return_path::BITMAP);
    constants(&mut text, command::LIMITS);
    text.finish()
}

fn ram_flags() -> String {
    let mut text = public_module(
        "Flags of RAM records: the low bits of the word at the start of each record.",
        "
use retpath_codec::wire::ram;

// A page of zeros at offset 0x3000 of the block of the previous record.
let word = 0x3000 | ram::ZERO | ram::CONTINUE;
let flags = word & (4096 - 1);
assert_eq!(ram::label(flags & !ram::CONTINUE), Some(\"ZERO\"));
assert!(flags & ram::POSTCOPY != 0);
",
    );
    for record in ram::RECORDS {
        let doc = format!("{}\n\n`{}`.", record.doc, record.qemu);
        item(
            &mut text,
            record.label,
            "u64",
            &format!("0x{:03x}", record.flag),
            &doc,
        );
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
            "Flags that are allowed before POSTCOPY_LISTEN.",
            mask(|r| r.legal.precopy),
        ),
        (
            "POSTCOPY",
            "Flags that are allowed after POSTCOPY_LISTEN.",
            mask(|r| r.legal.postcopy),
        ),
        (
            "PREEMPT",
            "Flags that are allowed on the preempt channel.",
            mask(|r| r.legal.preempt),
        ),
    ] {
        item(&mut text, name, "u64", &format!("0x{mask:03x}"), doc);
    }
    constants(&mut text, ram::CONSTANTS);
    let labels = ram::RECORDS.iter().map(|record| record.label);
    label(&mut text, "flag", "u64", labels);
    text.finish()
}

fn sections() -> String {
    let mut text = public_module(
        "The header of the forward stream, its section types, and the first bytes of other channels.",
        "
use retpath_codec::wire::section;

assert_eq!(section::MAGIC.to_be_bytes(), *b\"QEVM\");
assert_eq!(section::label(0x04), Some(\"SECTION_FULL\"));
",
    );
    for section in stream::SECTIONS {
        let doc = format!("{}\n\n`{}`.", section.doc, section.qemu);
        item(
            &mut text,
            section.label,
            "u8",
            &format!("{:#04x}", section.number),
            &doc,
        );
    }
    for subsection in stream::SUBSECTIONS {
        let name = Literal::Bytes(subsection.name);
        constant(&mut text, subsection.label, name, subsection.doc);
    }
    constants(&mut text, stream::CONSTANTS);
    let labels = stream::SECTIONS.iter().map(|section| section.label);
    label(&mut text, "byte", "u8", labels);
    text.finish()
}

fn constants(text: &mut Text, rows: &[Constant]) {
    for row in rows {
        constant(text, row.name, row.value, &since(row.doc.into(), row));
    }
}

fn since(doc: String, row: &Constant) -> String {
    match row.since {
        "" => doc,
        release => format!("{doc} Since {release}."),
    }
}

fn constant(text: &mut Text, name: &str, value: Literal, doc: &str) {
    let (ty, value) = match value {
        Literal::U8(n) => ("u8", format!("{n:#04x}")),
        Literal::U32(n) if n < 10 => ("u32", format!("{n}")),
        Literal::U32(n) if n <= 0xff => ("u32", format!("{n:#04x}")),
        Literal::U32(n) => ("u32", format!("{n:#010x}")),
        Literal::U64(n) => ("u64", format!("{n:#018x}")),
        Literal::Decimal32(n) => ("u32", format!("{n}")),
        Literal::Decimal64(n) => ("u64", format!("{n}")),
        Literal::Count(n) => ("usize", format!("{n}")),
        Literal::Bytes(bytes) => ("&[u8]", format!("b\"{bytes}\"")),
        Literal::Text(words) => ("&str", format!("\"{words}\"")),
    };
    item(text, name, ty, &value, doc);
}

/// A constant behind its documentation, whose paragraphs an empty line
/// separates.
fn item(text: &mut Text, name: &str, ty: &str, value: &str, doc: &str) {
    text.line("");
    for (i, paragraph) in doc.split("\n\n").enumerate() {
        if i > 0 {
            text.line("///");
        }
        text.prose("/// ", paragraph, 80);
    }
    text.line(&format!("pub const {name}: {ty} = {value};"));
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
