//! Parts of a payload that are read and written together.

use retpath_spec::model::{Field, Kind, Rule};

/// One or more fields of a payload, for which the codec's `field` has one parser
/// and one serializer.
pub(super) enum Part<'f> {
    /// A start and its length.
    Span { start: &'f str, len: &'f str },
    /// A start, its length with a flag, and the name that is present if the flag
    /// is set.
    FlaggedSpan {
        start: &'f str,
        len: &'f str,
        block: &'f str,
    },
    /// A field with a fixed value.
    Equals { field: &'f Field, value: u64 },
    /// Any other field.
    Field(&'f Field),
}

/// The parts of a payload, in order. By the invariants of the tables a length
/// follows its start directly, and a flagged name follows its flag.
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
