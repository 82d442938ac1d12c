//! `fuzz/*.dict`: the dictionaries of the fuzz targets.
//!
//! Each line is `name="bytes"`; libFuzzer ignores the name.

use std::collections::BTreeSet;

use super::stream::{Load, Stream};
use super::{Output, notice};
use retpath_spec::model::{Body, Dialect, Kind, Trailer};
use retpath_spec::oracle::header_size;
use retpath_spec::sample::{BLOCK, PAGE, samples};
use retpath_spec::table::command::COMMAND;
use retpath_spec::table::return_path::{BITMAP_END, QEMU, V7};
use retpath_spec::table::{ram, stream as table};

/// Page sizes of hosts: 4 KiB, 64 KiB, 2 MiB, 1 GiB.
const PAGES: [u64; 4] = [PAGE, 64 << 10, 2 << 20, 1 << 30];

/// The dictionaries.
pub fn outputs() -> Vec<Output> {
    let output = |path: &str, dict: Dict| Output {
        path: path.into(),
        bytes: dict.text.into_bytes(),
    };
    Vec::from([
        output("fuzz/forward.dict", forward()),
        output("fuzz/return_path.dict", return_path()),
    ])
}

fn return_path() -> Dict {
    let mut dict = Dict::new();
    for dialect in [&QEMU, &V7] {
        dict.headers(dialect);
        dict.fixed_values(dialect);
        for message in dialect.messages {
            if message.trailer == Some(Trailer::Bitmap) {
                for sample in samples(message) {
                    let size = &sample.trailer[..8];
                    dict.add("bitmap_size", size);
                }
                dict.add("bitmap_end", &BITMAP_END.to_be_bytes());
            }
            for kind in message.fields.iter().map(|field| field.kind) {
                dict.lengths(kind);
            }
        }
    }
    dict.name();
    dict
}

fn forward() -> Dict {
    let mut dict = Dict::new();
    dict.pieces("header", Stream::default().header());
    for section in table::SECTIONS {
        dict.add(section.label, &[section.number]);
    }
    let ram = Stream::default().ram_start(1).footer(1);
    dict.pieces("ram", ram);
    for subsection in table::SUBSECTIONS {
        let stream = Stream::default().subsection(subsection.name, &[]);
        dict.pieces(subsection.name, stream);
    }
    dict.headers(&COMMAND);
    dict.fixed_values(&COMMAND);
    for record in ram::RECORDS {
        match record.body {
            Body::Modifier => {}
            Body::Fill | Body::Page | Body::Xbzrle | Body::Compressed => {
                for offset in [0, PAGE] {
                    for block in [None, Some("pc.ram")] {
                        let stream = Stream::default();
                        let stream = stream.page(record.label, offset, block, Load::Bytes(&[]));
                        dict.pieces(record.label, stream);
                    }
                }
            }
            Body::Nothing | Body::BlockList | Body::Refused => {
                dict.pieces(record.label, Stream::default().word(record.label));
            }
        }
    }
    dict.lengths(Kind::Be64);
    dict.name();
    dict
}

/// A dictionary under construction, without duplicate entries.
struct Dict {
    text: String,
    seen: BTreeSet<Vec<u8>>,
}

impl Dict {
    fn new() -> Self {
        Self {
            text: notice("#"),
            seen: BTreeSet::new(),
        }
    }

    fn add(&mut self, name: &str, bytes: &[u8]) {
        if !self.seen.insert(bytes.into()) {
            return;
        }
        let name: String = name
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '_' })
            .collect();
        let value: String = bytes.iter().map(|byte| escaped(*byte)).collect();
        self.text += &format!("{}=\"{value}\"\n", name.to_lowercase());
    }

    fn pieces(&mut self, name: &str, stream: Stream) {
        for piece in stream.pieces {
            self.add(name, &piece.bytes);
        }
    }

    /// The headers of all messages, with the length of each sample.
    fn headers(&mut self, dialect: &Dialect) {
        for message in dialect.messages {
            for sample in samples(message) {
                let bytes = sample.bytes(dialect, message);
                self.add(message.label, &bytes[..header_size(dialect)]);
            }
        }
    }

    /// The smallest payload of every message with a restricted value.
    fn fixed_values(&mut self, dialect: &Dialect) {
        for message in dialect.messages {
            let fixed =
                |field: &retpath_spec::model::Field| field.rule != retpath_spec::model::Rule::Any;
            if message.fields.iter().any(fixed) {
                let bytes = samples(message)[0].bytes(dialect, message);
                self.add(message.label, &bytes[header_size(dialect)..]);
            }
        }
    }

    /// Page sizes as fields of this kind.
    fn lengths(&mut self, kind: Kind) {
        for page in PAGES {
            match kind {
                Kind::Be32 => {
                    let bytes = page.to_be_bytes();
                    self.add("page_be32", &bytes[4..]);
                }
                Kind::Be64 => self.add("page_be64", &page.to_be_bytes()),
                Kind::FlaggedBe64 => self.add("page_flagged", &(page | 1).to_be_bytes()),
                _ => {}
            }
        }
    }

    fn name(&mut self) {
        let len = u8::try_from(BLOCK.len()).expect("a short name");
        self.add("block", &[&[len], BLOCK].concat());
    }
}

fn escaped(byte: u8) -> String {
    match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        0x20..0x7f => char::from(byte).into(),
        _ => format!("\\x{byte:02x}"),
    }
}
