//! One write function for each message: its fields' serializers in order,
//! neighbouring integers in one write.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use super::super::text::Text;
use super::names::{generics, pattern, prim, rust_type, size_before_last, snake, visible};
use retpath_spec::model::{Dialect, Kind, Message, Rule};

/// The arm of a writer that refuses.
const REFUSED: &str = "Err(Refused) => unfit(self, Self::check, Self::label),";

pub(super) fn encode(text: &mut Text, dialect: &Dialect) {
    let name = dialect.message;
    let (params, bounds) = generics(dialect);
    text.line("");
    text.line("#[cfg(feature = \"encode\")]");
    text.block(
        &format!("impl<{bounds}> {name}<{params}> {{"),
        "}",
        |text| {
            text.line("#[inline(always)]");
            text.block(
                "fn write<W: Write>(&self, out: Sink<W>) -> Written<W> {",
                "}",
                |text| {
                    text.block("match self {", "}", |text| {
                        for message in dialect.messages {
                            let arguments: Vec<String> = visible(message)
                                .map(|field| match field.kind {
                                    Kind::Name => format!("{}.name()", field.name),
                                    Kind::FlaggedName => {
                                        format!("{}.as_ref().map(N::name)", field.name)
                                    }
                                    Kind::Ranges => field.name.into(),
                                    _ => format!("*{}", field.name),
                                })
                                .collect();
                            let all = core::iter::once("out".to_string()).chain(arguments);
                            text.line(&format!(
                                "{} => write_{}({}),",
                                pattern(dialect, message),
                                snake(message),
                                all.collect::<Vec<_>>().join(", ")
                            ));
                        }
                    });
                },
            );
        },
    );
    text.line("");
    text.line("#[cfg(feature = \"encode\")]");
    text.block(
        &format!("impl<{bounds}> Encode for {name}<{params}> {{"),
        "}",
        |text| {
            text.line("#[inline]");
            text.block(
                "fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {",
                "}",
                |text| {
                    text.block("match self.write(Sink::from(out)) {", "}", |text| {
                        text.line("Ok(_) => Ok(()),");
                        text.line(REFUSED);
                    });
                },
            );
            text.line("");
            text.line("#[inline]");
            text.block(
                "fn encode_into(&self, out: &mut [u8]) -> Result<usize, EncodeError> {",
                "}",
                |text| {
                    text.block(
                        "match into_slice(out, |sink| self.write(sink)) {",
                        "}",
                        |text| {
                            text.line("Ok(size) => Ok(size),");
                            text.line(REFUSED);
                        },
                    );
                },
            );
        },
    );
}

pub(super) fn writer(text: &mut Text, dialect: &Dialect, message: &Message) {
    let mut parameters = String::new();
    let mut generics = String::from("W: Write");
    for field in visible(message) {
        let ty = match field.kind {
            Kind::Name => "Name<'_>".into(),
            Kind::FlaggedName => "Option<Name<'_>>".into(),
            Kind::Ranges => {
                generics.push_str(", R: RangeList");
                "&R".into()
            }
            _ => rust_type(field),
        };
        parameters.push_str(&format!(", {}: {ty}", field.name));
    }
    text.line("#[cfg(feature = \"encode\")]");
    text.line("#[inline(always)]");
    text.block(
        &format!(
            "fn write_{}<{generics}>(out: Sink<W>{parameters}) -> Written<W> {{",
            snake(message)
        ),
        "}",
        |text| writer_body(text, dialect, message),
    );
}

fn writer_body(text: &mut Text, dialect: &Dialect, message: &Message) {
    let mut before = "";
    for field in message.fields {
        let name = field.name;
        match (field.kind, field.rule) {
            (Kind::FlaggedBe64, _) => {
                text.line(&format!("fit::flagged(\"{name}\", {before}, {name})?;"));
            }
            (_, Rule::Span) => {
                text.line(&format!("fit::span(\"{name}\", {before}, {name}.into())?;"));
            }
            _ => {}
        }
        before = name;
    }
    let length = length(message);
    let mut run = Run::default();
    for byte in dialect.lead {
        run.add(1, "u8", byte);
    }
    run.add(2, "be16", message.number);
    run.add(2, "be16", length);
    let mut puts = Vec::new();
    for (i, field) in message.fields.iter().enumerate() {
        let value = match field.rule {
            Rule::Equals(value) => value.to_string(),
            _ => field.name.into(),
        };
        let name = field.name;
        match field.kind {
            Kind::U8 | Kind::Be32 | Kind::Be64 => {
                run.add(field.kind.min_size(), prim(field.kind), value);
            }
            Kind::FlaggedBe64 => {
                let flagged = message.fields[i + 1].name;
                run.add(8, "be64", format!("field::flagged_len({value}, {flagged})"));
            }
            Kind::Name => {
                run.add(1, "u8", format!("{name}.size()"));
                puts.extend(run.take());
                puts.push(format!("field::put_name(out, {name})"));
            }
            Kind::FlaggedName | Kind::PageSizes | Kind::Ranges => {
                puts.extend(run.take());
                puts.push(format!("field::put_{}(out, {name})", prim(field.kind)));
            }
        }
    }
    puts.extend(run.take());
    let last = puts.len() - 1;
    for (i, put) in puts.iter().enumerate() {
        let (bind, end) = if i < last {
            ("let out = ", "?;")
        } else {
            ("", "")
        };
        text.line(&format!("{bind}{put}{end}"));
    }
}

/// The payload's length: everything of fixed size, then what varies.
fn length(message: &Message) -> String {
    let mut fixed = 0;
    let mut varying: Vec<String> = Vec::new();
    for field in message.fields {
        let name = field.name;
        match field.kind {
            Kind::Name => {
                fixed += 1;
                varying.push(format!("u16::from({name}.size())"));
            }
            Kind::FlaggedName => varying.push(format!("field::flagged_name_size({name})")),
            Kind::PageSizes => varying.push(format!("field::page_sizes_size({name})")),
            // The only kind that can make a payload too long.
            Kind::Ranges => {
                let before = size_before_last(message, "");
                return format!("fit::ranges(\"{name}\", {before}, {name})?");
            }
            kind => fixed += kind.min_size(),
        }
    }
    if fixed > 0 || varying.is_empty() {
        varying.insert(0, fixed.to_string());
    }
    varying.join(" + ")
}

/// Neighbouring integers that go out in one write.
#[derive(Default)]
struct Run {
    size: usize,
    calls: String,
}

impl Run {
    fn add(&mut self, size: usize, kind: &str, value: impl Display) {
        let at = self.size;
        self.calls.push_str(&format!(".{kind}::<{at}>({value})"));
        self.size += size;
    }

    fn take(&mut self) -> Option<String> {
        let Run { size, calls } = core::mem::take(self);
        (size > 0).then(|| format!("field::put(out, Run::<{size}>::new(){calls})"))
    }
}
