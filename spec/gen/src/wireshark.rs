//! `spec/wireshark/qemu_migration_rp.lua`: a Wireshark dissector for the return
//! path.
//!
//! Numbers, names and fields come from the rows; `wireshark/core.lua` interprets
//! them.

use super::text::Text;
use super::{Output, notice};
use retpath_spec::model::{Dialect, Field, Kind, Message, Rule, Trailer, Unit};
use retpath_spec::oracle::payload_bounds;
use retpath_spec::table::return_path::{BITMAP_ALIGN, BITMAP_END, QEMU, V7};

#[cfg(test)]
mod tests;

/// Prefix of the names of display filters.
const PREFIX: &str = "qemu_rp";

/// Defects by name: the oracle's rules, and those of trailers and streams.
const RULES: &[(&str, &str)] = &[
    ("reserved", "Message type 0 is reserved"),
    ("unknown", "Unknown message type"),
    ("too-long", "Payload longer than the limit"),
    ("length", "Invalid payload length for this message"),
    ("short", "Field exceeds the payload"),
    ("leftover", "Bytes behind the last field"),
    ("value", "Invalid value"),
    ("zero", "Length of 0"),
    ("overflow", "Start and length exceed 2^64"),
    ("empty-name", "Empty block name"),
    ("nul", "NUL byte in a block name"),
    ("bitmap-size", "Bitmap size is 0 or not a multiple of 8"),
    ("bitmap-end", "Wrong end mark behind a bitmap"),
    ("after-shut", "Bytes behind SHUT"),
];

/// Reasons to stop dissecting that are not defects.
const STOPS: &[(&str, &str)] = &[
    ("bitmap-limit", "Bitmap larger than the preference"),
    ("cut-short", "Incomplete message"),
    (
        "out-of-step",
        "Not dissected: earlier message malformed or incomplete",
    ),
];

/// The dissector.
pub fn output() -> Output {
    let mut lua = Text::new(&notice("--"));
    let head = include_str!("wireshark/head.lua");
    head.lines().for_each(|line| lua.line(line));
    lua.line("");
    constants(&mut lua);
    rules(&mut lua);
    fields(&mut lua);
    lua.block("local DIALECTS = {", "}", |lua| {
        for dialect in DIALECTS {
            messages(lua, dialect);
        }
    });
    lua.line("");
    let core = include_str!("wireshark/core.lua");
    core.lines().for_each(|line| lua.line(line));
    Output {
        path: "spec/wireshark/qemu_migration_rp.lua".into(),
        bytes: lua.finish().into_bytes(),
    }
}

/// In the order of the dialect preference.
const DIALECTS: [&Dialect; 2] = [&QEMU, &V7];

fn constants(lua: &mut Text) {
    let (high, low) = (BITMAP_END >> 32, BITMAP_END & 0xffff_ffff);
    lua.line(&format!("local BITMAP_END = UInt64({low:#x}, {high:#x})"));
    lua.line(&format!("local BITMAP_ALIGN = {BITMAP_ALIGN}"));
    lua.line("");
}

fn rules(lua: &mut Text) {
    for (name, rules) in [("RULES", RULES), ("STOPS", STOPS)] {
        lua.block(&format!("local {name} = {{"), "}", |lua| {
            for (rule, text) in rules {
                lua.line(&format!("{} = \"{text}\",", lua_name(rule)));
            }
        });
    }
    lua.line("");
}

/// The fields for display filters.
fn fields(lua: &mut Text) {
    let add = |lua: &mut Text, key: &str, ty: &str, path: &str, title: &str, more: &str| {
        let line = format!("{key} = ProtoField.{ty}(\"{PREFIX}.{path}\", \"{title}\"{more}),");
        match line.split_once(", nil, nil, ") {
            None => lua.line(&line),
            Some((head, doc)) => {
                lua.line(&format!("{head}, nil, nil,"));
                lua.line(&format!("    {doc}"));
            }
        }
    };
    lua.block("local f = {", "}", |lua| {
        add(lua, "type", "uint16", "type", "Type", ", base.DEC");
        add(
            lua,
            "length",
            "uint16",
            "length",
            "Payload length",
            ", base.DEC",
        );
        add(lua, "message", "string", "message", "Message", "");
        add(lua, "malformed", "string", "malformed", "Malformed", "");
        for dialect in DIALECTS {
            for message in dialect.messages.iter().filter(|m| is_own(dialect, m)) {
                for field in message.fields {
                    let key = key(dialect, message, field.name);
                    let path = path(dialect, message, field.name);
                    let title = capitalised(field.name);
                    let doc = format!(", nil, nil, \"{}\"", field.doc);
                    let (ty, more) = lua_type(field);
                    let more = match ty {
                        "string" => format!("{more}, \"{}\"", field.doc),
                        _ => format!("{more}{doc}"),
                    };
                    add(lua, &key, ty, &path, &title, &more);
                    match field.kind {
                        Kind::Name | Kind::FlaggedName => {
                            let raw = format!("{key}_raw");
                            add(lua, &raw, "bytes", &format!("{path}.raw"), "Bytes", "");
                            let count = format!("{key}_len");
                            let more = ", base.DEC";
                            let title = format!("{title} name length");
                            add(lua, &count, "uint8", &format!("{path}.len"), &title, more);
                        }
                        Kind::FlaggedBe64 => {
                            let flag = format!("{key}_flag");
                            add(
                                lua,
                                &flag,
                                "bool",
                                &format!("{path}.named"),
                                "Name follows",
                                "",
                            );
                        }
                        _ => {}
                    }
                }
                if message.trailer == Some(Trailer::Bitmap) {
                    for (name, ty, title, more) in BITMAP {
                        let name = format!("bitmap.{name}");
                        let key = key(dialect, message, &name);
                        add(lua, &key, ty, &path(dialect, message, &name), title, more);
                    }
                }
            }
        }
    });
    lua.line("");
}

/// Name, type, title and format of the fields of a received bitmap.
const BITMAP: [(&str, &str, &str, &str); 4] = [
    ("size", "uint64", "Bitmap size", ", base.DEC"),
    ("data", "bytes", "Bitmap", ""),
    ("received", "uint64", "Pages received", ", base.DEC"),
    ("end_mark", "uint64", "End mark", ", base.HEX"),
];

fn messages(lua: &mut Text, dialect: &Dialect) {
    lua.block("{", "},", |lua| {
        lua.line(&format!("name = \"{}\",", dialect.name));
        lua.line(&format!("max = {},", dialect.max_payload));
        lua.line(&format!("reserved = {},", dialect.reserved.number));
        lua.block("messages = {", "},", |lua| {
            for message in dialect.messages {
                one_message(lua, dialect, message);
            }
        });
    });
}

fn one_message(lua: &mut Text, dialect: &Dialect, message: &Message) {
    let (min, max) = payload_bounds(dialect, message);
    lua.block(&format!("[{}] = {{", message.number), "},", |lua| {
        lua.line(&format!(
            "label = \"{}\", min = {min}, max = {max},",
            message.label
        ));
        lua.block("fields = {", "},", |lua| {
            for field in message.fields {
                lua.line(&format!("{{ {} }},", row(dialect, message, field)));
            }
        });
        match message.trailer {
            None => {}
            Some(Trailer::End) => lua.line("last = true,"),
            Some(Trailer::Bitmap) => lua.block("bitmap = {", "},", |lua| {
                for (name, ..) in BITMAP {
                    let key = key(dialect, message, &format!("bitmap.{name}"));
                    lua.line(&format!("{name} = f.{key},"));
                }
            }),
            Some(Trailer::Package) => unreachable!("no return path has packages"),
        }
    });
}

/// A field's type in Wireshark, and what more there is to say to show it.
fn lua_type(field: &Field) -> (&'static str, &'static str) {
    match (field.kind, field.unit) {
        (Kind::U8, _) => ("uint8", ", base.DEC"),
        (Kind::Be32, _) => ("uint32", ", base.DEC"),
        (Kind::Be64 | Kind::FlaggedBe64, Unit::Offset) => ("uint64", ", base.HEX"),
        (Kind::Be64 | Kind::FlaggedBe64, _) => ("uint64", ", base.DEC"),
        (Kind::Name | Kind::FlaggedName, _) => ("string", ", base.UNICODE"),
        (Kind::PageSizes | Kind::Ranges, _) => unshown(field),
    }
}

fn row(dialect: &Dialect, message: &Message, field: &Field) -> String {
    let key = key(dialect, message, field.name);
    let mut text = format!("name = \"{}\", field = f.{key}", field.name);
    text += &match field.kind {
        Kind::U8 | Kind::Be32 | Kind::Be64 => format!(", size = {}", field.kind.min_size()),
        Kind::FlaggedBe64 => format!(
            ", size = {}, kind = \"flagged\", flag = f.{key}_flag",
            field.kind.min_size()
        ),
        Kind::Name => format!(", raw = f.{key}_raw, count = f.{key}_len"),
        Kind::FlaggedName => {
            format!(", kind = \"flagged_name\", raw = f.{key}_raw, count = f.{key}_len")
        }
        Kind::PageSizes | Kind::Ranges => unshown(field),
    };
    match field.rule {
        Rule::Any => {}
        Rule::Equals(value) => text += &format!(", equals = {value}"),
        Rule::Span => text += ", span = true",
    }
    match field.unit {
        Unit::Plain | Unit::Bytes => {}
        Unit::Offset => text += ", unit = \"offset\"",
    }
    text
}

/// A table that puts such a field into a return path needs Lua for it first.
fn unshown(field: &Field) -> ! {
    panic!("{}: the dissector knows no {:?}", field.name, field.kind)
}

/// Whether a message of a dialect differs from the merged dialect's: equal ones
/// share their fields, so that one display filter finds both.
fn is_own(dialect: &Dialect, message: &Message) -> bool {
    dialect.name == QEMU.name || !QEMU.messages.iter().any(|merged| same(merged, message))
}

fn same(a: &Message, b: &Message) -> bool {
    let shape = |m: &Message| -> Vec<_> { m.fields.iter().map(|f| (f.name, f.kind)).collect() };
    (a.number, a.label) == (b.number, b.label) && shape(a) == shape(b)
}

/// What a display filter calls a part of a message.
fn path(dialect: &Dialect, message: &Message, name: &str) -> String {
    let label = message.label.to_lowercase();
    match dialect.name == QEMU.name || !is_own(dialect, message) {
        true => format!("{label}.{name}"),
        false => format!("{}.{label}.{name}", dialect.name),
    }
}

/// What the Lua code calls it.
fn key(dialect: &Dialect, message: &Message, name: &str) -> String {
    path(dialect, message, name).replace('.', "_")
}

fn lua_name(rule: &str) -> String {
    rule.replace('-', "_")
}

fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}
