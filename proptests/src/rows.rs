//! Strategies for messages, derived from the field kinds of a table row.

use proptest::option;
use proptest::prelude::{Just, Strategy, any};
use proptest::strategy::BoxedStrategy;
use retpath_codec::command::{PageSizes, RangeBuf};
use retpath_codec::proptest::{even_span, name, span};
use retpath_codec::{BlockName, NameBuf};
use retpath_spec::model::{Field, Kind, Message, Rule};
use retpath_spec::oracle::Value;

/// Generates valid field values for a row.
pub fn values(row: &'static Message) -> BoxedStrategy<Vec<Value>> {
    let mut all = Just(Vec::new()).boxed();
    let mut fields = row.fields;
    while let Some((first, rest)) = fields.split_first() {
        let (values, rest) = match rest.split_first() {
            Some((len, rest)) if len.rule == Rule::Span => (start_and_len(len), rest),
            _ => (value(first).prop_map(|value| vec![value]).boxed(), rest),
        };
        let joined = (all, values).prop_map(|(all, values)| [all, values].concat());
        all = joined.boxed();
        fields = rest;
    }
    all
}

fn start_and_len(len: &Field) -> BoxedStrategy<Vec<Value>> {
    let both = |start, len| vec![Value::Number(start), Value::Number(len)];
    match len.kind {
        Kind::FlaggedBe64 => even_span()
            .prop_map(move |(start, len)| both(start, len))
            .boxed(),
        _ => span()
            .prop_map(move |(start, len)| both(start, len.into()))
            .boxed(),
    }
}

fn value(field: &Field) -> BoxedStrategy<Value> {
    let text = |name: NameBuf| Value::Name(name.name().as_bytes().into());
    if let Rule::Equals(value) = field.rule {
        return Just(Value::Number(value)).boxed();
    }
    match field.kind {
        Kind::U8 => any::<u8>().prop_map(|n| Value::Number(n.into())).boxed(),
        Kind::Be32 => any::<u32>().prop_map(|n| Value::Number(n.into())).boxed(),
        Kind::Be64 => any::<u64>().prop_map(Value::Number).boxed(),
        Kind::FlaggedBe64 => panic!("{}: a flagged length without a start", field.name),
        Kind::Name => name().prop_map(text).boxed(),
        Kind::FlaggedName => option::of(name())
            .prop_map(move |name| name.map_or(Value::NoName, text))
            .boxed(),
        Kind::PageSizes => any::<Option<PageSizes>>()
            .prop_map(|sizes| Value::PageSizes(sizes.map(|sizes| (sizes.summary, sizes.target))))
            .boxed(),
        Kind::Ranges => any::<RangeBuf>()
            .prop_map(|ranges| {
                let ranges = ranges.as_slice().iter();
                Value::Ranges(ranges.map(|range| (range.start, range.len)).collect())
            })
            .boxed(),
    }
}
