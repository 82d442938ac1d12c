//! `codec/src/generated/serde.rs`: each dialect's messages for serde.
//!
//! Human-readable formats get the JSON schema of `codec/JSON.md`, other formats
//! an enum that serde derives. `Deserialize` checks the message.

use super::super::notice;
use super::super::text::Text;
use super::names::{generics, made, pattern_in, rust_type, visible};
use retpath_spec::model::{Dialect, Field, Kind, Message, Rule};
use retpath_spec::table::DIALECTS;

pub(super) fn module() -> String {
    let mut text = Text::new(&notice("//!"));
    text.line("//!");
    text.line("//! `Serialize` and `Deserialize` for messages. In human-readable formats the");
    text.line("//! label is the member `message`; in other formats it is an enum variant.");
    text.line("");
    text.line("use ::serde::de::{Deserialize, Deserializer, Error};");
    text.line("use ::serde::ser::{Serialize, Serializer};");
    text.line("");
    let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
    text.line(&format!("use super::{{{}}};", names.join(", ")));
    text.line("use crate::name::BlockName;");
    text.line("use crate::ranges::{PageSizes, RangeList};");
    text.line("use crate::serde::{Fixed, by_fields};");
    for dialect in DIALECTS {
        binary(&mut text, dialect);
        readable(&mut text, dialect);
        serialize(&mut text, dialect);
        deserialize(&mut text, dialect);
    }
    text.finish()
}

/// The form for binary formats.
fn binary(text: &mut Text, dialect: &Dialect) {
    let (params, _) = generics(dialect);
    text.line("");
    text.line("#[derive(::serde::Serialize, ::serde::Deserialize)]");
    text.line(&format!("#[serde(rename = \"{}\")]", dialect.message));
    text.block(
        &format!("enum {}Binary<{params}> {{", dialect.rust),
        "}",
        |text| {
            for message in dialect.messages {
                let fields: Vec<String> = visible(message)
                    .map(|field| format!("{}: {}", field.name, rust_type(field)))
                    .collect();
                let fields = if fields.is_empty() {
                    String::new()
                } else {
                    format!(" {{ {} }}", fields.join(", "))
                };
                text.line(&format!("{}{fields},", message.rust));
            }
        },
    );
}

/// The form for human-readable formats, which is only read: it is written
/// from `Dialect::fields`.
fn readable(text: &mut Text, dialect: &Dialect) {
    let (params, _) = generics(dialect);
    text.line("");
    text.line("#[derive(::serde::Deserialize)]");
    text.line(&format!(
        "#[serde(rename = \"{}\", tag = \"message\", deny_unknown_fields)]",
        dialect.message
    ));
    text.block(
        &format!("enum {}Readable<{params}> {{", dialect.rust),
        "}",
        |text| {
            for message in dialect.messages {
                text.line(&format!("#[serde(rename = \"{}\")]", message.label));
                text.block(&format!("{} {{", message.rust), "},", |text| {
                    for field in message.fields {
                        readable_field(text, field);
                    }
                });
            }
        },
    );
}

fn readable_field(text: &mut Text, field: &Field) {
    let name = field.name;
    match field.rule {
        Rule::Equals(value) => {
            text.line(&format!("#[serde(default, rename = \"{name}\")]"));
            text.line(&format!("_{name}: Fixed<{value}>,"));
        }
        _ => text.line(&format!("{name}: {},", rust_type(field))),
    }
}

fn serialize(text: &mut Text, dialect: &Dialect) {
    let (params, bounds) = generics(dialect);
    let bounds = bounds.replace(", ", " + Serialize, ") + " + Serialize";
    let value = format!("{}::{}", dialect.name, dialect.message);
    text.line("");
    text.block(
        &format!("impl<{bounds}> Serialize for {value}<{params}> {{"),
        "}",
        |text| {
            text.block(
                "fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {",
                "}",
                |text| {
                    text.block("if to.is_human_readable() {", "}", |text| {
                        text.line(&format!(
                            "return by_fields::<{}::{}, S>(&self.as_borrowed(), to);",
                            dialect.name, dialect.rust
                        ));
                    });
                    text.block("let binary = match self {", "};", |text| {
                        for message in dialect.messages {
                            let binary = made(message, |field| match field.kind {
                                Kind::Name | Kind::Ranges => field.name.into(),
                                Kind::FlaggedName => format!("{0}: {0}.as_ref()", field.name),
                                _ => format!("{0}: *{0}", field.name),
                            });
                            text.line(&format!(
                                "{} => {}Binary::{binary},",
                                pattern_in(&value, message),
                                dialect.rust
                            ));
                        }
                    });
                    text.line("binary.serialize(to)");
                },
            );
        },
    );
}

fn deserialize(text: &mut Text, dialect: &Dialect) {
    let (params, bounds) = generics(dialect);
    let bounds = bounds.replace(", ", " + Deserialize<'de>, ") + " + Deserialize<'de>";
    let value = format!("{}::{}", dialect.name, dialect.message);
    text.line("");
    text.block(
        &format!("impl<'de, {bounds}> Deserialize<'de> for {value}<{params}> {{"),
        "}",
        |text| {
            text.block(
                "fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {",
                "}",
                |text| {
                    text.block(
                        "let message = match from.is_human_readable() {",
                        "};",
                        |text| {
                            conversion(text, dialect, true, |message| {
                                let rest = if message.fields.len() > visible(message).count() {
                                    ["..".into()].to_vec()
                                } else {
                                    Vec::new()
                                };
                                let fields: Vec<String> = visible(message)
                                    .map(|field| field.name.into())
                                    .chain(rest)
                                    .collect();
                                format!("{} {{ {} }}", message.rust, fields.join(", "))
                            });
                            conversion(text, dialect, false, |message| {
                                made(message, |field| field.name.into())
                            });
                        },
                    );
                    text.line("message.check().map_err(D::Error::custom)?;");
                    text.line("Ok(message)");
                },
            );
        },
    );
}

/// A `match` that makes messages from one of the two forms.
fn conversion(
    text: &mut Text,
    dialect: &Dialect,
    readable: bool,
    pattern: impl Fn(&Message) -> String,
) {
    let (params, _) = generics(dialect);
    let form = if readable { "Readable" } else { "Binary" };
    let form = format!("{}{form}", dialect.rust);
    let value = format!("{}::{}", dialect.name, dialect.message);
    text.block(
        &format!("{readable} => match {form}::<{params}>::deserialize(from)? {{"),
        "},",
        |text| {
            for message in dialect.messages {
                text.line(&format!(
                    "{form}::{} => {value}::{},",
                    pattern(message),
                    made(message, |field| field.name.into())
                ));
            }
        },
    );
}
