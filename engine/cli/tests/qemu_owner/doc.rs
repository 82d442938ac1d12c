//! The table in SECURITY.md.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::rows::ROWS;
use crate::table::{RELEASES, Row};
use retpath_support::qemu::types::Release;

const BEGIN: &str = "<!-- made from engine/cli/tests/qemu_owner/rows.rs -->\n";
const END: &str = "<!-- end -->\n";

fn render() -> String {
    let mut text = String::new();
    let heads = [
        (true, "`retpath receive` (QEMU is the source)"),
        (false, "`retpath serve` (QEMU is the destination)"),
    ];
    for (receive, head) in heads {
        let _ = write!(
            text,
            "\n### {head}\n\n\
             | Phase | Failure | QEMU | The guest is at | `info migrate`, `info status` | To make it run |\n\
             |---|---|---|---|---|---|\n"
        );
        for row in ROWS.iter().filter(|row| row.phase.is_receive() == receive) {
            lines(row, &mut text);
        }
    }
    text.push('\n');
    text
}

/// One line for each of a row's outcomes that a tested release has.
fn lines(row: &Row, text: &mut String) {
    for (index, outcome) in row.outcomes.iter().enumerate() {
        let next = row.outcomes.get(index + 1);
        let has = |release: &&Release| {
            **release >= outcome.since && next.is_none_or(|next| **release < next.since)
        };
        let releases: Vec<_> = RELEASES.iter().filter(has).collect();
        let releases: Vec<_> = releases.iter().map(|(a, b)| format!("{a}.{b}")).collect();
        let releases = match releases.len() {
            n if n == RELEASES.len() => "all".to_owned(),
            _ => releases.join(", "),
        };
        let (Row { phase, failure, .. }, place) = (row, outcome.place);
        let (state, cure) = (outcome.state, outcome.cure);
        let _ = writeln!(
            text,
            "| {phase} | {failure} | {releases} | {place} | {state} | {cure} |"
        );
    }
}

#[test]
fn the_table_matches_the_tests() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SECURITY.md");
    let text = fs::read_to_string(&path).expect("SECURITY.md is there");
    let (head, rest) = text.split_once(BEGIN).expect("the table's beginning");
    let (table, tail) = rest.split_once(END).expect("the table's end");
    let made = render();
    if env::var_os("RETPATH_BLESS").is_some() {
        fs::write(path, format!("{head}{BEGIN}{made}{END}{tail}")).expect("it can be written");
        return;
    }
    assert_eq!(
        table, made,
        "stale: RETPATH_BLESS=1 cargo test -p retpath --test qemu_owner table"
    );
}

#[test]
fn each_case_is_in_the_table_once() {
    let rows: Vec<_> = ROWS.iter().collect();
    for (at, row) in rows.iter().enumerate() {
        let again = |other: &&&Row| other.phase == row.phase && other.failure == row.failure;
        assert!(rows[..at].iter().find(again).is_none(), "twice: {row:?}");
        let since: Vec<_> = row.outcomes.iter().map(|outcome| outcome.since).collect();
        assert!(since.is_sorted_by(|a, b| a < b), "out of order: {row:?}");
    }
}
