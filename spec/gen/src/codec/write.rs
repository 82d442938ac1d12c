//! One cookie-factory serializer for each message: the serializers of its
//! fields in a tuple.

use super::super::text::Text;
use super::check;
use super::names::{generics, kind, pattern, rust_type, snake, visible};
use super::parts::{Part, parts};
use retpath_spec::model::{Dialect, Kind, Message};

/// The match arm that refuses a message.
const REFUSED: &str = "Err(Refused) => invalid(self, Self::check, Self::label),";

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
                    text.block("Ok(match self {", "})", |text| {
                        for message in dialect.messages {
                            arm(text, dialect, message);
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

/// The match arm that checks and writes a message.
fn arm(text: &mut Text, dialect: &Dialect, message: &Message) {
    let mut arguments = Vec::new();
    let mut checks = Vec::new();
    for (i, field) in message.fields.iter().enumerate() {
        match check::call(message, field, message.fields[..i].last()) {
            Some(call) if field.kind == Kind::Ranges => {
                checks.push(format!("let size = {call}?;"));
                arguments.insert(0, "size".into());
            }
            Some(call) => checks.push(format!("{call}?;")),
            None => {}
        }
    }
    arguments.extend(visible(message).map(|field| match field.kind {
        Kind::Name => format!("{}.name()", field.name),
        Kind::FlaggedName => format!("{}.as_ref().map(N::name)", field.name),
        Kind::Ranges => field.name.into(),
        _ => format!("*{}", field.name),
    }));
    let pattern = pattern(dialect, message);
    let call = format!("write_{}({})(out)?", snake(message), arguments.join(", "));
    if checks.is_empty() {
        text.line(&format!("{pattern} => {call},"));
        return;
    }
    text.block(&format!("{pattern} => {{"), "}", |text| {
        for check in checks {
            text.line(&check);
        }
        text.line(&call);
    });
}

pub(super) fn writer(text: &mut Text, dialect: &Dialect, message: &Message) {
    let mut parameters = Vec::new();
    let mut generics = String::from("W: Write");
    for field in visible(message) {
        let ty = match field.kind {
            Kind::Name => "Name<'_>".into(),
            Kind::FlaggedName => "Option<Name<'_>>".into(),
            Kind::Ranges => {
                generics.push_str(", R: RangeList");
                parameters.insert(0, "size: u16".into());
                "&R".into()
            }
            _ => rust_type(field),
        };
        parameters.push(format!("{}: {ty}", field.name));
    }
    text.line("#[cfg(feature = \"encode\")]");
    text.line("#[inline(always)]");
    text.block(
        &format!(
            "fn write_{}<{generics}>({}) -> impl SerializeFn<W> {{",
            snake(message),
            parameters.join(", ")
        ),
        "}",
        |text| serializer(text, dialect, message),
    );
}

/// The serializers of a frame, in order. Adjacent fields of fixed size are
/// combined into one write.
fn serializer(text: &mut Text, dialect: &Dialect, message: &Message) {
    let mut pieces = Pieces::default();
    for byte in dialect.lead {
        pieces.fixed(1, format!("be_u8({byte})"));
    }
    pieces.fixed(2, format!("be_u16({})", message.number));
    pieces.fixed(2, format!("be_u16({})", size(message)));
    for part in parts(message.fields) {
        pieces.part(&part);
    }
    match &pieces.0[..] {
        [piece] => piece.line(text, ""),
        all => text.block("tuple((", "))", |text| {
            for piece in all {
                piece.line(text, ",");
            }
        }),
    }
}

/// Serializers that are combined into one write.
enum Piece {
    /// Of fixed size.
    Fixed { size: usize, parts: Vec<String> },
    /// Of varying size.
    Varying(String),
}

impl Piece {
    fn line(&self, text: &mut Text, end: &str) {
        match self {
            Piece::Fixed { size, parts } => {
                let all = match &parts[..] {
                    [part] => part.clone(),
                    parts => format!("tuple(({}))", parts.join(", ")),
                };
                text.line(&format!("fixed::<{size}, _>(move |out| {all}(out)){end}"));
            }
            Piece::Varying(part) => text.line(&format!("{part}{end}")),
        }
    }
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn fixed(&mut self, more: usize, part: String) {
        if let Some(Piece::Fixed { size, parts }) = self.0.last_mut() {
            *size += more;
            parts.push(part);
            return;
        }
        self.0.push(Piece::Fixed {
            size: more,
            parts: Vec::from([part]),
        });
    }

    fn varying(&mut self, part: String) {
        self.0.push(Piece::Varying(part));
    }

    fn part(&mut self, part: &Part<'_>) {
        match part {
            Part::Span { start, len } => self.fixed(12, format!("write::span({start}, {len})")),
            Part::FlaggedSpan { start, len, block } => {
                let call = format!("write::flagged_span({start}, {len}, {block}.is_some())");
                self.fixed(16, call);
                self.varying(format!("write::flagged_name({block})"));
            }
            Part::Equals { field, value } => {
                self.fixed(
                    field.kind.min_size(),
                    format!("be_{}({value})", kind(field.kind)),
                );
            }
            Part::Field(field) => {
                let name = field.name;
                match field.kind {
                    Kind::Name => {
                        self.fixed(1, format!("be_u8({name}.size())"));
                        self.varying(format!("slice({name}.as_bytes())"));
                    }
                    Kind::U8 | Kind::Be32 | Kind::Be64 => {
                        let call = format!("be_{}({name})", kind(field.kind));
                        self.fixed(field.kind.min_size(), call);
                    }
                    other => self.varying(format!("write::{}({name})", kind(other))),
                }
            }
        }
    }
}

/// Size of the payload: the fixed part plus the variable part.
fn size(message: &Message) -> String {
    let mut fixed = 0;
    let mut varying: Vec<String> = Vec::new();
    for field in message.fields {
        let name = field.name;
        match field.kind {
            Kind::Name => {
                fixed += 1;
                varying.push(format!("u16::from({name}.size())"));
            }
            Kind::FlaggedName | Kind::PageSizes => {
                varying.push(format!("write::{}_size({name})", kind(field.kind)));
            }
            // The only kind that can make a payload too long: its size has been
            // checked.
            Kind::Ranges => return "size".into(),
            kind => fixed += kind.min_size(),
        }
    }
    if fixed > 0 || varying.is_empty() {
        varying.insert(0, fixed.to_string());
    }
    varying.join(" + ")
}
