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

/// Type parameters of the dialect's messages, and what they must be.
pub(super) fn generics(dialect: &Dialect) -> (&'static str, &'static str) {
    if has(dialect, Kind::Ranges) {
        ("N, R", "N: BlockName, R: RangeList")
    } else {
        ("N", "N: BlockName")
    }
}

/// Type of the dialect's messages that borrow for `'lifetime`.
pub(super) fn borrowed(dialect: &Dialect, lifetime: &str) -> String {
    let ranges = if has(dialect, Kind::Ranges) {
        format!(", Ranges<{lifetime}>")
    } else {
        String::new()
    };
    format!("{}<Name<{lifetime}>{ranges}>", dialect.message)
}

/// Type of the dialect's messages that own what they hold.
pub(super) fn owned(dialect: &Dialect) -> String {
    let ranges = if has(dialect, Kind::Ranges) {
        ", RangeBuf"
    } else {
        ""
    };
    format!("{}<NameBuf{ranges}>", dialect.message)
}

/// Size of a payload in front of its last field, whose names `borrow` makes
/// into `Name`s.
pub(super) fn size_before_last(message: &Message, borrow: &str) -> String {
    let mut size = 0;
    let mut names = String::new();
    for field in message
        .fields
        .split_last()
        .map_or(&[][..], |(_, rest)| rest)
    {
        if field.kind == Kind::Name {
            size += 1;
            names += &format!(" + u16::from({}{borrow}.size())", field.name);
        } else {
            size += field.kind.min_size();
        }
    }
    format!("{size}{names}")
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

/// A field's value, bound by reference, as a `u64`.
pub(super) fn wide(field: &Field) -> String {
    match field.kind {
        Kind::Be64 | Kind::FlaggedBe64 => format!("*{}", field.name),
        _ => format!("(*{}).into()", field.name),
    }
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
