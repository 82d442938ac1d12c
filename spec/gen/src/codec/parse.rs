//! One parse function for each message: its fields' parsers in order.

use alloc::format;
use alloc::string::ToString;

use super::super::text::Text;
use super::names::{borrowed, pattern, prim, snake};
use retpath_spec::model::{Dialect, Kind, Message, Rule};

pub(super) fn parser(text: &mut Text, dialect: &Dialect, message: &Message) {
    text.line("#[inline(always)]");
    text.block(
        &format!(
            "fn parse_{}<F: Fail>(rest: &[u8]) -> Parsed<'_, {}, F> {{",
            snake(message),
            borrowed(dialect, "'_")
        ),
        "}",
        |text| {
            let mut before = "";
            for field in message.fields {
                let name = field.name;
                let bind = match (field.kind, field.rule) {
                    (_, Rule::Equals(_)) => "()".into(),
                    (Kind::FlaggedBe64, _) => format!("({name}, flag)"),
                    _ => name.to_string(),
                };
                let call = match (field.kind, field.rule) {
                    (Kind::U8, Rule::Equals(want)) => {
                        format!("u8_equals(\"{name}\", {want}, rest)")
                    }
                    (Kind::Be32, Rule::Equals(want)) => {
                        format!("be32_equals(\"{name}\", {want}, rest)")
                    }
                    (Kind::Be32, Rule::Span) => format!("be32_span(\"{name}\", {before}, rest)"),
                    (Kind::FlaggedBe64, _) => format!("flagged_span(\"{name}\", {before}, rest)"),
                    (Kind::FlaggedName, _) => format!("flagged_name(\"{name}\", flag, rest)"),
                    (kind, _) => format!("{}(\"{name}\", rest)", prim(kind)),
                };
                text.line(&format!("let (rest, {bind}) = field::{call}?;"));
                before = name;
            }
            text.line(&format!("Ok((rest, {}))", pattern(dialect, message)));
        },
    );
}
