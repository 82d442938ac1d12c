//! `codec/src/generated/proptest.rs`: strategies for valid messages, composed
//! of strategies for their fields.

use super::super::notice;
use super::super::text::Text;
use super::names::{choices, made, owned};
use retpath_spec::model::{Dialect, Message};
use retpath_spec::table::DIALECTS;

pub(super) fn module() -> String {
    let mut text = Text::new(&notice("//!"));
    text.line("//!");
    text.line("//! Strategies for valid messages, all kinds equally often.");
    text.line("");
    text.line("use ::proptest::arbitrary::{Arbitrary, any};");
    text.line("use ::proptest::strategy::{BoxedStrategy, Just, Strategy, Union};");
    text.line("");
    let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
    text.line(&format!("use super::{{{}}};", names.join(", ")));
    text.line("use crate::name::NameBuf;");
    text.line("use crate::proptest as kind;");
    text.line("use crate::ranges::{PageSizes, RangeBuf};");
    for dialect in DIALECTS {
        implementation(&mut text, dialect);
    }
    text.finish()
}

fn implementation(text: &mut Text, dialect: &Dialect) {
    text.line("");
    text.block(
        &format!("impl Arbitrary for {}::{} {{", dialect.name, owned(dialect)),
        "}",
        |text| {
            text.line("type Parameters = ();");
            text.line("type Strategy = BoxedStrategy<Self>;");
            text.line("");
            text.block(
                "fn arbitrary_with((): Self::Parameters) -> Self::Strategy {",
                "}",
                |text| {
                    text.block("Union::new([", "])", |text| {
                        for message in dialect.messages {
                            text.line(&format!("{}.boxed(),", strategy(dialect, message)));
                        }
                    });
                    text.line(".boxed()");
                },
            );
        },
    );
}

fn strategy(dialect: &Dialect, message: &Message) -> String {
    let value = format!(
        "{}::{}::{}",
        dialect.name,
        dialect.message,
        made(message, |field| field.name.into())
    );
    let (mut patterns, mut strategies) = (Vec::new(), Vec::new());
    for choice in choices(message) {
        patterns.push(choice.pattern());
        strategies.push(match choice.kind {
            Some(kind) => format!("kind::{kind}()"),
            None => format!("any::<{}>()", choice.owned),
        });
    }
    match &patterns[..] {
        [] => format!("Just({value})"),
        [pattern] => format!("{}.prop_map(|{pattern}| {value})", strategies.join("")),
        _ => format!(
            "({}).prop_map(|({})| {value})",
            strategies.join(", "),
            patterns.join(", ")
        ),
    }
}
