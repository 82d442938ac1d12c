//! The messages of a return path, in a form that all readers share.

use retpath_codec::stream::{Item, Stream};
use retpath_codec::{Qemu, V7, Value as Shown};
use retpath_spec::model::{Dialect, Trailer};
use retpath_spec::oracle::{self, Outcome, Refused, Value};
use retpath_spec::table::return_path::BITMAP_END;

/// A message as a reader reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Start of its frame, in bytes from the start of the return path.
    pub(crate) offset: usize,
    /// Label of the message.
    pub(crate) label: String,
    /// Name and value of each field in order: a number in decimal, a name in
    /// hexadecimal. A bitmap counts as the fields `bitmap.size` (in bytes) and
    /// `bitmap.received` (in pages).
    pub(crate) fields: Vec<(String, String)>,
}

/// What the oracle reads, up to the first defect or to an incomplete message.
/// Offsets count from the start of `input`.
pub(crate) fn read_with_oracle(dialect: &Dialect, input: &[u8]) -> (Vec<Seen>, Option<Refused>) {
    let mut seen = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let parsed = match oracle::read(dialect, &input[at..]) {
            Ok(Outcome::Message(parsed)) => parsed,
            Ok(Outcome::Need(_)) => break,
            Err(refused) => {
                let offset = at + refused.offset;
                return (seen, Some(Refused { offset, ..refused }));
            }
        };
        let row = dialect.messages.iter().find(|m| m.number == parsed.number);
        let row = row.expect("the oracle reads rows only");
        let mut fields = Vec::new();
        for (field, value) in row.fields.iter().zip(&parsed.values) {
            let value = match value {
                Value::Number(n) => n.to_string(),
                Value::Name(name) => hex(name),
                Value::NoName => continue,
                Value::PageSizes(_) | Value::Ranges(_) => panic!("{} in a return path", field.name),
            };
            fields.push((field.name.to_string(), value));
        }
        let mut end = at + parsed.size;
        if row.trailer == Some(Trailer::Bitmap) {
            let Some((size, received)) = trailer(&input[end..]) else {
                break;
            };
            end += 16 + size;
            fields.push(("bitmap.size".into(), size.to_string()));
            fields.push(("bitmap.received".into(), received.to_string()));
        }
        seen.push(Seen {
            offset: at,
            label: row.label.into(),
            fields,
        });
        at = end;
    }
    (seen, None)
}

/// What the codec reads in a valid return path.
pub(crate) fn read_with_codec(dialect: &Dialect, input: &[u8]) -> Vec<Seen> {
    match dialect.name {
        "qemu" => decode::<Qemu>(input),
        "v7" => decode::<V7>(input),
        other => panic!("{other} is not a dialect of the return path"),
    }
}

fn decode<D: retpath_codec::Dialect>(mut input: &[u8]) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let mut stream = Stream::<D>::new(u64::MAX);
    while let Some(item) = stream.next(&mut input).expect("a valid return path") {
        match item {
            Item::Message { offset, message } => {
                let mut fields = Vec::new();
                D::fields(&message, &mut |name, value| {
                    let value = match value {
                        Shown::Number(n) | Shown::Offset(n) | Shown::Bytes(n) => n.to_string(),
                        Shown::Name(Some(name)) => hex(name.as_bytes()),
                        Shown::Name(None) => return,
                        other => panic!("{other:?} in a return path"),
                    };
                    fields.push((name.to_string(), value));
                });
                let offset = usize::try_from(offset).expect("a small file");
                let label = D::label(&message).into();
                seen.push(Seen {
                    offset,
                    label,
                    fields,
                });
            }
            Item::Bitmap { bitmap, .. } => {
                let fields = &mut seen.last_mut().expect("behind its frame").fields;
                fields.push(("bitmap.size".into(), bitmap.as_bytes().len().to_string()));
                fields.push(("bitmap.received".into(), bitmap.received().to_string()));
            }
        }
    }
    stream.finish().expect("a complete return path");
    seen
}

/// Size in bytes and number of pages of a valid trailer, if it is complete.
fn trailer(input: &[u8]) -> Option<(usize, u32)> {
    let (size, rest) = input.split_first_chunk::<8>()?;
    let size = usize::try_from(u64::from_be_bytes(*size)).ok()?;
    let (bitmap, rest) = rest.split_at_checked(size)?;
    let mark = rest.first_chunk::<8>()?;
    assert_eq!(u64::from_be_bytes(*mark), BITMAP_END);
    Some((size, bitmap.iter().map(|byte| byte.count_ones()).sum()))
}

/// Lower-case hexadecimal without separators.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
