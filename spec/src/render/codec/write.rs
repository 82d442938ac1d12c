//! One write function for each message: its fields' serializers in order,
//! neighbouring integers in one write.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::text::Text;
use super::names::{has, pattern, prim, rust_type, snake, visible};
use crate::kind::{Kind, Rule};
use crate::row::{Dialect, Message};

pub(super) fn encode(text: &mut Text, dialect: &Dialect) {
    let name = dialect.message;
    let (params, bounds) = if has(dialect, Kind::Ranges) {
        ("N, R", "N: BlockName, R: RangeList")
    } else {
        ("N", "N: BlockName")
    };
    text.line("");
    text.line("#[cfg(feature = \"encode\")]");
    text.block(
        &format!("impl<{bounds}> {name}<{params}> {{"),
        "}",
        |text| {
            text.line("#[inline(always)]");
            text.block(
                "fn write<W: Write>(&self, out: Sink<W>) -> Result<Sink<W>, EncodeError> {",
                "}",
                |text| {
                    text.block("let written = match self {", "};", |text| {
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
                    text.line("written.map_err(|unfit| unfit.of(self.label()))");
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
                    text.line("self.write(Sink::from(out)).map(drop)");
                },
            );
            text.line("");
            text.line("#[inline]");
            text.block(
                "fn encode_into(&self, out: &mut [u8]) -> Result<usize, EncodeError> {",
                "}",
                |text| text.line("into_slice(out, |sink| self.write(sink))"),
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
                text.line(&format!(
                    "prim::check_flagged(\"{name}\", {before}, {name})?;"
                ));
            }
            (_, Rule::Span) => {
                text.line(&format!(
                    "prim::check_span(\"{name}\", {before}, {name}.into())?;"
                ));
            }
            _ => {}
        }
        before = name;
    }
    // Everything of fixed size, then what varies.
    let mut fixed = 0;
    let mut varying: Vec<String> = Vec::new();
    for field in message.fields {
        match field.kind {
            Kind::Name => {
                fixed += 1;
                varying.push(format!("u16::from({}.size())", field.name));
            }
            Kind::FlaggedName => varying.push(format!("prim::flagged_name_size({})", field.name)),
            Kind::PageSizes => varying.push(format!("prim::page_sizes_size({})", field.name)),
            Kind::Ranges => varying.push(format!("prim::ranges_size(\"{0}\", {0})?", field.name)),
            kind => fixed += kind.min_size(),
        }
    }
    let mut length = fixed.to_string();
    for size in varying {
        length = if length == "0" {
            size
        } else {
            format!("{length} + {size}")
        };
    }

    let mut run = Run::default();
    for byte in dialect.lead {
        run.add(1, &format!("u8({byte})"));
    }
    run.add(2, &format!("be16({})", message.number));
    run.add(2, &format!("be16({length})"));
    let mut puts = Vec::new();
    for (i, field) in message.fields.iter().enumerate() {
        let value = match field.rule {
            Rule::Equals(value) => value.to_string(),
            _ => field.name.into(),
        };
        let name = field.name;
        match field.kind {
            Kind::U8 | Kind::Be32 | Kind::Be64 => {
                run.add(
                    field.kind.min_size(),
                    &format!("{}({value})", prim(field.kind)),
                );
            }
            Kind::FlaggedBe64 => {
                let flagged = message.fields[i + 1].name;
                run.add(8, &format!("be64(prim::flagged_len({value}, {flagged}))"));
            }
            Kind::Name => {
                run.add(1, &format!("u8({name}.size())"));
                puts.extend(run.take());
                puts.push(format!("prim::put_name(out, {name})"));
            }
            Kind::FlaggedName | Kind::PageSizes | Kind::Ranges => {
                puts.extend(run.take());
                puts.push(format!("prim::put_{}(out, {name})", prim(field.kind)));
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

/// Neighbouring integers that go out in one write.
#[derive(Default)]
struct Run {
    size: usize,
    calls: String,
}

impl Run {
    fn add(&mut self, size: usize, call: &str) {
        self.size += size;
        self.calls.push('.');
        self.calls.push_str(call);
    }

    fn take(&mut self) -> Option<String> {
        let Run { size, calls } = core::mem::take(self);
        (size > 0).then(|| format!("prim::put(out, Run::<{size}>::new(){calls})"))
    }
}
