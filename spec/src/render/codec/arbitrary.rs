//! `codec/src/generated/arbitrary.rs`: valid messages from unstructured bytes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::notice;
use super::super::text::Text;
use super::names::{choices, generics, made};
use crate::row::Dialect;
use crate::table::DIALECTS;

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
                        &format!("match u.int_in_range(0..={last})? {{"),
                        "}",
                        |text| {
                            for (i, message) in dialect.messages.iter().enumerate() {
                                let index = if i == last { "_".into() } else { i.to_string() };
                                let made = made(message, |field| field.name.into());
                                let made = format!("Ok({value}::{made})");
                                let choices = choices(message);
                                if choices.is_empty() {
                                    text.line(&format!("{index} => {made},"));
                                    continue;
                                }
                                text.block(&format!("{index} => {{"), "}", |text| {
                                    for choice in choices {
                                        let bind = choice.pattern();
                                        let value =
                                            choice.kind.map_or("u.arbitrary()?".into(), |kind| {
                                                format!("kind::{kind}(u)?")
                                            });
                                        text.line(&format!("let {bind} = {value};"));
                                    }
                                    text.line(&made);
                                });
                            }
                        },
                    );
                },
            );
        },
    );
}
