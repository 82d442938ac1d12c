//! The method that checks the values of a message.

use super::super::text::Text;
use super::names::{generics, size_before_last, visible, wide};
use retpath_spec::model::{Dialect, Field, Kind, Message, Rule};

pub(super) fn check(text: &mut Text, dialect: &Dialect) {
    let (params, bounds) = generics(dialect);
    let name = dialect.message;
    text.line("");
    text.block(
        &format!("impl<{bounds}> {name}<{params}> {{"),
        "}",
        |text| {
            text.line("/// Checks the values as a receiver does.");
            text.line("///");
            text.line("/// # Errors");
            text.line("///");
            text.line("/// The first field whose value is invalid, and the rule.");
            text.block(
                "pub fn check(&self) -> Result<(), EncodeError> {",
                "}",
                |text| {
                    text.block("let checked = match self {", "};", |text| {
                        for message in dialect.messages {
                            arm(text, dialect, message);
                        }
                        text.line("_ => Ok(()),");
                    });
                    text.line("checked.map_err(|invalid| invalid.in_message(self.label()))");
                },
            );
        },
    );
}

/// The match arm of a message with restricted values.
fn arm(text: &mut Text, dialect: &Dialect, message: &Message) {
    let mut used: Vec<&str> = Vec::new();
    let mut calls: Vec<String> = Vec::new();
    for (i, field) in message.fields.iter().enumerate() {
        let before = &message.fields[..i];
        let Some(call) = call(message, field, before.last()) else {
            continue;
        };
        calls.push(match field.kind {
            Kind::Ranges => format!("{call}.map(drop)"),
            _ => call,
        });
        match field.kind {
            Kind::Ranges => used.extend(
                before
                    .iter()
                    .filter(|f| f.kind == Kind::Name)
                    .map(|f| f.name),
            ),
            _ => used.extend(before.last().map(|f| f.name)),
        }
        used.push(field.name);
    }
    let Some(first) = calls.first() else { return };
    let rest: String = calls[1..]
        .iter()
        .map(|call| format!(".and_then(|()| {call})"))
        .collect();
    if visible(message).any(|field| !used.contains(&field.name)) {
        used.push("..");
    }
    text.line(&format!(
        "{}::{} {{ {} }} => {first}{rest},",
        dialect.message,
        message.rust,
        used.join(", ")
    ));
}

/// The check of a field, if its value is restricted.
pub(super) fn call(message: &Message, field: &Field, before: Option<&Field>) -> Option<String> {
    let name = field.name;
    let before = before.map_or("", |field| field.name);
    match (field.kind, field.rule) {
        (Kind::FlaggedBe64, _) => {
            Some(format!("validate::flagged(\"{name}\", *{before}, *{name})"))
        }
        (_, Rule::Span) => Some(format!(
            "validate::span(\"{name}\", *{before}, {})",
            wide(field)
        )),
        (Kind::Ranges, _) => {
            let before = size_before_last(message, ".name()");
            Some(format!("validate::ranges(\"{name}\", {before}, {name})"))
        }
        _ => None,
    }
}
