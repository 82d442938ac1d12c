//! The entry of one message or command.

use super::super::text::Text;
use super::cells::{self, Cell};
use super::dump;
use retpath_spec::model::{Dialect, Evidence, Literal, Message, Refusal, Source, Trailer};
use retpath_spec::oracle::payload_bounds;
use retpath_spec::sample::{Size, sample};
use retpath_spec::table::return_path::{BITMAP_END, QEMU, V7};

/// The heading of a message's entry.
pub(super) fn heading(dialect: &Dialect, message: &Message) -> String {
    let kind = match (dialect.lead, dialect.name) {
        ([], "qemu") => "return path",
        ([], name) => name,
        _ => "command",
    };
    format!("{} ({kind} {})", message.label, message.number)
}

/// A link to a message's entry.
pub(super) fn link(dialect: &Dialect, message: &Message) -> String {
    let dialect = if has_entry(dialect, message) {
        dialect
    } else {
        &QEMU
    };
    linked(&heading(dialect, message), message.label)
}

/// A link to a heading.
pub(super) fn linked(heading: &str, text: &str) -> String {
    format!("[{text}](#{})", anchor(heading))
}

/// Whether a message has an entry of its own. The draft's messages that are
/// equal in the merged dialect have none.
pub(super) fn has_entry(dialect: &Dialect, message: &Message) -> bool {
    let same = |other: &&Message| other.number == message.number && other.qemu == message.qemu;
    dialect.name != V7.name || !QEMU.messages.iter().any(|other| same(&other))
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| {
            if c == ' ' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// A message: purpose, layout, values, evidence, defects, example.
pub(super) fn write(out: &mut Text, dialect: &Dialect, message: &Message) {
    out.line(&format!("### {}", heading(dialect, message)));
    out.line("");
    prose(out, message.doc);
    prose(out, &format!("**Sender:** {}", message.when));

    let layout = layout(dialect, message);
    cells::diagram(out, &layout);
    cells::table(out, &layout);
    trailer(out, message);
    values(out, message);
    facts(out, dialect, message);
    refusals(out, dialect, message);

    let mut example = |title: &str, size: Size| {
        out.line(title);
        out.line("");
        let sample = sample(message, size);
        dump::listing(out, &dump::message(dialect, message, &sample));
    };
    example("Example:", Size::Typical);
    if payload(message).iter().any(|cell| cell.optional) {
        example("Example without optional fields:", Size::Minimal);
    }
}

/// Header and payload.
pub(super) fn layout(dialect: &Dialect, message: &Message) -> Vec<Cell> {
    let payload = payload(message);
    let mut cells = Vec::new();
    for byte in dialect.lead {
        let doc = "section type of a command";
        cells.push(Cell::integer("section", 1, doc).value(format!("{byte:#04x}")));
    }
    let number = Cell::integer(dump::type_name(dialect), 2, message.label);
    cells.push(number.value(message.number));
    let length = Cell::integer("length", 2, "size of the payload").unit("bytes");
    cells.push(length.value(cells::total(&payload)));
    cells.extend(payload);
    cells
}

fn payload(message: &Message) -> Vec<Cell> {
    message.fields.iter().flat_map(cells::field).collect()
}

fn trailer(out: &mut Text, message: &Message) {
    let cells = match message.trailer {
        None | Some(Trailer::End) => return,
        Some(Trailer::Bitmap) => {
            prose(
                out,
                "The bitmap follows directly behind the frame; the frame's length does not cover it:",
            );
            Vec::from([
                Cell::integer("S", 8, "size of the bitmap, a multiple of 8").unit("bytes"),
                Cell::bytes(
                    "bitmap",
                    "S",
                    "target page i of the block is bit i % 8 of byte i / 8, counted from the \
                     least significant one; 1 = received",
                ),
                Cell::integer("end mark", 8, "").value(format!("{BITMAP_END:#018x}")),
            ])
        }
        Some(Trailer::Package) => {
            prose(
                out,
                "The nested stream follows directly behind the command; the command's length does not \
                 cover it:",
            );
            let name = message.fields[0].name;
            let doc = "sections and commands, without header and EOF";
            Vec::from([Cell::bytes("nested stream", name, doc)])
        }
    };
    cells::diagram(out, &cells);
    cells::table(out, &cells);
    if message.trailer == Some(Trailer::Bitmap) {
        prose(
            out,
            "The bitmap of a block with p target pages has 8 × ⌈p / 64⌉ bytes. The bits beyond the \
             last page are 0.",
        );
    }
}

/// Values of the message's field that have a name.
fn values(out: &mut Text, message: &Message) {
    if message.values.is_empty() {
        return;
    }
    out.line(&format!("| {} | meaning | since |", message.fields[0].name));
    out.line("|---|---|---|");
    for row in message.values {
        let since = match row.since {
            "" => message.since,
            since => since,
        };
        let number = match row.value {
            Literal::U32(n) if n < 10 => n.to_string(),
            Literal::U32(n) => format!("{n:#x}"),
            other => format!("{other:?}"),
        };
        out.line(&format!("| {number} | {} | {since} |", row.doc));
    }
    out.line("");
}

fn facts(out: &mut Text, dialect: &Dialect, message: &Message) {
    out.line("| | |");
    out.line("|---|---|");
    let mut fact = |name: &str, value: &str| out.line(&format!("| {name} | {value} |"));
    fact(
        "QEMU's name",
        &format!(
            "`{}` ({} {})",
            message.qemu,
            dump::type_name(dialect),
            message.number
        ),
    );
    fact("payload", &dump::bytes(&cells::total(&payload(message))));
    fact("since", message.since);
    if !message.gate.is_empty() {
        fact("capability", &message.gate.join(" or "));
    }
    fact("written by", &place(&message.writer));
    fact("read by", &place(&message.reader));
    fact("evidence", &evidence(message.seen));
    out.line("");
}

fn place(source: &Source) -> String {
    format!("`{}`, `{}`", source.file, source.function)
}

fn refusals(out: &mut Text, dialect: &Dialect, message: &Message) {
    out.line("A receiver must refuse:");
    out.line("");
    let (min, max) = payload_bounds(dialect, message);
    let whole = usize::from(u16::MAX);
    out.line(&match (min, max) {
        (0, 0) => "- A payload.".into(),
        (0, max) => format!("- A payload of more than {}.", dump::bytes(&max)),
        (min, max) if min == max => format!("- A payload that is not {} long.", dump::bytes(&min)),
        (min, max) if max == whole => format!("- A payload of fewer than {}.", dump::bytes(&min)),
        (min, max) => format!(
            "- A payload of fewer than {min} or more than {}.",
            dump::bytes(&max)
        ),
    });
    list(out, message.refuse);
}

/// How something was established, in words.
pub(super) fn evidence(seen: &[Evidence]) -> String {
    let parts = seen.iter().map(|evidence| {
        let (word, releases) = (evidence.word(), evidence.releases());
        match evidence {
            Evidence::Unverified(_) => format!("{word}: {releases}"),
            _ => format!("{word} {releases}"),
        }
    });
    parts.collect::<Vec<String>>().join("; ")
}

/// Refusals as a list.
pub(super) fn list(out: &mut Text, refusals: &[Refusal]) {
    for refusal in refusals {
        let mut line = format!("- {}", refusal.what);
        if let Some(laxer) = refusal.laxer {
            line += &format!(" *{laxer}*");
        }
        if !refusal.seen.is_empty() {
            line += &format!(" ({})", evidence(refusal.seen));
        }
        out.line(&line);
    }
    out.line("");
}

/// A paragraph.
pub(super) fn prose(out: &mut Text, words: &str) {
    out.prose("", words, super::WIDTH);
    out.line("");
}
