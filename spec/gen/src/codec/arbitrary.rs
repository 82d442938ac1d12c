//! `codec/src/generated/arbitrary.rs`: valid messages from unstructured bytes.

use super::super::notice;
use super::super::text::Text;
use super::names::{Choice, choices, generics, made};
use retpath_spec::model::Dialect;
use retpath_spec::table::DIALECTS;

pub(super) fn module() -> String {
    let mut text = Text::new(&notice("//!"));
    text.line("//!");
    text.line("//! Valid messages from unstructured bytes, all kinds equally often.");
    text.line("");
    text.line("use ::arbitrary::{Arbitrary, Result, Unstructured};");
    text.line("");
    let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
    text.line(&format!("use super::{{{}}};", names.join(", ")));
    text.line("use crate::arbitrary as kind;");
    for dialect in DIALECTS {
        implementation(&mut text, dialect);
    }
    text.finish()
}

fn implementation(text: &mut Text, dialect: &Dialect) {
    let (params, _) = generics(dialect);
    let bounds = params.replace(", ", ": Arbitrary<'a>, ") + ": Arbitrary<'a>";
    let value = format!("{}::{}", dialect.name, dialect.message);
    let last = dialect.messages.len() - 1;
    text.line("");
    text.block(
        &format!("impl<'a, {bounds}> Arbitrary<'a> for {value}<{params}> {{"),
        "}",
        |text| {
            text.block(
                "fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {",
                "}",
                |text| {
                    text.block(
                        &format!("match kind::number(u, 0..={last}) {{"),
                        "}",
                        |text| {
                            for (i, message) in dialect.messages.iter().enumerate() {
                                let index = if i == last { "_".into() } else { i.to_string() };
                                let made = made(message, |field| field.name.into());
                                arm(text, &index, &format!("{value}::{made}"), &choices(message));
                            }
                        },
                    );
                },
            );
        },
    );
}

/// The match arm that generates one message from its choices. Only a name or
/// ranges can fail.
fn arm(text: &mut Text, index: &str, made: &str, choices: &[Choice]) {
    let mut lines = Vec::new();
    let mut end = format!("Ok({made})");
    for (i, choice) in choices.iter().enumerate() {
        let bind = choice.pattern();
        match choice.kind {
            Some(kind) => lines.push(format!("let {bind} = kind::{kind}(u);")),
            None if i + 1 == choices.len() => end = format!("u.arbitrary().map(|{bind}| {made})"),
            None => lines.push(format!("let {bind} = u.arbitrary()?;")),
        }
    }
    if lines.is_empty() {
        return text.line(&format!("{index} => {end},"));
    }
    text.block(&format!("{index} => {{"), "}", |text| {
        for line in &lines {
            text.line(line);
        }
        text.line(&end);
    });
}
