//! The oracle reads what QEMU sent.

mod support;

use std::collections::BTreeMap;

use retpath_spec::table::return_path::{QEMU, V7};
use support::reading::read_with_oracle;
use support::{recordings, return_paths};

#[test]
fn oracle_reads_every_byte_of_the_recorded_return_paths() {
    for (file, input) in recordings() {
        let (seen, refused) = read_with_oracle(&QEMU, &input);
        assert_eq!(refused, None, "{file}");
        // The recording ends with a complete message: without its last byte, that
        // message is missing.
        let last = seen.last().unwrap().offset;
        assert!(last < input.len(), "{file}");
        let (before, refused) = read_with_oracle(&QEMU, &input[..input.len() - 1]);
        assert_eq!((before.len(), refused), (seen.len() - 1, None), "{file}");
    }
}

#[test]
fn oracle_counts_the_messages_of_a_plain_migration() {
    let files: BTreeMap<_, _> = recordings().into_iter().collect();
    let (seen, _) = read_with_oracle(&QEMU, &files["qemu-7.2-plain.ch0.rp"]);
    let mut counts = BTreeMap::new();
    for message in &seen {
        *counts.entry(message.label.as_str()).or_insert(0) += 1;
    }
    let expected = [
        ("PONG", 4),
        ("REQ_PAGES", 56),
        ("REQ_PAGES_ID", 1),
        ("SHUT", 1),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
    let values: Vec<_> = seen.iter().filter(|m| m.label == "PONG").collect();
    let values: Vec<_> = values.iter().map(|m| m.fields[0].1.as_str()).collect();
    assert_eq!(values, ["1", "2", "4", "3"]);
}

#[test]
fn oracle_reads_every_seed() {
    for dialect in [&QEMU, &V7] {
        for (file, input) in return_paths(&format!("corpus/seed/{}", dialect.name)) {
            let (seen, refused) = read_with_oracle(dialect, &input);
            assert_eq!(refused, None, "{file}");
            let is_session = file.starts_with("session-");
            assert_eq!(seen.len() > 1, is_session, "{file}");
            assert!(!seen.is_empty(), "{file}");
        }
    }
}
