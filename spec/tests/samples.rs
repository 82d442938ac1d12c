//! The samples obey the tables.

use retpath_spec::oracle::{self, Outcome};
use retpath_spec::sample::{Size, samples};
use retpath_spec::table::DIALECTS;

#[test]
fn oracle_reads_back_every_sample() {
    for dialect in DIALECTS {
        for message in dialect.messages {
            for sample in samples(message) {
                let bytes = sample.bytes(dialect, message);
                let read = oracle::read(dialect, &bytes);
                let Ok(Outcome::Message(parsed)) = read else {
                    panic!("{} {:?}: {read:?}", message.label, sample.size);
                };
                assert_eq!(parsed.number, message.number);
                assert_eq!(parsed.values, sample.values);
                assert_eq!(parsed.size + sample.trailer.len(), bytes.len());
            }
        }
    }
}

#[test]
fn samples_cover_the_smallest_and_largest_payload() {
    for dialect in DIALECTS {
        for message in dialect.messages {
            let (min, max) = oracle::payload_bounds(dialect, message);
            let size = |sample: &_| {
                let frame = oracle::write(dialect, message, sample);
                frame.len() - oracle::header_size(dialect)
            };
            let samples = samples(message);
            let first = &samples[0];
            assert_eq!(first.size, Size::Minimal);
            assert_eq!(size(&first.values), min, "{}", message.label);
            let last = samples.last().unwrap();
            if max < usize::from(u16::MAX) {
                assert_eq!(size(&last.values), max, "{}", message.label);
            }
        }
    }
}
