//! `codec/src/generated/*.rs`: an enum, a parse function and a write function
//! for each set of messages. Thin and dull: judgement stays in `frame.rs` and
//! `prim.rs` of the codec.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::text::Text;
use super::{Output, notice};
use crate::kind::{Kind, MAX_NAME, Rule, Unit};
use crate::row::{BITMAP_ALIGN, BITMAP_END, Dialect, Field, Message, Trailer};
use crate::table::DIALECTS;
use crate::walk::payload_bounds;

/// The generated part of the codec.
pub fn outputs() -> Vec<Output> {
    let mut outputs = Vec::new();
    let mut index = Text::new(&notice("//!"));
    index.line("");
    for dialect in DIALECTS {
        index.line(&format!("pub mod {};", dialect.name));
        outputs.push(output(dialect.name, module(dialect)));
    }
    for name in ["ram", "section"] {
        index.line(&format!("pub mod {name};"));
    }
    for (doc, name, ty, value) in [
        (
            "Longest RAM block name, in bytes.",
            "MAX_NAME",
            "usize",
            MAX_NAME.to_string(),
        ),
        (
            "Last eight bytes of a received bitmap.",
            "BITMAP_END",
            "u64",
            format!("{BITMAP_END:#018x}"),
        ),
        (
            "A received bitmap's size is a multiple of this, in bytes.",
            "BITMAP_ALIGN",
            "u64",
            BITMAP_ALIGN.to_string(),
        ),
    ] {
        index.line("");
        index.line(&format!("/// {doc}"));
        index.line(&format!("pub const {name}: {ty} = {value};"));
    }
    outputs.push(output("mod", index.finish()));
    outputs
}

pub(super) fn output(name: &str, text: String) -> Output {
    Output {
        path: format!("codec/src/generated/{name}.rs"),
        bytes: text.into_bytes(),
    }
}

fn module(dialect: &Dialect) -> String {
    let mut text = Text::new(&notice("//!"));
    text.line("//!");
    text.prose("//! ", dialect.doc, 80);
    text.line("");
    imports(&mut text, dialect);
    definition(&mut text, dialect);
    dialect_impl(&mut text, dialect);
    conversions(&mut text, dialect);
    encode_impl(&mut text, dialect);
    for message in dialect.messages.iter().filter(|m| !m.fields.is_empty()) {
        text.line("");
        parser(&mut text, dialect, message);
    }
    for message in dialect.messages {
        text.line("");
        writer(&mut text, dialect, message);
    }
    text.finish()
}

fn imports(text: &mut Text, dialect: &Dialect) {
    let ranges = has(dialect, Kind::Ranges);
    text.line("#[cfg(feature = \"encode\")]");
    text.line("use std::{io::Write, vec::Vec};");
    text.line("");
    text.line("use crate::error::DecodeError;");
    text.line("#[cfg(feature = \"encode\")]");
    text.line("use crate::error::EncodeError;");
    text.line("#[cfg(feature = \"encode\")]");
    text.line("use crate::frame::{Encode, into_slice};");
    text.line("use crate::frame::{Decoded, Dialect, Trailer, Value, header, sealed::Sealed};");
    text.line("#[cfg(feature = \"alloc\")]");
    text.line("use crate::name::NameBuf;");
    text.line("use crate::name::{BlockName, Name};");
    text.line("#[cfg(feature = \"encode\")]");
    text.line("use crate::prim::{Run, Sink, Written};");
    text.line("use crate::prim::{self, Parsed};");
    if ranges {
        text.line("#[cfg(feature = \"alloc\")]");
        text.line("use crate::ranges::RangeBuf;");
        text.line("use crate::ranges::{PageSizes, RangeList, Ranges};");
    }
}

fn definition(text: &mut Text, dialect: &Dialect) {
    let params = if has(dialect, Kind::Ranges) {
        "N, R"
    } else {
        "N"
    };
    text.line("");
    text.line(&format!(
        "/// Chooses the {} in [`decode`](crate::decode).",
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

fn dialect_impl(text: &mut Text, dialect: &Dialect) {
    let name = dialect.message;
    let (borrowed, owned) = if has(dialect, Kind::Ranges) {
        ("Name<'a>, Ranges<'a>", "NameBuf, RangeBuf")
    } else {
        ("Name<'a>", "NameBuf")
    };
    text.line("");
    text.line(&format!("impl Sealed for {} {{}}", dialect.rust));
    text.line("");
    text.block(&format!("impl Dialect for {} {{", dialect.rust), "}", |text| {
        text.line(&format!("type Message<'a> = {name}<{borrowed}>;"));
        text.line("#[cfg(feature = \"alloc\")]");
        text.line(&format!("type Owned = {name}<{owned}>;"));
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
        "[]".into()
    } else {
        format!("{:?}", dialect.lead)
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
        text.line(&format!(
            "{} => Err(frame.reserved()),",
            dialect.reserved.number
        ));
        for message in dialect.messages {
            let (min, max) = payload_bounds(dialect, message);
            let parse = if message.fields.is_empty() {
                format!("|none| Ok((none, {}::{}))", dialect.message, message.rust)
            } else {
                format!("parse_{}", snake(message))
            };
            text.line(&format!(
                "{} => frame.message::<_, {min}, {max}, {}>(\"{}\", {parse}),",
                message.number, dialect.max_payload, message.label
            ));
        }
        text.line("_ => Err(frame.unknown()),");
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
                        _ => format!("(*{}).into()", field.name),
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

/// `label`, `number`, and the way between borrowed and owned messages.
fn conversions(text: &mut Text, dialect: &Dialect) {
    let name = dialect.message;
    let (params, bounds) = if has(dialect, Kind::Ranges) {
        ("N, R", "N: BlockName, R: RangeList")
    } else {
        ("N", "N: BlockName")
    };
    text.line("");
    text.line(&format!("impl<{bounds}> Sealed for {name}<{params}> {{}}"));
    text.line("");
    text.block(
        &format!("impl<{params}> {name}<{params}> {{"),
        "}",
        |text| {
            text.line("/// Name that people use, such as `REQ_PAGES_ID`.");
            arms(
                text,
                dialect,
                "pub fn label(&self) -> &'static str {",
                |m| format!("\"{}\"", m.label),
            );
            text.line("");
            text.line("/// Number on the wire.");
            arms(text, dialect, "pub fn number(&self) -> u16 {", |m| {
                m.number.to_string()
            });
        },
    );
    text.line("");
    text.line("#[cfg(feature = \"alloc\")]");
    text.block(
        &format!("impl<{bounds}> {name}<{params}> {{"),
        "}",
        |text| {
            let owned = if has(dialect, Kind::Ranges) {
                "NameBuf, RangeBuf"
            } else {
                "NameBuf"
            };
            text.line("/// The same message, with copies of what it borrows.");
            text.block(
                &format!("pub fn into_owned(self) -> {name}<{owned}> {{"),
                "}",
                |text| {
                    text.block("match self {", "}", |text| {
                        for message in dialect.messages {
                            let made: Vec<String> = visible(message)
                                .map(|field| match field.kind {
                                    Kind::Name => format!("{0}: {0}.name().to_buf()", field.name),
                                    Kind::FlaggedName => {
                                        format!(
                                            "{0}: {0}.map(|name| name.name().to_buf())",
                                            field.name
                                        )
                                    }
                                    Kind::Ranges => {
                                        format!("{0}: RangeBuf::copy(&{0})", field.name)
                                    }
                                    _ => field.name.into(),
                                })
                                .collect();
                            let value = if made.is_empty() {
                                format!("{name}::{}", message.rust)
                            } else {
                                format!("{name}::{} {{ {} }}", message.rust, made.join(", "))
                            };
                            text.line(&format!("{} => {value},", pattern(dialect, message)));
                        }
                    });
                },
            );
        },
    );
}

/// A method that is one `match` with one value for each message.
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

fn encode_impl(text: &mut Text, dialect: &Dialect) {
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

fn parser(text: &mut Text, dialect: &Dialect, message: &Message) {
    let borrowed = if has(dialect, Kind::Ranges) {
        "Name<'_>, Ranges<'_>"
    } else {
        "Name<'_>"
    };
    text.line("#[inline(always)]");
    text.block(
        &format!(
            "fn parse_{}(rest: &[u8]) -> Parsed<'_, {}<{borrowed}>> {{",
            snake(message),
            dialect.message
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
                text.line(&format!("let (rest, {bind}) = prim::{call}?;"));
                before = name;
            }
            let fields: Vec<&str> = visible(message).map(|field| field.name).collect();
            let made = if fields.is_empty() {
                format!("{}::{}", dialect.message, message.rust)
            } else {
                format!(
                    "{}::{} {{ {} }}",
                    dialect.message,
                    message.rust,
                    fields.join(", ")
                )
            };
            text.line(&format!("Ok((rest, {made}))"));
        },
    );
}

fn writer(text: &mut Text, dialect: &Dialect, message: &Message) {
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

/// Fields that the enum shows: all but those with one possible value.
fn visible(message: &Message) -> impl Iterator<Item = &Field> {
    message
        .fields
        .iter()
        .filter(|field| !matches!(field.rule, Rule::Equals(_)))
}

fn pattern(dialect: &Dialect, message: &Message) -> String {
    let fields: Vec<&str> = visible(message).map(|field| field.name).collect();
    if fields.is_empty() {
        return format!("{}::{}", dialect.message, message.rust);
    }
    format!(
        "{}::{} {{ {} }}",
        dialect.message,
        message.rust,
        fields.join(", ")
    )
}

fn has(dialect: &Dialect, kind: Kind) -> bool {
    dialect
        .messages
        .iter()
        .any(|m| m.fields.iter().any(|f| f.kind == kind))
}

fn rust_type(field: &Field) -> String {
    match field.kind {
        Kind::U8 => "u8",
        Kind::Be32 => "u32",
        Kind::Be64 | Kind::FlaggedBe64 => "u64",
        Kind::Name => "N",
        Kind::FlaggedName => "Option<N>",
        Kind::PageSizes => "Option<PageSizes>",
        Kind::Ranges => "R",
    }
    .into()
}

/// The parser and serializer of a kind, as `prim.rs` names them.
fn prim(kind: Kind) -> &'static str {
    match kind {
        Kind::U8 => "u8",
        Kind::Be32 => "be32",
        Kind::Be64 => "be64",
        Kind::Name => "name",
        Kind::FlaggedBe64 => "flagged_span",
        Kind::FlaggedName => "flagged_name",
        Kind::PageSizes => "page_sizes",
        Kind::Ranges => "ranges",
    }
}

fn snake(message: &Message) -> String {
    message.label.to_ascii_lowercase()
}

fn capital(doc: &str) -> String {
    let mut chars = doc.chars();
    chars
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(chars)
        .collect()
}
