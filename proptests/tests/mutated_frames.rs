//! Frames, bitmaps and streams with one defect are refused with the matching
//! rule at the offset of the defect.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::command::Commands;
use retpath_codec::stream::{ItemBuf, Stream};
use retpath_codec::{DecodeError, Dialect, Message, NameBuf, Qemu, Rule, V7, decode};
use retpath_proptests::config;
use retpath_proptests::mutate::{MutatedFrame, mutated_frames};
use retpath_proptests::path::{LIMIT, paths};
use retpath_spec::model;
use retpath_spec::oracle::RULES;
use retpath_spec::table::DIALECTS;

fn table<D: Dialect>() -> &'static model::Dialect {
    let table = DIALECTS.iter().find(|table| table.name == D::NAME);
    table.expect("every dialect has a table")
}

/// Checks that the codec refuses the frame with the expected error, also when
/// more bytes follow.
fn assert_refused<D: Dialect>(mutated: &MutatedFrame) {
    for more in [&[][..], &[0; 9], &[0xff; 600]] {
        let bytes = [&mutated.frame, more].concat();
        let Err(error) = decode::<D>(&bytes) else {
            panic!("accepts {mutated:?}");
        };
        let offset = usize::try_from(error.offset).expect("offset lies in the frame");
        let found = (offset, error.message, error.field, error.rule.name());
        let want = (mutated.offset, mutated.message, mutated.field, mutated.rule);
        assert_eq!(found, want, "{error} for {mutated:?}");
        assert!(error.is_peer_fault());
    }
}

/// Returns the rules that the mutated frames of a dialect violate.
fn rules<D: Dialect>() -> BTreeSet<&'static str> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let frames = mutated_frames(table::<D>());
    let made = (0..1500).map(|_| {
        frames
            .new_tree(&mut runner)
            .expect("strategy generates a frame")
            .current()
    });
    made.map(|mutated| mutated.rule).collect()
}

#[test]
fn mutations_violate_every_rule() {
    let but = |others: &[&str]| -> BTreeSet<_> {
        let rules = RULES.iter().copied();
        rules.filter(|rule| !others.contains(rule)).collect()
    };
    assert_eq!(rules::<Qemu>(), but(&["lead"]));
    assert_eq!(rules::<V7>(), but(&["lead", "value"]));
    assert_eq!(rules::<Commands>(), but(&["too-long"]));
}

type Item = ItemBuf<Message<NameBuf>>;

/// Returns the start of an item, in bytes from the start of its path.
fn start(item: &Item) -> u64 {
    match item {
        ItemBuf::Message { offset, .. } | ItemBuf::Bitmap { offset, .. } => *offset,
    }
}

/// Decodes a path to its end or its first error.
fn read(mut bytes: &[u8]) -> (Vec<Item>, Option<DecodeError>) {
    let mut stream = Stream::<Qemu>::new(LIMIT);
    let mut items = Vec::new();
    loop {
        match stream.next_owned(&mut bytes) {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

/// Encodes a received bitmap, the trailer of RECV_BITMAP.
fn trailer(words: &[u64]) -> Vec<u8> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut out = Vec::new();
    bitmap::encode(Bitmap::new(&bytes), &mut out).expect("length is whole words");
    out
}

fn decode_error(bytes: &[u8]) -> DecodeError {
    bitmap::decode(bytes, LIMIT).expect_err("bitmap is invalid")
}

proptest! {
    #![proptest_config(config("proptest-regressions/mutated_frames.txt"))]

    #[test]
    fn refuses_messages(mutated in mutated_frames(table::<Qemu>())) {
        assert_refused::<Qemu>(&mutated);
    }

    #[test]
    fn refuses_messages_of_the_draft(mutated in mutated_frames(table::<V7>())) {
        assert_refused::<V7>(&mutated);
    }

    #[test]
    fn refuses_commands(mutated in mutated_frames(table::<Commands>())) {
        assert_refused::<Commands>(&mutated);
    }

    #[test]
    fn refuses_bitmaps_with_an_invalid_size(
        size in prop_oneof![0..200_u64, any::<u64>()], more in 0..100_usize) {
        let bytes = [&size.to_be_bytes()[..], &vec![0; more]].concat();
        let fits = size.is_multiple_of(8) && (1..=LIMIT).contains(&size);
        prop_assume!(!fits);
        let rule = match size {
            0 => Rule::BitmapSize { size },
            _ if !size.is_multiple_of(8) => Rule::BitmapSize { size },
            _ => Rule::BitmapLimit { size, limit: LIMIT },
        };
        let error = decode_error(&bytes);
        prop_assert_eq!((error.offset, error.rule), (0, rule));
        prop_assert_eq!(error.is_peer_fault(), matches!(rule, Rule::BitmapSize { .. }));
    }

    #[test]
    fn refuses_bitmaps_with_a_wrong_end_mark(
        words in proptest::collection::vec(any::<u64>(), 1..8),
        other in prop_oneof![(0..64).prop_map(|bit| 1_u64 << bit), 1..=u64::MAX],
    ) {
        let mut bytes = trailer(&words);
        let at = bytes.len() - 8;
        let end = u64::from_be_bytes(bytes[at..].try_into().expect("8 bytes"));
        bytes[at..].copy_from_slice(&(end ^ other).to_be_bytes());
        let error = decode_error(&bytes);
        let at = u64::try_from(at).expect("fits in u64");
        prop_assert_eq!((error.offset, error.rule), (at, Rule::BitmapEnd { got: end ^ other }));
    }

    #[test]
    fn refuses_bitmaps_that_do_not_fit_their_block(
        words in proptest::collection::vec(any::<u64>(), 1..8),
        pages in 1..600_u64,
    ) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (have, want) = (u64::try_from(bytes.len()).expect("fits in u64"), pages.div_ceil(64) * 8);
        let beyond = words.iter().enumerate().any(|(at, word)| {
            let first = 64 * u64::try_from(at).expect("fits in u64");
            (0..64).any(|bit| word >> bit & 1 == 1 && first + bit >= pages)
        });
        let expected = match () {
            () if have != want => Err(Rule::BitmapMismatch { size: have, want }),
            () if beyond => Err(Rule::BitmapTail),
            () => Ok(()),
        };
        prop_assert_eq!(Bitmap::new(&bytes).check(pages), expected);
    }

    #[test]
    fn refuses_bytes_after_shut(path in paths::<Qemu>(), value in any::<u32>(), more in any::<u8>()) {
        let mut bytes = path.bytes;
        let shut = |item: &Item| matches!(item, ItemBuf::Message { message: Message::Shut { .. }, .. });
        if !path.items.last().is_some_and(shut) {
            bytes.extend([0, 1, 0, 4]);
            bytes.extend(value.to_be_bytes());
        }
        let end = u64::try_from(bytes.len()).expect("fits in u64");
        bytes.push(more);
        let (_, error) = read(&bytes);
        let error = error.map(|error| (error.offset, error.rule));
        prop_assert_eq!(error, Some((end, Rule::AfterShut)));
    }

    #[test]
    fn refuses_streams_at_their_first_defect(
        path in paths::<Qemu>(),
        mutated in mutated_frames(table::<Qemu>()),
        place in any::<Index>(),
    ) {
        // Exclude SHUT, and the gap between a RECV_BITMAP and its bitmap.
        let messages = path.items.iter().filter(|item| matches!(item, ItemBuf::Message { .. }));
        let places: Vec<u64> = messages.map(start).collect();
        prop_assume!(!places.is_empty());
        let offset = places[place.index(places.len())];
        let at = usize::try_from(offset).expect("fits in usize");
        let bytes = [&path.bytes[..at], &mutated.frame, &path.bytes[at..]].concat();
        let (items, error) = read(&bytes);
        let before = path.items.iter().filter(|item| start(item) < offset).count();
        prop_assert_eq!(&items, &path.items[..before]);
        let want = offset + u64::try_from(mutated.offset).expect("fits in u64");
        let error = error.map(|error| (error.offset, error.rule.name()));
        prop_assert_eq!(error, Some((want, mutated.rule)));
    }
}
