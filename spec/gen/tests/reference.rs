//! `spec/MESSAGES.md` is complete and consistent.

use std::collections::BTreeSet;

use retpath_spec::table::DIALECTS;

const TEXT: &str = include_str!("../../MESSAGES.md");

/// Lines outside code blocks.
fn prose() -> impl Iterator<Item = &'static str> {
    let mut code = false;
    TEXT.lines().filter(move |line| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Anchors of the headings, as GitHub forms them.
fn anchors() -> Vec<String> {
    prose()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| {
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn headings_are_unique() {
    let anchors = anchors();
    let unique: BTreeSet<_> = anchors.iter().collect();
    assert_eq!(anchors.len(), unique.len());
}

#[test]
fn links_have_targets() {
    let anchors = anchors();
    let mut links = 0;
    for line in prose() {
        for link in line.split("](#").skip(1) {
            let target = link.split(')').next().unwrap();
            assert!(anchors.iter().any(|anchor| anchor == target), "{line}");
            links += 1;
        }
    }
    assert!(links > DIALECTS.iter().map(|d| d.messages.len()).sum::<usize>());
}

#[test]
fn contains_every_message_and_refusal() {
    for dialect in DIALECTS {
        for message in dialect.messages {
            assert!(TEXT.contains(message.doc), "{}", message.label);
            for refusal in message.refuse {
                assert!(TEXT.contains(refusal.what), "{}", refusal.what);
                if let Some(laxer) = refusal.laxer {
                    // Once in the entry and once in the table of all entries.
                    assert!(TEXT.matches(laxer).count() > 1, "{laxer}");
                }
            }
        }
    }
}

#[test]
fn table_rows_have_as_many_columns_as_their_header() {
    let mut columns = None;
    for line in prose() {
        if !line.starts_with('|') {
            columns = None;
            continue;
        }
        let count = line.matches('|').count();
        assert_eq!(*columns.get_or_insert(count), count, "{line}");
    }
}

#[test]
fn lines_outside_tables_have_at_most_140_columns() {
    let fits = |line: &str| line.starts_with('|') || line.starts_with("- ");
    for line in TEXT.lines().filter(|line| !fits(line)) {
        assert!(line.chars().count() <= 140, "{line}");
    }
}
