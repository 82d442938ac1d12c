//! Allocations of the incremental decoders, counted, and the limit of bitmaps.

mod samples;

use allocation_counter::measure;
use retpath_codec::stream::{Item, Stream};
use retpath_codec::tokio::ReturnPath;
use retpath_codec::{DecodeError, Encode, Qemu, Rule, V7};
use samples::{Samples, hex};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

/// A stream after RECV_BITMAP and the size field of its bitmap.
fn announced(limit: u64, size: u64) -> (Stream<Qemu>, Result<(), DecodeError>) {
    let mut stream = Stream::<Qemu>::new(limit);
    let frame = hex("0005 0002 01 'x'");
    assert!(matches!(stream.next(&mut &frame[..]), Ok(Some(_))));
    let refused = stream
        .next(&mut &size.to_be_bytes()[..])
        .map(|item| assert_eq!(item, None));
    (stream, refused)
}

#[test]
fn refuses_a_bitmap_over_the_limit_without_memory_for_it() {
    let (size, limit) = (1 << 40, 1 << 20);
    let memory = measure(|| {
        let (_, refused) = announced(limit, size);
        let refused = refused.expect_err("is over the limit");
        assert_eq!(
            (refused.offset, refused.rule),
            (6, Rule::BitmapLimit { size, limit })
        );
    });
    assert!(memory.bytes_total < 1024, "{memory:?}");
}

#[test]
fn accepts_a_bitmap_of_exactly_the_limit() {
    assert_eq!(announced(64, 64).1, Ok(()));
    let refused = announced(63, 64).1.expect_err("is over the limit");
    assert_eq!(
        refused.rule,
        Rule::BitmapLimit {
            size: 64,
            limit: 63
        }
    );
    assert!(!refused.is_peer_fault());
}

#[test]
fn allocates_only_for_bytes_that_have_arrived() {
    let chunk = vec![0xff; 1 << 16];
    let memory = measure(|| {
        let (mut stream, refused) = announced(u64::MAX, 1 << 60);
        assert_eq!(refused, Ok(()));
        for _ in 0..16 {
            assert_eq!(stream.next(&mut &chunk[..]), Ok(None));
        }
        assert_eq!(stream.offset(), 6 + 8 + (1 << 20));
    });
    // The buffer and its successor of twice the size, during the copy.
    assert!(memory.bytes_max < 3 << 20, "{memory:?}");
}

#[test]
fn allocates_no_more_than_the_bitmap_needs() {
    let size = (1 << 20) + 8;
    let bytes = [&vec![0xff; size][..], &hex("0123456789abcdef")].concat();
    for pieces in [100, 1000, size] {
        let memory = measure(|| {
            let announced_size = u64::try_from(size).expect("64 bits");
            let (mut stream, _) = announced(announced_size, announced_size);
            let last = bytes.len() - 1;
            for chunk in bytes[..last].chunks(pieces) {
                assert_eq!(stream.next(&mut &chunk[..]), Ok(None));
            }
            let item = stream.next(&mut &bytes[last..]);
            let Ok(Some(Item::Bitmap { bitmap, .. })) = item else {
                panic!("{item:?} is no bitmap");
            };
            assert_eq!(bitmap.as_bytes().len(), size);
        });
        // The last buffer and its predecessor, during the copy.
        assert!(memory.bytes_max <= 2 * announced_total(size), "{memory:?}");
        // It doubles, so that small pieces do not cause many copies.
        assert!(memory.count_total < 40, "{memory:?}");
    }
}

fn announced_total(size: usize) -> u64 {
    u64::try_from(size + retpath_codec::bitmap::OVERHEAD).expect("64 bits") + 1024
}

#[test]
fn frees_the_memory_of_a_bitmap() {
    let mut stream = Stream::<Qemu>::new(1 << 20);
    let size = 1_u64 << 20;
    let bytes = [
        &hex("0005 0002 01 'x'")[..],
        &size.to_be_bytes(),
        &vec![0; 1 << 20],
        &hex("0123456789abcdef 0007 0000"),
    ]
    .concat();
    let memory = measure(|| {
        let mut input = &bytes[..];
        while let Some(_item) = stream.next(&mut input).expect("the bytes are valid") {}
    });
    assert!(memory.bytes_max > 1 << 20, "{memory:?}");
    assert_eq!(memory.bytes_current, 0, "{memory:?}");
}

#[test]
fn keeps_an_accepted_size_when_the_limit_is_lowered() {
    let (mut stream, refused) = announced(64, 8);
    assert_eq!(refused, Ok(()));
    stream.limit_bitmap(0);
    let rest = hex("0000000000000000 0123456789abcdef 0005 0002 01 'x' 0000000000000008");
    let mut input = &rest[..];
    assert!(matches!(
        stream.next(&mut input),
        Ok(Some(Item::Bitmap { .. }))
    ));
    assert!(matches!(
        stream.next(&mut input),
        Ok(Some(Item::Message { .. }))
    ));
    let refused = stream.next(&mut input).expect_err("is over the new limit");
    assert_eq!(refused.rule, Rule::BitmapLimit { size: 8, limit: 0 });
}

#[test]
fn allocates_nothing_for_messages() {
    fn none<D: Samples>() {
        for sample in D::samples() {
            let mut stream = Stream::<D>::new(0);
            let mut room = [0; 600];
            let memory = measure(|| {
                let item = stream.next(&mut &sample.bytes[..]);
                assert!(matches!(item, Ok(Some(Item::Message { .. }))));
                let written = sample.value.encode_into(&mut room);
                assert_eq!(written, Ok(sample.bytes.len()));
            });
            assert_eq!(memory.count_total, 0, "{:?}", sample.value);
            let mut stream = Stream::<D>::new(0);
            let memory = measure(|| {
                for byte in &sample.bytes {
                    let item = stream.next(&mut std::slice::from_ref(byte));
                    assert!(item.is_ok());
                }
            });
            assert_eq!(memory.count_total, 0, "{:?} in pieces", sample.value);
        }
    }
    none::<Qemu>();
    none::<V7>();
}

/// Messages, and RECV_BITMAP with bitmaps of the limit, without end.
#[test]
fn a_tokio_codec_keeps_at_most_one_frame_and_one_bitmap() {
    let limit = 1_u64 << 12;
    let bitmap = [
        &hex("0005 0002 01 'x'")[..],
        &limit.to_be_bytes(),
        &[0xff; 1 << 12],
        &hex("0123456789abcdef 0002 0004 00000001 0003 0013 0000000003316000 00001000 06 'pc.ram'"),
    ]
    .concat();
    let mut codec = ReturnPath::<Qemu>::new(limit);
    let mut input = BytesMut::with_capacity(1 << 10);
    let mut items = 0;
    let memory = measure(|| {
        for piece in (0..1_000).flat_map(|_| bitmap.chunks(999)) {
            input.extend_from_slice(piece);
            while codec.decode(&mut input).expect("valid input").is_some() {
                items += 1;
            }
            assert!(input.is_empty(), "the codec consumes its input");
        }
    });
    assert_eq!(items, 4_000);
    // The bitmap, its predecessor during a copy, and the returned copy.
    assert!(memory.bytes_max <= 3 * limit + 2048, "{memory:?}");
}
