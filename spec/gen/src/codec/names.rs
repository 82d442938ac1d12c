//! Names in the generated code.

use retpath_spec::model::{Dialect, Field, Kind, Message, Rule};

/// Fields of the enum's variant: all but those with a fixed value.
pub(super) fn visible(message: &Message) -> impl Iterator<Item = &Field> {
    message
        .fields
        .iter()
        .filter(|field| !matches!(field.rule, Rule::Equals(_)))
}

/// A pattern that binds all fields of a message.
pub(super) fn pattern(dialect: &Dialect, message: &Message) -> String {
    pattern_in(dialect.message, message)
}

/// A pattern that binds all fields of a variant of `path`.
pub(super) fn pattern_in(path: &str, message: &Message) -> String {
    format!("{path}::{}", made(message, |field| field.name.into()))
}

/// The message's variant with `value` for each of its fields.
pub(super) fn made(message: &Message, value: impl Fn(&Field) -> String) -> String {
    let fields: Vec<String> = visible(message).map(value).collect();
    if fields.is_empty() {
        return message.rust.into();
    }
    format!("{} {{ {} }}", message.rust, fields.join(", "))
}

/// Fields that a generator of messages chooses together.
pub(super) struct Choice {
    /// Names of the fields.
    names: Vec<&'static str>,
    /// The function that chooses them, unless every value of the type is valid.
    pub(super) kind: Option<&'static str>,
    /// Owned type of the first field.
    pub(super) owned: String,
}

impl Choice {
    /// A pattern for the chosen values.
    pub(super) fn pattern(&self) -> String {
        match &self.names[..] {
            [name] => (*name).into(),
            names => format!("({})", names.join(", ")),
        }
    }
}

/// The choices for a message: a length is chosen together with its start.
pub(super) fn choices(message: &Message) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    for field in visible(message) {
        let span = match (field.kind, field.rule) {
            (_, Rule::Span) => Some(match field.kind {
                Kind::FlaggedBe64 => "even_span",
                _ => "span",
            }),
            _ => None,
        };
        match choices.last_mut() {
            Some(start) if span.is_some() => {
                start.names.push(field.name);
                start.kind = span;
            }
            _ => choices.push(Choice {
                names: Vec::from([field.name]),
                kind: None,
                owned: match field.kind {
                    Kind::Name => "NameBuf".into(),
                    Kind::FlaggedName => "Option<NameBuf>".into(),
                    Kind::Ranges => "RangeBuf".into(),
                    _ => rust_type(field),
                },
            }),
        }
    }
    choices
}

/// Type parameters of the dialect's messages, with their bounds.
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

/// Type of the dialect's owned messages.
pub(super) fn owned(dialect: &Dialect) -> String {
    let ranges = if has(dialect, Kind::Ranges) {
        ", RangeBuf"
    } else {
        ""
    };
    format!("{}<NameBuf{ranges}>", dialect.message)
}

/// Size of a payload before its last field; `borrow` converts names into
/// `Name`s.
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

/// Name of a kind in the codec's `field`.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::U8 => "u8",
        Kind::Be32 => "u32",
        Kind::Be64 => "u64",
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
