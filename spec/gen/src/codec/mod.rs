//! `codec/src/generated/*.rs`: an enum, a parse function and a write function
//! for each set of messages. Thin and dull: judgement stays in `frame.rs` and
//! `field` of the codec.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::text::Text;
use super::{Output, notice};
use names::has;
use retpath_spec::model::{BITMAP_ALIGN, BITMAP_END, Dialect, Kind, MAX_NAME};
use retpath_spec::table::DIALECTS;

mod arbitrary;
mod check;
mod dialect;
mod message;
mod names;
mod parse;
mod proptest;
mod serde;
#[cfg(test)]
mod tests;
mod write;

/// The generated part of the codec.
pub fn outputs() -> Vec<Output> {
    let mut outputs = Vec::new();
    let mut index = Text::new(&notice("//!"));
    index.line("");
    for dialect in DIALECTS {
        index.line(&format!("pub mod {};", dialect.name));
        outputs.push(output(dialect.name, module(dialect)));
    }
    for name in ["ram", "section"] {
        index.line("#[allow(dead_code, reason = \"what the table holds, used or not\")]");
        index.line(&format!("pub mod {name};"));
    }
    for feature in ["arbitrary", "proptest", "serde"] {
        index.line(&format!("#[cfg(feature = \"{feature}\")]"));
        index.line(&format!("mod {feature};"));
    }
    for (doc, name, ty, value) in [
        (
            "Longest RAM block name, in bytes.",
            "MAX_NAME",
            "usize",
            MAX_NAME.to_string(),
        ),
        (
            "Last eight bytes of a received bitmap.",
            "BITMAP_END",
            "u64",
            format!("{BITMAP_END:#018x}"),
        ),
        (
            "A received bitmap's size is a multiple of this, in bytes.",
            "BITMAP_ALIGN",
            "u64",
            BITMAP_ALIGN.to_string(),
        ),
    ] {
        index.line("");
        index.line(&format!("/// {doc}"));
        index.line(&format!("pub const {name}: {ty} = {value};"));
    }
    for (feature, module) in [
        ("arbitrary", arbitrary::module()),
        ("proptest", proptest::module()),
        ("serde", serde::module()),
    ] {
        outputs.push(output(feature, module));
    }
    outputs.push(output("mod", index.finish()));
    outputs
}

pub(super) fn output(name: &str, text: String) -> Output {
    Output {
        path: format!("codec/src/generated/{name}.rs"),
        bytes: text.into_bytes(),
    }
}

fn module(dialect: &Dialect) -> String {
    let mut text = Text::new(&notice("//!"));
    text.line("//!");
    text.prose("//! ", dialect.doc, 80);
    text.line("");
    imports(&mut text, dialect);
    message::definition(&mut text, dialect);
    dialect::implementation(&mut text, dialect);
    message::conversions(&mut text, dialect);
    check::check(&mut text, dialect);
    write::encode(&mut text, dialect);
    for message in dialect.messages.iter().filter(|m| !m.fields.is_empty()) {
        text.line("");
        parse::parser(&mut text, dialect, message);
    }
    for message in dialect.messages {
        text.line("");
        write::writer(&mut text, dialect, message);
    }
    text.finish()
}

fn imports(text: &mut Text, dialect: &Dialect) {
    let ranges = has(dialect, Kind::Ranges);
    text.line("#[cfg(feature = \"encode\")]");
    text.line("use std::{io::Write, vec::Vec};");
    text.line("");
    text.line("use crate::error::{DecodeError, EncodeError};");
    text.line("use crate::fit;");
    text.line("#[cfg(feature = \"encode\")]");
    text.line("use crate::frame::{Encode, into_slice, unfit};");
    text.line("use crate::frame::{Decoded, Dialect, Trailer, Value, header, sealed::Sealed};");
    text.line("#[cfg(feature = \"alloc\")]");
    text.line("use crate::name::NameBuf;");
    text.line("use crate::name::{BlockName, Name};");
    text.line("#[cfg(feature = \"encode\")]");
    text.line("use crate::field::{Refused, Run, Sink, Written};");
    text.line("use crate::field::{self, Fail, Parsed};");
    if ranges {
        text.line("#[cfg(feature = \"alloc\")]");
        text.line("use crate::ranges::RangeBuf;");
        text.line("use crate::ranges::{PageSizes, RangeList, Ranges};");
    }
}
