//! What of a payload is read and written together.

use retpath_spec::model::{Field, Kind, Rule};

/// One or more fields of a payload, for which the codec's `field` has one parser
/// and one serializer.
pub(super) enum Part<'f> {
    /// A start and its length.
    Span { start: &'f str, len: &'f str },
    /// A start, its length with a flag in it, and the name that is there if the
    /// flag is set.
    FlaggedSpan {
        start: &'f str,
        len: &'f str,
        block: &'f str,
    },
    /// A field that has one possible value.
    Equals { field: &'f Field, value: u64 },
    /// Any other field.
    Field(&'f Field),
}

/// The parts of a payload in order. The invariants of the tables put a length
/// right behind its start, and a flagged name right behind its flag.
pub(super) fn parts(mut fields: &[Field]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    while let [field, after @ ..] = fields {
        let (part, rest) = match after {
            [len, rest @ ..] if is_span(len, Kind::Be32) => (
                Part::Span {
                    start: field.name,
                    len: len.name,
                },
                rest,
            ),
            [len, block, rest @ ..] if is_span(len, Kind::FlaggedBe64) => (
                Part::FlaggedSpan {
                    start: field.name,
                    len: len.name,
                    block: block.name,
                },
                rest,
            ),
            rest => match field.rule {
                Rule::Equals(value) => (Part::Equals { field, value }, rest),
                _ => (Part::Field(field), rest),
            },
        };
        parts.push(part);
        fields = rest;
    }
    parts
}

fn is_span(field: &Field, kind: Kind) -> bool {
    field.kind == kind && field.rule == Rule::Span
}
