//! Properties of a return path as a stream: independent of how it is split, and
//! of where it ends.

use proptest::arbitrary::Arbitrary;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use retpath_codec::stream::{ItemBuf, Stream};
use retpath_codec::{DecodeError, Dialect, Qemu, Rule, V7, check};
use retpath_proptests::config;
use retpath_proptests::path::{LIMIT, Path, paths};

/// Generates a cyclic list of read sizes.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![0..9_usize, 0..200_usize], 1..12)
}

/// Decodes a path in pieces; returns the items and the result at the end.
fn read<D: Dialect>(
    mut bytes: &[u8],
    sizes: &[usize],
) -> (Vec<ItemBuf<D::Owned>>, Result<(), DecodeError>) {
    let mut stream = Stream::<D>::new(LIMIT);
    let mut items = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut idle = 0;
    while !bytes.is_empty() {
        let size = *sizes.next().expect("sizes is a non-empty cycle");
        idle = if size == 0 { idle + 1 } else { 0 };
        // A run of empty pieces would never end.
        let size = if idle > 12 { usize::MAX } else { size };
        let (mut piece, rest) = bytes.split_at(size.min(bytes.len()));
        bytes = rest;
        loop {
            match stream.next_owned(&mut piece) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (items, Err(error)),
            }
        }
    }
    (items, stream.finish())
}

fn yields<D>(path: &Path<D::Owned>, sizes: &[usize])
where
    D: Dialect,
{
    let (items, end) = read::<D>(&path.bytes, sizes);
    assert_eq!(items, path.items);
    assert_eq!(end, Ok(()), "in {path:?}");
}

/// Checks that a truncated path yields the preceding items and reports how many
/// bytes its last item lacks.
fn check_truncated<D: Dialect>(path: &Path<D::Owned>, len: usize, sizes: &[usize]) {
    let (items, end) = read::<D>(&path.bytes[..len], sizes);
    let ends = path.ends();
    let len = u64::try_from(len).expect("fits in u64");
    let whole = ends.iter().filter(|end| **end <= len).count();
    assert_eq!(items, path.items[..whole]);

    let start = whole.checked_sub(1).map_or(0, |last| ends[last]);
    // A RECV_BITMAP makes its bitmap mandatory.
    let awaited = matches!(path.items.get(whole), Some(ItemBuf::Bitmap { .. }));
    if start == len && !awaited {
        return assert_eq!(end, Ok(()));
    }
    let error = end.expect_err("path ends inside an item");
    let Rule::CutShort { have, need } = error.rule else {
        panic!("{error}");
    };
    assert_eq!(error.offset, start);
    assert_eq!(u64::try_from(have), Ok(len - start));
    let missing = usize::try_from(ends[whole] - len).expect("fits in usize");
    assert!((1..=missing).contains(&need), "{error} of {missing}");
    // The reported need is exactly what the next verdict takes.
    let more = usize::try_from(len).expect("fits in usize") + need;
    let (_, end) = read::<D>(&path.bytes[..more - 1], sizes);
    let last = Rule::CutShort {
        have: have + need - 1,
        need: 1,
    };
    assert_eq!(end.map_err(|error| error.rule), Err(last));
    let (_, end) = read::<D>(&path.bytes[..more], sizes);
    let have = have + need;
    match end.map_err(|error| error.rule) {
        Ok(()) => assert_eq!(need, missing),
        Err(Rule::CutShort { have: now, .. }) => assert!(now == 0 || now == have),
        Err(rule) => panic!("{rule} for a valid path"),
    }
}

macro_rules! of_a_dialect {
    ($($name:ident: $dialect:ty;)*) => {$(mod $name {
        use super::*;

        type Owned = <$dialect as Dialect>::Owned;

        fn any_path() -> impl Strategy<Value = Path<Owned>>
        where
            Owned: Arbitrary,
        {
            paths::<$dialect>()
        }

        proptest! {
            #![proptest_config(config("proptest-regressions/streams.txt"))]

            #[test]
            fn decodes_what_was_encoded(path in any_path(), sizes in sizes()) {
                yields::<$dialect>(&path, &sizes);
            }

            #[test]
            fn reports_where_a_path_is_cut_short(
                path in any_path(),
                len in any::<Index>(),
                sizes in sizes(),
            ) {
                let len = len.index(path.bytes.len() + 1);
                check_truncated::<$dialect>(&path, len, &sizes);
            }

            #[test]
            fn does_not_depend_on_read_sizes(
                path in any_path(),
                edits in vec((any::<Index>(), any::<u8>()), 0..3),
                sizes in sizes(),
            ) {
                let mut bytes = path.bytes;
                for (at, value) in edits {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = value;
                    }
                }
                let whole = read::<$dialect>(&bytes, &[usize::MAX]);
                prop_assert_eq!(read::<$dialect>(&bytes, &sizes), whole);
                check::split::<$dialect>(&bytes, LIMIT, sizes);
                check::stream::<$dialect>(&bytes, LIMIT, []);
            }
        }
    })*};
}

of_a_dialect! {
    qemu: Qemu;
    v7: V7;
}
