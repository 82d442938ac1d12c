//! One nom parser for each message: the parsers of its fields in a tuple.

use super::super::text::Text;
use super::names::{borrowed, kind, pattern, snake};
use super::parts::{Part, parts};
use retpath_spec::model::{Dialect, Message};

pub(super) fn parser(text: &mut Text, dialect: &Dialect, message: &Message) {
    text.line("#[inline(always)]");
    text.block(
        &format!(
            "fn parse_{}<'a>() -> impl Parser<Bytes<'a>, Output = {}, Error = FieldError> {{",
            snake(message),
            borrowed(dialect, "'a")
        ),
        "}",
        |text| {
            let (parsers, values): (Vec<_>, Vec<_>) =
                parts(message.fields).iter().map(parser_and_value).unzip();
            let message = pattern(dialect, message);
            if let ([parser], [value]) = (&parsers[..], &values[..]) {
                text.line(&format!("{parser}.map(|{value}| {message})"));
                return;
            }
            text.block("(", ")", |text| {
                for parser in parsers {
                    text.line(&format!("{parser},"));
                }
            });
            text.line(&format!("    .map(|({})| {message})", values.join(", ")));
        },
    );
}

/// The parser of a part, and a pattern for its result.
fn parser_and_value(part: &Part<'_>) -> (String, String) {
    match part {
        Part::Span { start, len } => (
            format!("parse::span(\"{start}\", \"{len}\")"),
            format!("({start}, {len})"),
        ),
        Part::FlaggedSpan { start, len, block } => (
            format!("parse::flagged_span(\"{start}\", \"{len}\", \"{block}\")"),
            format!("({start}, {len}, {block})"),
        ),
        Part::Equals { field, value } => (
            format!(
                "parse::{}_equals(\"{}\", {value})",
                kind(field.kind),
                field.name
            ),
            "()".into(),
        ),
        Part::Field(field) => (
            format!("parse::{}(\"{}\")", kind(field.kind), field.name),
            field.name.into(),
        ),
    }
}
