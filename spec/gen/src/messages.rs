//! `spec/MESSAGES.md`: the protocol reference.
//!
//! Layouts, lengths, examples, lists and statements about QEMU come from the
//! tables; the text around them is in `messages/*.md`.

mod behavior;
mod cells;
mod dump;
mod entry;
mod forward;
mod lax;
#[cfg(test)]
mod tests;

use self::cells::Cell;
use super::text::Text;
use super::{Output, session};
use retpath_spec::model::Dialect;
use retpath_spec::oracle::payload_bounds;
use retpath_spec::table::behavior::{ABSENT, CHANGES, CHANNELS};
use retpath_spec::table::command::COMMAND;
use retpath_spec::table::return_path::{QEMU, V7};

/// Columns of a line of prose.
const WIDTH: usize = 130;

/// The reference.
pub fn output() -> Output {
    let mut out = Text::new("");
    out.line("<!-- Written by `cargo rp-gen` from spec/src/table and spec/gen/src/messages. -->");
    out.line("");
    fragment(&mut out, include_str!("messages/introduction.md"));
    chapter(&mut out, "Capabilities");
    behavior::capabilities(&mut out);

    chapter(&mut out, "The frame of a return-path message");
    frame(&mut out);
    chapter(&mut out, "Messages of the return path");
    entry::prose(&mut out, QEMU.doc);
    overview(&mut out, &QEMU);
    for message in QEMU.messages {
        entry::write(&mut out, &QEMU, message);
    }

    chapter(&mut out, "The draft dialect, v7");
    entry::prose(&mut out, V7.doc);
    fragment(&mut out, include_str!("messages/draft.md"));
    overview(&mut out, &V7);
    for message in V7.messages.iter().filter(|m| entry::has_entry(&V7, m)) {
        entry::write(&mut out, &V7, message);
    }

    chapter(&mut out, "The forward stream");
    fragment(&mut out, include_str!("messages/forward.md"));
    forward::sections(&mut out);
    chapter(&mut out, "Commands");
    entry::prose(&mut out, COMMAND.doc);
    overview(&mut out, &COMMAND);
    for message in COMMAND.messages {
        entry::write(&mut out, &COMMAND, message);
    }
    chapter(&mut out, "RAM records");
    fragment(&mut out, include_str!("messages/ram.md"));
    forward::records(&mut out, include_str!("messages/blocks.md"));

    chapter(&mut out, "Sequences");
    sequences(&mut out);
    complete_migration(&mut out);
    chapter(&mut out, "Rules for implementations");
    fragment(&mut out, include_str!("messages/conduct.md"));
    chapter(&mut out, "Behavior of QEMU");
    behavior::chapter(&mut out);
    chapter(&mut out, "Where QEMU is laxer than this project");
    entry::prose(
        &mut out,
        "Defects that this project refuses and QEMU accepts. A peer must not rely on any of them: a \
         later release may refuse them, and QEMU seldom treats them as the sender intended.",
    );
    lax::table(&mut out);
    chapter(&mut out, "Changes by release");
    lax::releases(&mut out);
    entry::prose(&mut out, "Changes that brought no new layout:");
    behavior::statements(&mut out, "change", CHANGES);
    entry::prose(&mut out, "What does not exist:");
    behavior::statements(&mut out, "absent", ABSENT);

    let text = out.finish();
    Output {
        path: "spec/MESSAGES.md".into(),
        bytes: format!("{}\n", text.trim_end()).into_bytes(),
    }
}

fn chapter(out: &mut Text, title: &str) {
    out.line(&format!("## {title}"));
    out.line("");
}

/// The text on sequences, with the table of channels in its place.
fn sequences(out: &mut Text) {
    let words = include_str!("messages/sequences.md");
    let (before, after) = words.split_once("{channels}").unwrap_or((words, ""));
    fragment(out, before.trim_end());
    behavior::table(out, CHANNELS);
    fragment(out, after.trim_start());
}

/// Text from a file, with figures of the merged dialect filled in: limit and
/// longest payload, number of messages.
fn fragment(out: &mut Text, words: &str) {
    let bounds = QEMU.messages.iter().map(|m| payload_bounds(&QEMU, m).1);
    let words = words
        .replace("{max}", &QEMU.max_payload.to_string())
        .replace("{longest}", &bounds.max().unwrap_or(0).to_string())
        .replace("{count}", &QEMU.messages.len().to_string());
    words.lines().for_each(|line| out.line(line));
    out.line("");
}

fn frame(out: &mut Text) {
    let layout = [
        Cell::integer("type", 2, "type of the message"),
        Cell::integer("length", 2, "size of the payload").unit("bytes"),
        Cell::bytes("payload", "length", "depends on the type"),
    ];
    cells::diagram(out, &layout);
    cells::table(out, &layout);
    fragment(out, include_str!("messages/frame.md"));
}

/// All messages of a dialect in one table.
fn overview(out: &mut Text, dialect: &Dialect) {
    out.line("| number | name | payload, bytes | since | meaning |");
    out.line("|---|---|---|---|---|");
    let reserved = &dialect.reserved;
    out.line(&format!(
        "| {} | `{}` | | | {} Always refused. |",
        reserved.number, reserved.qemu, reserved.doc
    ));
    for message in dialect.messages {
        let (min, max) = payload_bounds(dialect, message);
        let payload = match min == max {
            true => format!("{min}"),
            false => format!("{min} to {max}"),
        };
        let link = entry::link(dialect, message);
        out.line(&format!(
            "| {} | {link} | {payload} | {} | {} |",
            message.number, message.since, message.doc
        ));
    }
    out.line("");
}

fn complete_migration(out: &mut Text) {
    out.line("### A complete migration");
    out.line("");
    entry::prose(
        out,
        "The forward stream of a minimal postcopy migration: one RAM block of four target pages, and \
         one device whose state is three bytes. A real destination requires the block names, lengths \
         and machine type of its own machine.",
    );
    dump::listing(out, &forward::spans(&session::postcopy().pieces));
    entry::prose(out, "The return path of a larger migration:");
    let paths = session::return_paths();
    paths
        .iter()
        .filter(|(dialect, name, _)| dialect.name == QEMU.name && *name == "postcopy")
        .for_each(|(_, _, stream)| dump::listing(out, &forward::spans(&stream.pieces)));
}
