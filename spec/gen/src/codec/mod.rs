//! `codec/src/generated/*.rs`: an enum, a parse function and a write function
//! for each set of messages. The generated code is a composition only; `frame.rs`
//! and `field` of the codec contain the logic.

use std::collections::BTreeSet;

use super::constants::MODULES;
use super::text::Text;
use super::{Output, notice};
use retpath_spec::model::{Dialect, MAX_NAME};
use retpath_spec::table::DIALECTS;
use retpath_spec::table::return_path::V7;

mod arbitrary;
mod check;
mod dialect;
mod message;
mod names;
mod parse;
mod parts;
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
    for name in MODULES {
        index.line("#[allow(dead_code, reason = \"not every constant of the table is used\")]");
        index.line(&format!("pub mod {name};"));
    }
    for feature in ["arbitrary", "proptest", "serde"] {
        index.line(&format!("#[cfg(feature = \"{feature}\")]"));
        index.line(&format!("mod {feature};"));
    }
    index.line("");
    index.line("pub use value::{BITMAP_ALIGN, BITMAP_END};");
    index.line("");
    index.line("/// Longest RAM block name, in bytes.");
    index.line(&format!("pub const MAX_NAME: usize = {MAX_NAME};"));
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
    let mut body = Text::default();
    message::definition(&mut body, dialect);
    dialect::implementation(&mut body, dialect);
    message::constructors(&mut body, dialect);
    message::conversions(&mut body, dialect);
    check::check(&mut body, dialect);
    write::encode(&mut body, dialect);
    for message in dialect.messages.iter().filter(|m| !m.fields.is_empty()) {
        body.line("");
        parse::parser(&mut body, dialect, message);
    }
    for message in dialect.messages {
        body.line("");
        write::writer(&mut body, dialect, message);
    }
    let body = body.finish();

    let mut text = public_module(dialect.doc, example(dialect));
    text.line("");
    imports(&mut text, &body);
    text.finish() + &body
}

/// The start of a public module: its documentation, and an example.
pub(super) fn public_module(doc: &str, example: &str) -> Text {
    let mut text = Text::new(&notice("//"));
    text.line("");
    text.prose("//! ", doc, 80);
    if example.is_empty() {
        return text;
    }
    text.line("//!");
    text.line("//! ```");
    for line in example.trim().lines() {
        text.line(format!("//! {line}").trim_end());
    }
    text.line("//! ```");
    text
}

/// Returns the example for a dialect whose module is public.
fn example(dialect: &Dialect) -> &'static str {
    if dialect.name != V7.name {
        return "";
    }
    "
use retpath_codec::v7::{Message, V7};
use retpath_codec::{Decoded, decode};

let frame = b\"\\0\\x03\\0\\x10\\0\\0\\0\\0\\0\\0\\x20\\0\\0\\0\\0\\0\\0\\0\\x10\\0\";
let Decoded::Message { message, .. } = decode::<V7>(frame)? else {
    panic!(\"the message is complete\");
};
assert_eq!(message, Message::ReqPages { start: 0x2000, len: 4096, block: None });
# Ok::<(), retpath_codec::DecodeError>(())
"
}

/// Imports of a module: feature, path, names.
const IMPORTS: &[(Option<&str>, &str, &[&str])] = &[
    (Some("encode"), "std::io", &["Write"]),
    (Some("encode"), "std::vec", &["Vec"]),
    (Some("encode"), "cookie_factory", &["SerializeFn"]),
    (
        Some("encode"),
        "cookie_factory::bytes",
        &["be_u8", "be_u16", "be_u32", "be_u64"],
    ),
    (Some("encode"), "cookie_factory::combinator", &["slice"]),
    (None, "nom", &["Parser"]),
    (
        Some("encode"),
        "crate::encode",
        &["Encode", "into_slice", "invalid"],
    ),
    (None, "crate::error", &["DecodeError", "EncodeError"]),
    (None, "crate::field", &["parse"]),
    (None, "crate::field::combinator", &["FieldError"]),
    (None, "crate::field::input", &["Bytes"]),
    (Some("encode"), "crate::field", &["write"]),
    (
        Some("encode"),
        "crate::field::output",
        &["Refused", "Sink", "Written", "fixed", "tuple"],
    ),
    (None, "crate", &["validate"]),
    (
        None,
        "crate::frame",
        &["Decoded", "Dialect", "Trailer", "Value", "header"],
    ),
    (None, "crate::frame::sealed", &["Sealed"]),
    (None, "crate::name", &["BlockName", "Name"]),
    (Some("alloc"), "crate::name", &["NameBuf"]),
    (None, "crate::ranges", &["PageSizes", "RangeList", "Ranges"]),
    (Some("alloc"), "crate::ranges", &["RangeBuf"]),
];

/// Imports what `code` uses.
fn imports(text: &mut Text, code: &str) {
    let mut words = BTreeSet::new();
    for line in code.lines().filter(|line| !line.contains("//")) {
        words.extend(line.split(|c: char| c != '_' && !c.is_alphanumeric()));
    }
    for (feature, path, names) in IMPORTS {
        let used: Vec<&str> = names
            .iter()
            .copied()
            .filter(|n| words.contains(n))
            .collect();
        let names = match &used[..] {
            [] => continue,
            [name] => (*name).into(),
            names => format!("{{{}}}", names.join(", ")),
        };
        if let Some(feature) = feature {
            text.line(&format!("#[cfg(feature = \"{feature}\")]"));
        }
        text.line(&format!("use {path}::{names};"));
    }
}
