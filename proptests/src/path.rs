//! Generates return paths: messages and their bitmaps, with nothing after SHUT.

use proptest::arbitrary::Arbitrary;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::stream::ItemBuf;
use retpath_codec::{Decoded, Dialect, Encode, Trailer, decode};

/// Maximum bitmap size in [`paths`], in bytes.
pub const LIMIT: u64 = 64;

/// An encoded return path and its decoded items.
#[derive(Clone, Debug)]
pub struct Path<M> {
    /// The encoded bytes.
    pub bytes: Vec<u8>,
    /// The items a decoder must return.
    pub items: Vec<ItemBuf<M>>,
}

/// Generates return paths of a dialect.
pub fn paths<D>() -> impl Strategy<Value = Path<D::Owned>>
where
    D: Dialect<Owned: Arbitrary>,
{
    let words = vec(
        any::<u64>(),
        1..=usize::try_from(LIMIT / 8).expect("fits in usize"),
    );
    vec((any::<D::Owned>(), words), 0..12).prop_map(|parts| {
        let mut path = Path {
            bytes: Vec::new(),
            items: Vec::new(),
        };
        for (message, words) in parts {
            match path.add::<D>(message) {
                Trailer::Bitmap => path.add_bitmap(&words),
                Trailer::End => break,
                Trailer::None | Trailer::Package(_) => {}
            }
        }
        path
    })
}

impl<M: Encode + Clone> Path<M> {
    /// Appends a message and returns the trailer it requires.
    fn add<D: Dialect<Owned = M>>(&mut self, message: M) -> Trailer {
        let at = self.bytes.len();
        let offset = u64::try_from(at).expect("fits in u64");
        message.encode(&mut self.bytes).expect("valid message");
        self.items.push(ItemBuf::Message { offset, message });
        match decode::<D>(&self.bytes[at..]) {
            Ok(Decoded::Message { trailer, .. }) => trailer,
            other => panic!("encoded message decodes as {other:?}"),
        }
    }

    fn add_bitmap(&mut self, words: &[u64]) {
        let offset = u64::try_from(self.bytes.len()).expect("fits in u64");
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bitmap::encode(Bitmap::new(&bytes), &mut self.bytes).expect("length is whole words");
        self.items.push(ItemBuf::Bitmap { offset, bytes });
    }
}

impl<M> Path<M> {
    /// Returns the end of each item, in bytes from the start.
    pub fn ends(&self) -> Vec<u64> {
        let starts = self.items.iter().map(|item| match item {
            ItemBuf::Message { offset, .. } | ItemBuf::Bitmap { offset, .. } => *offset,
        });
        let all = u64::try_from(self.bytes.len()).expect("fits in u64");
        let first = usize::from(!self.items.is_empty());
        starts
            .skip(first)
            .chain((first > 0).then_some(all))
            .collect()
    }
}
