//! Builds forward streams from the rows, piece by piece.
//!
//! The oracle writes commands; header, sections and RAM records are composed
//! here. Every piece has a description, so that a stream serves as a seed and as
//! an example of the reference.
//!
//! Callers use labels of the tables; an unknown label panics.

use retpath_spec::model::{Dialect, Record, Section};
use retpath_spec::oracle::{self, Value};
use retpath_spec::sample::{PAGE, row};
use retpath_spec::table::command::COMMAND;
use retpath_spec::table::{ram, stream as table};

/// A piece of a stream.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Description.
    pub what: String,
    /// Bytes.
    pub bytes: Vec<u8>,
}

/// A stream under construction.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
}

/// The body of a RAM record.
#[derive(Clone, Copy, Debug)]
pub enum Load<'a> {
    /// A byte that fills the page.
    Fill(u8),
    /// A page filled with this byte.
    Page(u8),
    /// These bytes.
    Bytes(&'a [u8]),
}

impl Stream {
    /// All bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let pieces = self.pieces.iter();
        pieces.flat_map(|p| p.bytes.iter().copied()).collect()
    }

    /// Any bytes.
    pub fn raw(mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push(Piece {
            what: what.into(),
            bytes: bytes.into(),
        });
        self
    }

    /// Magic number and version.
    pub fn header(self) -> Self {
        let magic = table::MAGIC.to_be_bytes();
        let version = table::VERSION.to_be_bytes();
        self.raw("header", [magic, version].concat())
    }

    /// The configuration section, without subsections.
    pub fn configuration(self, machine: &str) -> Self {
        let mut bytes = Vec::from([section("CONFIGURATION").number]);
        bytes.extend(be32(machine.len()));
        bytes.extend(machine.bytes());
        self.raw(format!("CONFIGURATION `{machine}`"), bytes)
    }

    /// A subsection of the configuration around `payload`.
    pub fn subsection(self, name: &str, payload: &[u8]) -> Self {
        assert!(
            table::SUBSECTIONS.iter().any(|s| s.name == name),
            "{name} is not a subsection"
        );
        let mut bytes = Vec::from([section("SUBSECTION").number]);
        bytes.extend(str8(name.as_bytes()));
        bytes.extend(table::SUBSECTION_VERSION.to_be_bytes());
        bytes.extend(payload);
        self.raw(format!("SUBSECTION `{name}`"), bytes)
    }

    /// A message of `dialect` and its trailer.
    pub fn message(
        self,
        dialect: &'static Dialect,
        label: &str,
        values: &[Value],
        trailer: &[u8],
    ) -> Self {
        let mut bytes = oracle::write(dialect, row(dialect, label), values);
        bytes.extend(trailer);
        self.raw(line(label, values), bytes)
    }

    /// A command.
    pub fn command(self, label: &str, values: &[Value]) -> Self {
        let bytes = oracle::write(&COMMAND, row(&COMMAND, label), values);
        self.raw(format!("COMMAND {}", line(label, values)), bytes)
    }

    /// A package that contains the pieces of `inner`.
    pub fn packaged(self, inner: Self) -> Self {
        let size = inner.pieces.iter().map(|p| p.bytes.len()).sum();
        let size = u64::from(u32::from_be_bytes(be32(size)));
        let outer = self.command("PACKAGED", &[Value::Number(size)]);
        inner.pieces.into_iter().fold(outer, |outer, piece| {
            outer.raw(format!("  {}", piece.what), piece.bytes)
        })
    }

    /// SECTION_START of the `ram` section.
    pub fn ram_start(self, id: u32) -> Self {
        let name = table::RAM_NAME.as_bytes();
        let instance = table::RAM_INSTANCE.to_be_bytes();
        let version = table::RAM_VERSION.to_be_bytes();
        let mut bytes = Vec::from([section("SECTION_START").number]);
        bytes.extend(id.to_be_bytes());
        bytes.extend(str8(name));
        bytes.extend([instance, version].concat());
        self.raw(format!("SECTION_START `ram`, section id {id}"), bytes)
    }

    /// SECTION_FULL: the state of a device.
    pub fn full(self, id: u32, name: &str, version: u32, payload: &[u8]) -> Self {
        let mut bytes = Vec::from([section("SECTION_FULL").number]);
        bytes.extend(id.to_be_bytes());
        bytes.extend(str8(name.as_bytes()));
        bytes.extend([0_u32.to_be_bytes(), version.to_be_bytes()].concat());
        bytes.extend(payload);
        self.raw(format!("SECTION_FULL `{name}`, section id {id}"), bytes)
    }

    /// SECTION_PART or SECTION_END of the section with this id.
    pub fn piece(self, label: &str, id: u32) -> Self {
        let mut bytes = Vec::from([section(label).number]);
        bytes.extend(id.to_be_bytes());
        self.raw(format!("{label}, section id {id}"), bytes)
    }

    /// A section that consists of its type byte.
    pub fn bare(self, label: &str) -> Self {
        self.raw(label, [section(label).number])
    }

    /// The footer of the section with this id.
    pub fn footer(self, id: u32) -> Self {
        self.piece("SECTION_FOOTER", id)
    }

    /// The list of RAM blocks: names and lengths in bytes.
    pub fn ram_blocks(self, blocks: &[(&str, u64)]) -> Self {
        let total: u64 = blocks.iter().map(|(_, len)| len).sum();
        let word = total | record("MEM_SIZE").flag;
        let head = self.raw(format!("MEM_SIZE {total:#x}"), word.to_be_bytes());
        blocks.iter().fold(head, |list, (name, len)| {
            let mut bytes = str8(name.as_bytes());
            bytes.extend(len.to_be_bytes());
            list.raw(format!("  block `{name}`, {len:#x} bytes"), bytes)
        })
    }

    /// A record of the page at `offset` of `block`, or of the current block.
    pub fn page(self, label: &str, offset: u64, block: Option<&str>, load: Load<'_>) -> Self {
        let mut word = offset | record(label).flag;
        let mut name = Vec::new();
        let mut what = format!("{label} {offset:#x}");
        match block {
            Some(block) => {
                name = str8(block.as_bytes());
                what += &format!(" of `{block}`");
            }
            None => {
                word |= record("CONTINUE").flag;
                what += ", CONTINUE";
            }
        }
        let mut bytes = Vec::from(word.to_be_bytes());
        bytes.extend(name);
        match load {
            Load::Fill(byte) => bytes.push(byte),
            Load::Page(byte) => bytes.extend((0..PAGE).map(|_| byte)),
            Load::Bytes(more) => bytes.extend(more),
        }
        self.raw(what, bytes)
    }

    /// A record that consists of its word.
    pub fn word(self, label: &str) -> Self {
        self.raw(label, record(label).flag.to_be_bytes())
    }
}

/// A message and its values in one line.
pub fn line(label: &str, values: &[Value]) -> String {
    let mut text = label.to_string();
    for value in values {
        text += &match value {
            Value::Number(n) => format!(" {n:#x}"),
            Value::Name(name) => format!(" `{}`", name.escape_ascii()),
            Value::NoName | Value::PageSizes(None) => continue,
            Value::PageSizes(Some((summary, target))) => format!(" {summary:#x} {target:#x}"),
            Value::Ranges(ranges) => ranges
                .iter()
                .map(|(start, len)| format!(" {start:#x}+{len:#x}"))
                .collect(),
        };
    }
    text
}

/// The row of a section.
pub fn section(label: &str) -> &'static Section {
    let found = table::SECTIONS.iter().find(|s| s.label == label);
    found.expect("a section of the table")
}

/// The row of a RAM record.
pub fn record(label: &str) -> &'static Record {
    let found = ram::RECORDS.iter().find(|r| r.label == label);
    found.expect("a RAM record of the table")
}

fn be32(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("samples are small").to_be_bytes()
}

fn str8(name: &[u8]) -> Vec<u8> {
    let len = u8::try_from(name.len()).expect("a short name");
    [&[len], name].concat()
}
