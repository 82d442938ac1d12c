//! The features `arbitrary` and `proptest` make valid messages and mutated frames.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::{Arbitrary as Any, ProptestConfig, any};
use proptest::strategy::Strategy;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use retpath_codec::arbitrary::Mutated;
use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf, RangeList, Ranges};
use retpath_codec::proptest::{mutated, name};
use retpath_codec::{
    BlockName, Decoded, Dialect, Encode, Message, Name, NameBuf, Qemu, V7, check, decode, v7,
};
use retpath_random::Random;
use retpath_spec::table::DIALECTS;

mod defects;

/// Pseudo-random bytes from a fixed seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).bytes(len)
}

fn labels<D: Dialect>() -> BTreeSet<&'static str> {
    let table = DIALECTS.iter().find(|table| table.name == D::NAME);
    let table = table.expect("the dialect has a table");
    table.messages.iter().map(|row| row.label).collect()
}

/// Encodes a message and returns its name.
fn label<D: Dialect>(message: &impl Encode) -> &'static str {
    let mut bytes = Vec::new();
    message
        .encode(&mut bytes)
        .expect("what is made up is valid");
    match decode::<D>(&bytes) {
        Ok(Decoded::Message { message, .. }) => D::label(&message),
        other => panic!("{other:?}"),
    }
}

mod from_bytes {
    use super::*;

    fn makes<D: Dialect>()
    where
        D::Owned: for<'a> Arbitrary<'a>,
        for<'a> D::Message<'a>: Arbitrary<'a>,
    {
        let (mut owned, mut borrowed) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..2000 {
            let bytes = noise(seed, 2000);
            let message: D::Owned = Unstructured::new(&bytes).arbitrary().expect("enough bytes");
            check::value::<D>(&message);
            owned.insert(label::<D>(&message));
            let message: D::Message<'_> = Unstructured::new(&bytes).arbitrary().expect("enough");
            check::value::<D>(&D::into_owned(message));
            borrowed.insert(label::<D>(&message));
        }
        assert_eq!(owned, labels::<D>());
        assert_eq!(borrowed, labels::<D>());
    }

    #[test]
    fn makes_every_message_and_only_valid_ones() {
        makes::<Qemu>();
        makes::<V7>();
        makes::<Commands>();
    }

    #[test]
    fn makes_values_from_any_bytes() {
        for len in 0..600 {
            for byte in [0, 1, 0xff] {
                let bytes = vec![byte; len];
                let mut u = Unstructured::new(&bytes);
                if let Ok(message) = Message::<Name<'_>>::arbitrary(&mut u) {
                    assert_eq!(message.check(), Ok(()));
                }
                let mut u = Unstructured::new(&bytes);
                if let Ok(message) = v7::Message::<Name<'_>>::arbitrary(&mut u) {
                    assert_eq!(message.check(), Ok(()));
                }
                let mut u = Unstructured::new(&bytes);
                if let Ok(message) = Command::<Name<'_>, Ranges<'_>>::arbitrary(&mut u) {
                    assert_eq!(message.check(), Ok(()));
                }
            }
        }
    }

    #[test]
    fn prefers_common_block_names() {
        let names: Vec<Name<'_>> = (0..400)
            .map(|seed| noise(seed, 2000).leak())
            .map(|bytes| Unstructured::new(bytes).arbitrary().expect("enough bytes"))
            .collect();
        for usual in ["pc.ram", "vga.vram", "mem0"] {
            let count = names
                .iter()
                .filter(|name| name.as_bytes() == usual.as_bytes())
                .count();
            assert!(count > 10, "{usual}: {count}");
        }
        let others = names.iter().filter(|name| name.as_bytes().len() > 30);
        assert!(others.count() > 100);
    }

    /// A type that cannot be made.
    #[derive(Debug)]
    struct Never;

    impl<'a> Arbitrary<'a> for Never {
        fn arbitrary(_: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
            Err(arbitrary::Error::IncorrectFormat)
        }
    }

    #[test]
    fn propagates_errors_of_names_and_ranges_only() {
        let mut failed = [0; 4];
        for seed in 0..200 {
            let bytes = noise(seed, 600);
            let mut u = Unstructured::new(&bytes);
            match Message::<Never>::arbitrary(&mut u) {
                Ok(Message::ReqPagesId { .. } | Message::RecvBitmap { .. }) => {
                    panic!("a message without its name")
                }
                made => failed[0] += u32::from(made.is_err()),
            }
            let mut u = Unstructured::new(&bytes);
            match v7::Message::<Never>::arbitrary(&mut u) {
                Ok(v7::Message::ReqPages { block, .. }) => assert!(block.is_none()),
                made => failed[1] += u32::from(made.is_err()),
            }
            let mut u = Unstructured::new(&bytes);
            match Command::<Never, RangeBuf>::arbitrary(&mut u) {
                Ok(Command::PostcopyRamDiscard { .. } | Command::RecvBitmap { .. }) => {
                    panic!("a command without its name")
                }
                made => failed[2] += u32::from(made.is_err()),
            }
            let mut u = Unstructured::new(&bytes);
            match Command::<NameBuf, Never>::arbitrary(&mut u) {
                Ok(Command::PostcopyRamDiscard { .. }) => panic!("a discard without ranges"),
                made => failed[3] += u32::from(made.is_err()),
            }
        }
        assert!(failed.iter().all(|times| *times > 0), "{failed:?}");
    }

    #[test]
    fn uses_zeros_when_the_input_is_exhausted() {
        let mut none = Unstructured::new(&[]);
        let name: NameBuf = none.arbitrary().expect("never fails");
        assert_eq!(name.to_string(), "pc.ram");
        let ranges: RangeBuf = none.arbitrary().expect("never fails");
        assert_eq!(ranges.as_slice(), [Range { start: 0, len: 1 }]);
        let message = Message::<Name<'_>>::arbitrary(&mut none);
        assert_eq!(message, Ok(Message::Shut { value: 0 }));
    }

    /// Asserts that spans have all sizes up to `most` at any possible start, and that
    /// half of them are 4096 bytes long.
    fn spread(most: u64, make: impl Fn(&mut Unstructured<'_>) -> Option<(u64, u64)>) {
        let (mut all, mut pages, mut longest, mut furthest) = (0_u32, 0, 0, 0);
        for seed in 0..5000 {
            let bytes = noise(seed, 64);
            let Some((start, len)) = make(&mut Unstructured::new(&bytes)) else {
                continue;
            };
            assert!(Range::new(start, len).is_ok() && len <= most);
            all += 1;
            longest = longest.max(len);
            if len == 4096 {
                pages += 1;
                furthest = furthest.max(start);
            }
        }
        let half = all / 2;
        assert!(
            all > 200 && (half / 4 * 3..half / 4 * 5).contains(&pages),
            "{pages} of {all}"
        );
        assert!(longest > most / 4 * 3, "{longest:#x}");
        assert!(furthest > u64::MAX / 4 * 3, "{furthest:#x}");
    }

    #[test]
    fn makes_spans_of_all_sizes_and_often_of_one_page() {
        spread(u64::MAX, |u| {
            let range: Range = u.arbitrary().expect("never fails");
            Some((range.start, range.len))
        });
        spread(u32::MAX.into(), |u| match u.arbitrary() {
            Ok(Message::<NameBuf>::ReqPages { start, len }) => Some((start, len.into())),
            _ => None,
        });
        spread(u64::MAX, |u| match u.arbitrary() {
            Ok(v7::Message::<NameBuf>::ReqPages { start, len, .. }) => {
                assert!(len.is_multiple_of(2));
                Some((start, len))
            }
            _ => None,
        });
    }

    #[test]
    fn borrows_names_and_ranges_from_the_bytes() {
        let (mut names, mut lists) = (0, 0);
        for seed in 0..200 {
            let bytes = noise(seed, 2000);
            let inside = |at: *const u8| bytes.as_ptr_range().contains(&at);
            let name: Name<'_> = Unstructured::new(&bytes).arbitrary().expect("enough bytes");
            names += usize::from(inside(name.as_bytes().as_ptr()));
            let ranges: Ranges<'_> = Unstructured::new(&bytes).arbitrary().expect("enough bytes");
            lists += usize::from(ranges.count() > 1);
            for range in ranges.iter() {
                assert_eq!(Range::new(range.start, range.len), Ok(range));
            }
        }
        assert!(names > 100 && lists > 30, "{names} {lists}");
    }

    fn nearly<D>()
    where
        D: Dialect<Owned: for<'a> Arbitrary<'a>>,
    {
        let (mut valid, mut need, mut rules) = (0, 0, BTreeSet::new());
        for seed in 0..5000 {
            let bytes = noise(seed, 2000);
            let near: Mutated<D> = Unstructured::new(&bytes).arbitrary().expect("enough bytes");
            check::frame::<D>(&near.frame);
            match decode::<D>(&near.frame) {
                Ok(Decoded::Message { .. }) => valid += 1,
                Ok(Decoded::Need(_)) => need += 1,
                Err(error) => {
                    rules.insert(error.rule.name());
                }
            }
        }
        assert!(valid > 100 && valid < 4000 && need > 100, "{valid} {need}");
        for rule in ["unknown", "length", "short", "leftover", "nul"] {
            assert!(rules.contains(rule), "{rule} not in {rules:?}");
        }
    }

    #[test]
    fn makes_frames_with_one_defect() {
        nearly::<Qemu>();
        nearly::<V7>();
        nearly::<Commands>();
    }
}

mod from_strategies {
    use super::*;

    /// A runner with a fixed seed.
    fn runner(cases: u32) -> TestRunner {
        let config = ProptestConfig {
            cases,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        TestRunner::new_with_rng(config, rng)
    }

    fn makes<D: Dialect<Owned: Any>>() {
        let mut seen = BTreeSet::new();
        let strategy = any::<D::Owned>();
        let mut runner = runner(0);
        for _ in 0..1000 {
            let tree = strategy
                .new_tree(&mut runner)
                .expect("the strategy makes values");
            let message = proptest::strategy::ValueTree::current(&tree);
            check::value::<D>(&message);
            seen.insert(label::<D>(&message));
        }
        assert_eq!(seen, labels::<D>());
    }

    #[test]
    fn makes_every_message_and_only_valid_ones() {
        makes::<Qemu>();
        makes::<V7>();
        makes::<Commands>();
    }

    #[test]
    fn makes_frames_with_one_defect() {
        fn nearly<D: Dialect<Owned: Any>>() {
            let checked = runner(2000).run(&mutated::<D>(), |(frame, _)| {
                check::frame::<D>(&frame);
                Ok(())
            });
            assert_eq!(checked, Ok(()));
        }
        nearly::<Qemu>();
        nearly::<V7>();
        nearly::<Commands>();
    }

    #[test]
    fn makes_names_and_ranges() {
        let values = (
            name(),
            any::<Range>(),
            any::<RangeBuf>(),
            any::<PageSizes>(),
        );
        let made = runner(500).run(&values, |(name, range, ranges, _)| {
            assert_eq!(Name::new(name.name().as_bytes()), Ok(name.name()));
            assert_eq!(Range::new(range.start, range.len), Ok(range));
            assert!(ranges.count() > 0);
            Ok(())
        });
        assert_eq!(made, Ok(()));
    }

    #[test]
    fn makes_short_and_long_ranges_at_any_offset() {
        let (mut starts, mut lens) = (Vec::new(), Vec::new());
        let draft = any::<v7::Message<NameBuf>>();
        let mut runner = runner(0);
        for _ in 0..1000 {
            let tree = draft.new_tree(&mut runner).expect("a value");
            let message = proptest::strategy::ValueTree::current(&tree);
            if let v7::Message::ReqPages { start, len, .. } = message {
                starts.push(start);
                lens.push(len);
            }
        }
        assert!(starts.iter().any(|start| *start > 1 << 63));
        assert!(lens.contains(&4096) && lens.iter().any(|len| *len > 1 << 32));
    }

    #[test]
    fn shrinks_to_the_smallest_request() {
        let strategy = any::<Message<NameBuf>>();
        let found = runner(1000).run(&strategy, |message| match message {
            Message::ReqPages { len, .. } if len > 5000 => {
                Err(proptest::test_runner::TestCaseError::fail("too long"))
            }
            _ => Ok(()),
        });
        let Err(proptest::test_runner::TestError::Fail(_, smallest)) = found else {
            panic!("{found:?}");
        };
        assert_eq!(
            smallest,
            Message::ReqPages {
                start: 0,
                len: 5001
            }
        );
    }
}

#[test]
fn takes_as_many_ranges_as_the_first_byte_says() {
    let count = |byte: u8| {
        let bytes = [byte; 4096];
        Ranges::arbitrary(&mut Unstructured::new(&bytes))
            .expect("any bytes")
            .count()
    };
    let counts: BTreeSet<usize> = (1..=40).map(count).collect();
    assert!(counts.len() > 20, "{counts:?}");
}
