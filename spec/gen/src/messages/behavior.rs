//! Tables of capabilities and of what QEMU does.

use super::super::text::Text;
use super::entry::{evidence, prose};
use retpath_spec::model::Behavior;
use retpath_spec::table::behavior::{DESTINATION, RETURN_PATH_ERRORS, SOURCE};
use retpath_spec::table::capability::CAPABILITIES;

/// The capabilities.
pub(super) fn capabilities(out: &mut Text) {
    prose(
        out,
        "A capability is an option of the migration (`migrate-set-capabilities`). It must be set \
         alike on both sides before the migration starts; the stream does not announce it, except \
         in the configuration.",
    );
    out.line("| capability | effect on the protocol | since |");
    out.line("|---|---|---|");
    for row in CAPABILITIES {
        out.line(&format!("| {} | {} | {} |", row.name, row.doc, row.since));
    }
    out.line("");
}

/// What a QEMU peer does.
pub(super) fn chapter(out: &mut Text) {
    for (title, rows) in [
        ("A QEMU source", SOURCE),
        (
            "A QEMU source after a malformed message",
            RETURN_PATH_ERRORS,
        ),
        ("A QEMU destination", DESTINATION),
    ] {
        out.line(&format!("### {title}"));
        out.line("");
        table(out, rows);
    }
}

/// Statements about what QEMU does, as a table.
pub(super) fn table(out: &mut Text, rows: &[Behavior]) {
    statements(out, "behavior", rows);
}

/// Statements as a table, under this heading.
pub(super) fn statements(out: &mut Text, heading: &str, rows: &[Behavior]) {
    out.line(&format!("| releases | {heading} | evidence |"));
    out.line("|---|---|---|");
    for row in rows {
        let releases = match row.releases {
            "" => "all",
            releases => releases,
        };
        let evidence = evidence(row.seen);
        out.line(&format!("| {releases} | {} | {evidence} |", row.what));
    }
    out.line("");
}
