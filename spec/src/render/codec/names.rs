//! What the other files here call things.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::kind::{Kind, Rule};
use crate::row::{Dialect, Field, Message};

/// Fields that the enum shows: all but those with one possible value.
pub(super) fn visible(message: &Message) -> impl Iterator<Item = &Field> {
    message
        .fields
        .iter()
        .filter(|field| !matches!(field.rule, Rule::Equals(_)))
}

pub(super) fn pattern(dialect: &Dialect, message: &Message) -> String {
    let fields: Vec<&str> = visible(message).map(|field| field.name).collect();
    if fields.is_empty() {
        return format!("{}::{}", dialect.message, message.rust);
    }
    format!(
        "{}::{} {{ {} }}",
        dialect.message,
        message.rust,
        fields.join(", ")
    )
}

pub(super) fn has(dialect: &Dialect, kind: Kind) -> bool {
    dialect
        .messages
        .iter()
        .any(|m| m.fields.iter().any(|f| f.kind == kind))
}

pub(super) fn rust_type(field: &Field) -> String {
    match field.kind {
        Kind::U8 => "u8",
        Kind::Be32 => "u32",
        Kind::Be64 | Kind::FlaggedBe64 => "u64",
        Kind::Name => "N",
        Kind::FlaggedName => "Option<N>",
        Kind::PageSizes => "Option<PageSizes>",
        Kind::Ranges => "R",
    }
    .into()
}

/// The parser and serializer of a kind, as `prim.rs` names them.
pub(super) fn prim(kind: Kind) -> &'static str {
    match kind {
        Kind::U8 => "u8",
        Kind::Be32 => "be32",
        Kind::Be64 => "be64",
        Kind::Name => "name",
        Kind::FlaggedBe64 => "flagged_span",
        Kind::FlaggedName => "flagged_name",
        Kind::PageSizes => "page_sizes",
        Kind::Ranges => "ranges",
    }
}

pub(super) fn snake(message: &Message) -> String {
    message.label.to_ascii_lowercase()
}

pub(super) fn capital(doc: &str) -> String {
    let mut chars = doc.chars();
    chars
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(chars)
        .collect()
}
