//! Tables over all entries: what QEMU accepts, and what each release added.

use std::collections::BTreeMap;

use super::super::text::Text;
use super::entry::{has_entry, link, linked};
use super::forward;
use retpath_spec::model::Refusal;
use retpath_spec::table::return_path::QEMU;
use retpath_spec::table::{DIALECTS, command::COMMAND, ram, stream};

/// One table of everything that QEMU accepts and this project refuses.
pub(super) fn table(out: &mut Text) {
    out.line("| in | this project refuses | QEMU |");
    out.line("|---|---|---|");
    let mut points: Vec<(&str, &str, Vec<String>)> = Vec::new();
    let mut add = |place: String, refusals: &[Refusal]| {
        for refusal in refusals {
            let Some(laxer) = refusal.laxer else { continue };
            let known = points
                .iter_mut()
                .find(|p| (p.0, p.1) == (refusal.what, laxer));
            match known {
                Some((_, _, places)) => places.push(place.clone()),
                None => points.push((refusal.what, laxer, Vec::from([place.clone()]))),
            }
        }
    };
    for dialect in DIALECTS {
        for message in dialect.messages.iter().filter(|m| has_entry(dialect, m)) {
            add(link(dialect, message), message.refuse);
        }
    }
    for section in stream::SECTIONS {
        add(
            linked(&forward::section_heading(section), section.label),
            section.refuse,
        );
    }
    for record in ram::RECORDS {
        add(
            linked(&forward::record_heading(record), record.label),
            record.refuse,
        );
    }
    for (what, laxer, places) in points {
        out.line(&format!("| {} | {what} | {laxer} |", places.join(", ")));
    }
    out.line("");
}

/// Releases, and what each added.
pub(super) fn releases(out: &mut Text) {
    let mut since: BTreeMap<(u32, u32), (String, Vec<String>)> = BTreeMap::new();
    let mut add = |release: &str, what: String| {
        let first = release.split([' ', ',']).next().unwrap_or(release);
        if let Some(order) = order(first) {
            since
                .entry(order)
                .or_insert((first.into(), Vec::new()))
                .1
                .push(what);
        }
    };
    for (dialect, kind) in [(&QEMU, "message"), (&COMMAND, "command")] {
        for message in dialect.messages {
            add(message.since, format!("{kind} {}", link(dialect, message)));
        }
    }
    for record in ram::RECORDS {
        add(record.since, format!("RAM record {}", record.label));
    }
    for subsection in stream::SUBSECTIONS {
        add(subsection.since, format!("`{}`", subsection.name));
    }
    out.line("| release | added |");
    out.line("|---|---|");
    for (release, what) in since.into_values() {
        out.line(&format!("| {release} | {} |", what.join(", ")));
    }
    out.line("");
}

/// A release as a pair of numbers that sorts.
fn order(release: &str) -> Option<(u32, u32)> {
    let (major, minor) = release.split_once('.')?;
    major.parse().ok().zip(minor.parse().ok())
}
