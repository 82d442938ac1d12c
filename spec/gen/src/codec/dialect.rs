//! The type that selects a dialect, and its implementation of the codec's
//! `Dialect`.

use super::super::text::Text;
use super::names::{borrowed, owned, pattern, snake, wide};
use retpath_spec::model::{Dialect, Kind, Rule, Trailer, Unit};
use retpath_spec::oracle::payload_bounds;

pub(super) fn implementation(text: &mut Text, dialect: &Dialect) {
    let name = dialect.message;
    text.line("");
    text.line(&format!("impl Sealed for {} {{}}", dialect.rust));
    text.line("");
    text.block(&format!("impl Dialect for {} {{", dialect.rust), "}", |text| {
        text.line(&format!("type Message<'a> = {};", borrowed(dialect, "'a")));
        text.line("#[cfg(feature = \"alloc\")]");
        text.line(&format!("type Owned = {};", owned(dialect)));
        text.line(&format!("const NAME: &'static str = \"{}\";", dialect.name));
        text.line(&format!("const HEADER: usize = {};", dialect.lead.len() + 4));
        text.line(&format!("const MAX_PAYLOAD: usize = {};", dialect.max_payload));
        text.line("");
        text.line("#[inline]");
        text.block(
            "fn frame(input: &[u8]) -> Result<Decoded<'_, Self::Message<'_>>, DecodeError> {",
            "}",
            |text| frame_body(text, dialect),
        );
        text.line("");
        text.line("#[inline(always)]");
        text.block("fn trailer(message: &Self::Message<'_>) -> Trailer {", "}", |text| {
            text.block("match message {", "}", |text| {
                for message in dialect.messages {
                    match message.trailer {
                        Some(Trailer::Bitmap) => text.line(&format!(
                            "{name}::{} {{ .. }} => Trailer::Bitmap,",
                            message.rust
                        )),
                        Some(Trailer::Package) => text.line(&format!(
                            "{name}::{} {{ {} }} => Trailer::Package(*{1}),",
                            message.rust, message.fields[0].name
                        )),
                        Some(Trailer::End) => text.line(&format!(
                            "{name}::{} {{ .. }} => Trailer::End,",
                            message.rust
                        )),
                        None => {}
                    }
                }
                text.line("_ => Trailer::None,");
            });
        });
        text.line("");
        text.block("fn label(message: &Self::Message<'_>) -> &'static str {", "}", |text| {
            text.line("message.label()");
        });
        text.line("");
        text.block(
            "fn fields(message: &Self::Message<'_>, show: &mut dyn FnMut(&'static str, Value<'_>)) {",
            "}",
            |text| fields_body(text, dialect),
        );
        text.line("");
        text.line("#[cfg(feature = \"alloc\")]");
        text.block("fn into_owned(message: Self::Message<'_>) -> Self::Owned {", "}", |text| {
            text.line("message.into_owned()");
        });
    });
}

fn frame_body(text: &mut Text, dialect: &Dialect) {
    let lead = if dialect.lead.is_empty() {
        "&[]".into()
    } else {
        format!("&{:?}", dialect.lead)
    };
    text.block(
        &format!("let frame = match header({lead}, input)? {{"),
        "};",
        |text| {
            text.line("Ok(frame) => frame,");
            text.line("Err(missing) => return Ok(Decoded::Need(missing)),");
        },
    );
    text.block("match frame.number() {", "}", |text| {
        text.line(&format!("{} => frame.reserved(),", dialect.reserved.number));
        for message in dialect.messages {
            let (min, max) = payload_bounds(dialect, message);
            let (number, label, limit) = (message.number, message.label, dialect.max_payload);
            if message.fields.is_empty() {
                text.line(&format!(
                    "{number} => frame.empty::<_, {limit}>(\"{label}\", {}::{}, Self::trailer),",
                    dialect.message, message.rust
                ));
                continue;
            }
            text.line(&format!(
                "{number} => frame.message::<_, {min}, {max}, {limit}>(\"{label}\", parse_{}, Self::trailer),",
                snake(message)
            ));
        }
        text.line("_ => frame.unknown(),");
    });
}

fn fields_body(text: &mut Text, dialect: &Dialect) {
    text.block("match message {", "}", |text| {
        for message in dialect.messages {
            let pattern = pattern(dialect, message);
            if message.fields.is_empty() {
                text.line(&format!("{pattern} => {{}}"));
                continue;
            }
            text.block(&format!("{pattern} => {{"), "}", |text| {
                for field in message.fields {
                    let value = match field.rule {
                        Rule::Equals(value) => value.to_string(),
                        _ => wide(field),
                    };
                    let shown = match (field.kind, field.unit) {
                        (Kind::Name, _) => format!("Value::Name(Some(*{}))", field.name),
                        (Kind::FlaggedName, _) => format!("Value::Name(*{})", field.name),
                        (Kind::PageSizes, _) => format!("Value::PageSizes(*{})", field.name),
                        (Kind::Ranges, _) => format!("Value::Ranges(*{})", field.name),
                        (_, Unit::Plain) => format!("Value::Number({value})"),
                        (_, Unit::Offset) => format!("Value::Offset({value})"),
                        (_, Unit::Bytes) => format!("Value::Bytes({value})"),
                    };
                    text.line(&format!("show(\"{}\", {shown});", field.name));
                }
            });
        }
    });
}
