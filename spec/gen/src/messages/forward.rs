//! Header, sections and RAM records of the forward stream.

use super::super::stream::{Load, Piece, Stream};
use super::super::{session, text::Text};
use super::cells::{self, Cell};
use super::dump::{self, Span};
use super::entry::{self, prose};
use retpath_spec::model::{Body, Form, Legal, Part, Record, Section};
use retpath_spec::table::{ram, stream};

/// Header, sections and configuration.
pub(super) fn sections(out: &mut Text) {
    out.line("### The header");
    out.line("");
    let magic = Cell::integer("magic", 4, "\"QEVM\"").value(format!("{:#010x}", stream::MAGIC));
    let version = Cell::integer("version", 4, "any other value is refused").value(stream::VERSION);
    let header = [magic, version];
    cells::diagram(out, &header);
    cells::table(out, &header);
    prose(
        out,
        "The header is at the start of a main channel. A resumed channel has none. Evidence: read 2.5, \
         10.2; recorded 5.2, 7.2, 10.0, 11.1.",
    );

    out.line("### Overview of sections");
    out.line("");
    out.line("| byte | section | QEMU's name | footer | meaning |");
    out.line("|---|---|---|---|---|");
    for section in stream::SECTIONS {
        out.line(&format!(
            "| {:#04x} | {} | `{}` | {} | {} |",
            section.number,
            entry::linked(&section_heading(section), section.label),
            section.qemu,
            if section.footer { "yes" } else { "no" },
            section.doc,
        ));
    }
    out.line("");
    for section in stream::SECTIONS {
        self::section(out, section);
    }
}

pub(super) fn section_heading(section: &Section) -> String {
    format!("{} (section {:#04x})", section.label, section.number)
}

fn section(out: &mut Text, section: &Section) {
    out.line(&format!("### {}", section_heading(section)));
    out.line("");
    prose(out, section.doc);
    let first =
        Cell::integer("section", 1, section.label).value(format!("{:#04x}", section.number));
    let mut layout = Vec::from([first]);
    layout.extend(section.parts.iter().flat_map(part));
    cells::diagram(out, &layout);
    cells::table(out, &layout);
    match section.label {
        "CONFIGURATION" => subsections(out),
        "SECTION_START" => prose(
            out,
            &format!(
                "The RAM section has the name `{}`, instance {} and version {}.",
                stream::RAM_NAME,
                stream::RAM_INSTANCE,
                stream::RAM_VERSION,
            ),
        ),
        _ => {}
    }
    prose(
        out,
        &format!("Evidence: {}.", entry::evidence(section.seen)),
    );
    if !section.refuse.is_empty() {
        out.line("A receiver must refuse:");
        out.line("");
        entry::list(out, section.refuse);
    }
}

fn subsections(out: &mut Text) {
    prose(
        out,
        &format!(
            "Subsections of the configuration, in this order; each is optional. Each has the layout of \
             a SUBSECTION with version {}. The first byte that is not a SUBSECTION ends them. Evidence: \
             read 10.2; none of them occurs in the recordings of x86 machines.",
            stream::SUBSECTION_VERSION
        ),
    );
    out.line("| name | payload | present if | since |");
    out.line("|---|---|---|---|");
    for subsection in stream::SUBSECTIONS {
        let payload: Vec<String> = subsection
            .parts
            .iter()
            .map(|part| format!("{}: {}", notation(part.form), part.doc))
            .collect();
        out.line(&format!(
            "| `{}` | {} {} | {} | {} |",
            subsection.name,
            subsection.doc,
            payload.join(", "),
            subsection.when,
            subsection.since,
        ));
    }
    out.line("");
}

pub(super) fn notation(form: Form) -> String {
    match form {
        Form::Be16 => "`be16`".into(),
        Form::Be32 => "`be32`".into(),
        Form::Bytes(size) => dump::bytes(&size),
        Form::Name => "`str8`".into(),
        Form::Text => "`be32` n, n bytes".into(),
        Form::Names => "`be32` count, count × `str8`".into(),
        Form::Counted | Form::Open => "bytes".into(),
    }
}

pub(super) fn part(part: &Part) -> Vec<Cell> {
    let (name, doc) = (part.name, part.doc);
    match part.form {
        Form::Be16 => Vec::from([Cell::integer(name, 2, doc)]),
        Form::Be32 => Vec::from([Cell::integer(name, 4, doc)]),
        Form::Bytes(size) => Vec::from([Cell::integer(name, size, doc)]),
        Form::Name => cells::name(name, doc).into(),
        Form::Text => Vec::from([
            Cell::integer("n", 4, &format!("length of the {name}")).unit("bytes"),
            Cell::bytes(name, "n", doc),
        ]),
        Form::Names => Vec::from([
            Cell::integer("count", 4, "number of names"),
            Cell::bytes(name, "?", doc),
        ]),
        Form::Counted => Vec::from([Cell::bytes(name, "length", doc)]),
        Form::Open => Vec::from([Cell::bytes(name, "?", doc)]),
    }
}

/// The RAM records.
pub(super) fn records(out: &mut Text, blocks: &str) {
    let word = [
        Cell::integer("offset and flags", 8, "see above"),
        Cell::integer("n", 1, "length of `block`")
            .unit("bytes")
            .optional(),
        Cell::bytes("block", "n", "RAM block, unless CONTINUE is set").optional(),
        Cell::bytes("body", "…", "depends on the flag"),
    ];
    cells::diagram(out, &word);
    out.line("| flag | record | QEMU's name | body | before LISTEN | after LISTEN | preempt channel | since |");
    out.line("|---|---|---|---|---|---|---|---|");
    for record in ram::RECORDS {
        let Legal {
            precopy,
            postcopy,
            preempt,
        } = record.legal;
        let places = [precopy, postcopy, preempt].map(|yes| if yes { "yes" } else { "no" });
        out.line(&format!(
            "| {:#05x} | {} | `{}` | {} | {} | {} |",
            record.flag,
            entry::linked(&record_heading(record), record.label),
            record.qemu,
            body(record.body),
            places.join(" | "),
            record.since,
        ));
    }
    out.line("");
    prose(
        out,
        "A receiver must refuse any other combination of flags, and a record where the table says \
         \"no\".",
    );
    for record in ram::RECORDS {
        out.line(&format!("### {}", record_heading(record)));
        out.line("");
        prose(out, record.doc);
        layout(out, record);
        if record.body == Body::BlockList {
            blocks.lines().for_each(|line| out.line(line));
            out.line("");
        }
        prose(out, &format!("Evidence: {}.", entry::evidence(record.seen)));
        if !record.refuse.is_empty() {
            out.line("A receiver must refuse:");
            out.line("");
            entry::list(out, record.refuse);
        }
        if let Some(stream) = example(record) {
            out.line("Example:");
            out.line("");
            dump::listing(out, &spans(&stream.pieces));
        }
    }
}

/// The word, the name if the record belongs to a block, and the body.
fn layout(out: &mut Text, record: &Record) {
    let word = format!("offset + {:#05x}", record.flag);
    let word = Cell::integer("word", 8, "offset of the page, and the flag").value(word);
    let mut cells = Vec::from([word]);
    if record.in_block {
        let doc = "RAM block, unless CONTINUE is set";
        cells.extend(cells::name("block", doc).map(Cell::optional));
    }
    match record.body {
        Body::Nothing | Body::Modifier | Body::Refused => return,
        Body::Fill => cells.push(Cell::integer("fill", 1, "value of every byte of the page")),
        Body::Page => cells.push(Cell::bytes("page", "target page", "contents")),
        Body::Xbzrle => cells.extend([
            Cell::integer("format", 1, "encoding").value(ram::XBZRLE_ENCODING),
            Cell::integer("m", 2, "length of the difference").unit("bytes"),
            Cell::bytes("difference", "m", "from the previously sent page"),
        ]),
        Body::Compressed => cells.extend([
            Cell::integer("m", 4, "length of the compressed page").unit("bytes"),
            Cell::bytes("compressed", "m", "the page in zlib format"),
        ]),
        Body::BlockList => {
            let word = format!("total + {:#05x}", record.flag);
            let doc = "total length of all blocks, and the flag";
            cells[0] = Cell::integer("word", 8, doc).value(word).unit("bytes");
            cells::diagram(out, &cells);
            prose(out, "For each block:");
            cells = cells::name("block", "name of the RAM block").into();
            cells.push(Cell::integer("length", 8, "used length of the block").unit("bytes"));
            let size = Cell::integer("page size", 8, "see below").unit("bytes");
            cells.push(size.optional());
        }
    }
    cells::diagram(out, &cells);
    cells::table(out, &cells);
}

pub(super) fn record_heading(record: &Record) -> String {
    format!("{} (RAM {:#05x})", record.label, record.flag)
}

fn body(body: Body) -> &'static str {
    match body {
        Body::Nothing => "nothing",
        Body::Modifier => "modifies a record of a block",
        Body::Fill => "`u8` fill byte",
        Body::Page => "the page",
        Body::BlockList => "the block list",
        Body::Xbzrle => "`u8` 1, `be16` n, n bytes",
        Body::Compressed => "`be32` n, n bytes",
        Body::Refused => "always refused",
    }
}

fn example(record: &Record) -> Option<Stream> {
    let wanted = |name: &str| {
        let mut records = session::records().into_iter();
        records.find_map(|(n, stream)| (n == name).then_some(stream))
    };
    match record.body {
        Body::Nothing => Some(Stream::default().word(record.label)),
        Body::Fill => wanted("zero-named"),
        Body::BlockList => wanted("mem_size-two"),
        Body::Xbzrle => wanted("xbzrle"),
        Body::Page => {
            let named =
                Stream::default().page(record.label, 0x2000, Some("pc.ram"), Load::Page(0x55));
            Some(named.page(record.label, 0x3000, None, Load::Page(0xaa)))
        }
        Body::Modifier | Body::Compressed | Body::Refused => None,
    }
}

/// The pieces of a stream for a listing.
pub(super) fn spans(pieces: &[Piece]) -> Vec<Span> {
    let spans = pieces.iter();
    spans
        .map(|piece| Span::new(&piece.bytes, piece.what.to_string()))
        .collect()
}
