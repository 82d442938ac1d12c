//! The enum of a dialect's messages, and the methods that match on it.

use super::super::text::Text;
use super::names::{borrowed, capital, generics, made, owned, pattern, rust_type, snake, visible};
use retpath_spec::model::{Dialect, Field, Kind, Message};

pub(super) fn definition(text: &mut Text, dialect: &Dialect) {
    let (params, _) = generics(dialect);
    text.line("");
    text.line(&format!(
        "/// Selects the {} in [`decode`](crate::decode).",
        dialect.title
    ));
    text.line("#[derive(Clone, Copy, Debug, PartialEq, Eq)]");
    text.line(&format!("pub enum {} {{}}", dialect.rust));
    text.line("");
    text.prose("/// ", dialect.doc, 80);
    text.line("///");
    text.prose(
        "/// ",
        "`N` is [`Name`] in a message that borrows from its input and `NameBuf` in one that owns \
         its name.",
        80,
    );
    text.line("#[derive(Clone, Copy, Debug, PartialEq, Eq)]");
    text.block(
        &format!("pub enum {}<{params}> {{", dialect.message),
        "}",
        |text| {
            for message in dialect.messages {
                text.prose("/// ", message.doc, 80);
                text.line("///");
                text.line(&format!(
                    "/// `{}`, number {}.",
                    message.qemu, message.number
                ));
                let fields: Vec<&Field> = visible(message).collect();
                if fields.is_empty() {
                    text.line(&format!("{},", message.rust));
                    continue;
                }
                text.block(&format!("{} {{", message.rust), "},", |text| {
                    for field in fields {
                        text.prose("/// ", &format!("{}.", capital(field.doc)), 80);
                        text.line(&format!("{}: {},", field.name, rust_type(field)));
                    }
                });
            }
        },
    );
}

/// Constructors, which leave no type parameter to infer: a variant without a
/// name would need one spelled out.
pub(super) fn constructors(text: &mut Text, dialect: &Dialect) {
    text.line("");
    text.block(
        &format!("impl<'a> {} {{", borrowed(dialect, "'a")),
        "}",
        |text| {
            for (i, message) in dialect.messages.iter().enumerate() {
                if i > 0 {
                    text.line("");
                }
                let parameters: Vec<String> = visible(message)
                    .map(|field| {
                        let ty = match field.kind {
                            Kind::Name => "Name<'a>".into(),
                            Kind::FlaggedName => "Option<Name<'a>>".into(),
                            Kind::Ranges => "Ranges<'a>".into(),
                            _ => rust_type(field),
                        };
                        format!("{}: {ty}", field.name)
                    })
                    .collect();
                text.line(&format!(
                    "/// Makes [`{0}`](Self::{1}).",
                    message.label, message.rust
                ));
                text.block(
                    &format!(
                        "pub const fn {}({}) -> Self {{",
                        snake(message),
                        parameters.join(", ")
                    ),
                    "}",
                    |text| {
                        text.line(&format!(
                            "Self::{}",
                            made(message, |field| field.name.into())
                        ));
                    },
                );
            }
        },
    );
}

/// `label`, `number`, and conversions between borrowed and owned messages.
pub(super) fn conversions(text: &mut Text, dialect: &Dialect) {
    let name = dialect.message;
    let (params, bounds) = generics(dialect);
    text.line("");
    text.line(&format!("impl<{bounds}> Sealed for {name}<{params}> {{}}"));
    text.line("");
    text.block(
        &format!("impl<{params}> {name}<{params}> {{"),
        "}",
        |text| {
            text.line("/// Short name, such as `REQ_PAGES_ID`.");
            arms(
                text,
                dialect,
                "pub fn label(&self) -> &'static str {",
                |m| format!("\"{}\"", m.label),
            );
            text.line("");
            text.line("/// Message number on the wire.");
            arms(text, dialect, "pub fn number(&self) -> u16 {", |m| {
                m.number.to_string()
            });
        },
    );
    text.line("");
    text.block(
        &format!("impl<{bounds}> {name}<{params}> {{"),
        "}",
        |text| {
            text.line("/// Borrows the message's name and ranges.");
            text.block(
                &format!(
                    "pub fn as_borrowed(&self) -> {} {{",
                    borrowed(dialect, "'_")
                ),
                "}",
                |text| {
                    text.block("match self {", "}", |text| {
                        for message in dialect.messages {
                            let value = made(message, |field| match field.kind {
                                Kind::Name => format!("{0}: {0}.name()", field.name),
                                Kind::FlaggedName => {
                                    format!("{0}: {0}.as_ref().map(N::name)", field.name)
                                }
                                Kind::Ranges => format!("{0}: {0}.as_ranges()", field.name),
                                _ => format!("{0}: *{0}", field.name),
                            });
                            text.line(&format!(
                                "{} => {name}::{value},",
                                pattern(dialect, message)
                            ));
                        }
                    });
                },
            );
        },
    );
    text.line("");
    text.line("#[cfg(feature = \"alloc\")]");
    text.block(
        &format!("impl<{bounds}> {name}<{params}> {{"),
        "}",
        |text| {
            text.line("/// An owned copy of the message.");
            text.block(
                &format!("pub fn into_owned(self) -> {} {{", owned(dialect)),
                "}",
                |text| {
                    text.block("match self {", "}", |text| {
                        for message in dialect.messages {
                            let value = made(message, |field| match field.kind {
                                Kind::Name => format!("{0}: {0}.name().to_buf()", field.name),
                                Kind::FlaggedName => {
                                    format!("{0}: {0}.map(|name| name.name().to_buf())", field.name)
                                }
                                Kind::Ranges => format!("{0}: RangeBuf::copy(&{0})", field.name),
                                _ => field.name.into(),
                            });
                            text.line(&format!(
                                "{} => {name}::{value},",
                                pattern(dialect, message)
                            ));
                        }
                    });
                },
            );
        },
    );
}

/// A method that matches on the message and returns a value for each.
fn arms(text: &mut Text, dialect: &Dialect, open: &str, value: impl Fn(&Message) -> String) {
    text.block(open, "}", |text| {
        text.block("match self {", "}", |text| {
            for message in dialect.messages {
                let rest = if visible(message).next().is_some() {
                    " { .. }"
                } else {
                    ""
                };
                text.line(&format!(
                    "{}::{}{rest} => {},",
                    dialect.message,
                    message.rust,
                    value(message)
                ));
            }
        });
    });
}
