//! `codec/src/generated/serde.rs`: a mirror enum for each dialect with derived
//! serde implementations; `Deserialize` checks the values.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::notice;
use super::super::text::Text;
use super::names::{generics, made, pattern_in, rust_type, visible};
use retpath_spec::model::{Dialect, Kind, Message};
use retpath_spec::table::DIALECTS;

pub(super) fn module() -> String {
    let mut text = Text::new(&notice("//!"));
    text.line("//!");
    text.line("//! Messages for serde, by their labels. What is no valid message is refused.");
    text.line("");
    text.line("use ::serde::de::{Deserialize, Deserializer, Error};");
    text.line("use ::serde::ser::{Serialize, Serializer};");
    text.line("");
    let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
    text.line(&format!("use super::{{{}}};", names.join(", ")));
    text.line("use crate::name::BlockName;");
    text.line("use crate::ranges::{PageSizes, RangeList};");
    for dialect in DIALECTS {
        mirror(&mut text, dialect);
        serialize(&mut text, dialect);
        deserialize(&mut text, dialect);
    }
    text.finish()
}

fn mirror(text: &mut Text, dialect: &Dialect) {
    let (params, _) = generics(dialect);
    text.line("");
    text.line("#[derive(::serde::Serialize, ::serde::Deserialize)]");
    text.line(&format!(
        "#[serde(rename = \"{}\", deny_unknown_fields)]",
        dialect.message
    ));
    text.block(
        &format!("enum {}Mirror<{params}> {{", dialect.rust),
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
                text.line(&format!("#[serde(rename = \"{}\")]", message.label));
                text.line(&format!("{}{fields},", message.rust));
            }
        },
    );
}

fn serialize(text: &mut Text, dialect: &Dialect) {
    let (params, _) = generics(dialect);
    let bounds = params.replace(", ", ": Serialize, ") + ": Serialize";
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
                    text.block("let mirror = match self {", "};", |text| {
                        for message in dialect.messages {
                            let mirrored = made(message, |field| match field.kind {
                                Kind::Name | Kind::Ranges => field.name.into(),
                                Kind::FlaggedName => format!("{0}: {0}.as_ref()", field.name),
                                _ => format!("{0}: *{0}", field.name),
                            });
                            arm(text, dialect, message, &value, &mirrored);
                        }
                    });
                    text.line("mirror.serialize(to)");
                },
            );
        },
    );
}

fn arm(text: &mut Text, dialect: &Dialect, message: &Message, value: &str, mirrored: &str) {
    text.line(&format!(
        "{} => {}Mirror::{mirrored},",
        pattern_in(value, message),
        dialect.rust
    ));
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
                    let mirror = format!("{}Mirror", dialect.rust);
                    text.block(
                        &format!("let message = match {mirror}::<{params}>::deserialize(from)? {{"),
                        "};",
                        |text| {
                            for message in dialect.messages {
                                let made = made(message, |field| field.name.into());
                                text.line(&format!(
                                    "{} => {value}::{made},",
                                    pattern_in(&mirror, message)
                                ));
                            }
                        },
                    );
                    text.line("message.check().map_err(D::Error::custom)?;");
                    text.line("Ok(message)");
                },
            );
        },
    );
}
