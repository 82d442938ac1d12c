//! Layouts: a row of cells, drawn as a diagram or listed as a table.

use super::super::text::Text;
use retpath_spec::model::{Field, Kind, Rule, Unit};

/// Widest diagram, in columns.
const WIDTH: usize = 92;

/// Size of a cell.
#[derive(Clone, Debug)]
pub(super) enum Size {
    /// A fixed number of bytes.
    Bytes(usize),
    /// A number of bytes that the named field gives.
    Varies(&'static str),
}

/// One field of a layout.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Name.
    pub(super) name: String,
    /// Bytes.
    pub(super) size: Size,
    /// Whether the field may be absent.
    pub(super) optional: bool,
    /// Type, as the reference writes it.
    pub(super) ty: &'static str,
    /// Unit of the number.
    pub(super) unit: &'static str,
    /// Meaning.
    pub(super) doc: String,
    /// Its value, if it is constant or a formula.
    pub(super) value: Option<String>,
}

impl Cell {
    /// An integer.
    pub(super) fn integer(name: &str, size: usize, doc: &str) -> Self {
        let ty = match size {
            1 => "u8",
            2 => "be16",
            4 => "be32",
            8 => "be64",
            _ => "bytes",
        };
        Self {
            name: name.into(),
            size: Size::Bytes(size),
            optional: false,
            ty,
            unit: "",
            doc: doc.into(),
            value: None,
        }
    }

    /// Bytes; an earlier cell gives their number.
    pub(super) fn bytes(name: &str, number: &'static str, doc: &str) -> Self {
        Self {
            size: Size::Varies(number),
            ty: "bytes",
            ..Self::integer(name, 0, doc)
        }
    }

    /// With a constant value.
    pub(super) fn value(self, value: impl ToString) -> Self {
        Self {
            value: Some(value.to_string()),
            ..self
        }
    }

    /// With a unit.
    pub(super) fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// As an optional field.
    pub(super) fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    fn size_text(&self) -> String {
        let size = match self.size {
            Size::Bytes(size) => size.to_string(),
            Size::Varies(number) => number.to_string(),
        };
        match self.optional {
            true => format!("[{size}]"),
            false => size,
        }
    }
}

/// `u8` n and n bytes.
pub(super) fn name(name: &str, doc: &str) -> [Cell; 2] {
    [
        Cell::integer("n", 1, &format!("length of `{name}`")).unit("bytes"),
        Cell::bytes(name, "n", doc),
    ]
}

/// The cells of a field.
pub(super) fn field(field: &Field) -> Vec<Cell> {
    let mut doc = field.doc.to_string();
    match field.rule {
        Rule::Any | Rule::Equals(_) => {}
        Rule::Span => doc += &format!("; not 0, and start + {} at most 2^64 - 1", field.name),
    }
    let unit = match field.unit {
        Unit::Plain => "",
        Unit::Offset => "bytes from the block's start",
        Unit::Bytes => "bytes",
    };
    match field.kind {
        Kind::U8 | Kind::Be32 | Kind::Be64 => {
            let cell = Cell::integer(field.name, field.kind.min_size(), &doc).unit(unit);
            Vec::from([match field.rule {
                Rule::Equals(value) => cell.value(value),
                Rule::Any | Rule::Span => cell,
            }])
        }
        Kind::FlaggedBe64 => {
            Vec::from([Cell::integer(field.name, 8, &doc).unit("bytes, and a flag in bit 0")])
        }
        Kind::Name => name(field.name, &doc).into(),
        Kind::FlaggedName => name(field.name, &doc).map(Cell::optional).into(),
        Kind::PageSizes => {
            // One description covers both integers.
            let (summary, target) = doc.split_once(", then ").unwrap_or((&doc, &doc));
            [("page-size summary", summary), ("target page size", target)]
                .map(|(name, doc)| Cell::integer(name, 8, doc).unit(unit).optional())
                .into()
        }
        Kind::Ranges => Vec::from([
            Cell::integer("start", 8, &doc).unit("bytes from the block's start"),
            Cell::integer("length", 8, "not 0, and start + length at most 2^64 - 1").unit(unit),
            Cell::bytes(
                "further pairs",
                "16(k-1)",
                "starts and lengths, up to the end",
            ),
        ]),
    }
}

/// Offset of a cell.
#[derive(Clone, Default)]
pub(super) struct Offset {
    fixed: usize,
    vary: Vec<&'static str>,
}

impl Offset {
    pub(super) fn add(&mut self, cell: &Cell) {
        match cell.size {
            Size::Bytes(size) => self.fixed += size,
            Size::Varies(number) => self.vary.push(number),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut parts = Vec::from([self.fixed.to_string()]);
        parts.extend(self.vary.iter().map(ToString::to_string));
        if self.fixed == 0 && parts.len() > 1 {
            parts.remove(0);
        }
        parts.join("+")
    }
}

/// Total size of the cells: "4", "13 + n", "0 or 16".
pub(super) fn total(cells: &[Cell]) -> String {
    let sum = |wanted: &dyn Fn(&&Cell) -> bool| {
        let mut end = Offset::default();
        cells.iter().filter(wanted).for_each(|cell| end.add(cell));
        end.text().replace('+', " + ")
    };
    let least = sum(&|cell| !cell.optional);
    let most = sum(&|_| true);
    match least == most {
        true => most,
        false => format!("{least} or {most}"),
    }
}

/// The cells as a diagram.
pub(super) fn diagram(out: &mut Text, cells: &[Cell]) {
    out.line("```text");
    let mut offset = Offset::default();
    let mut rest = cells;
    while !rest.is_empty() {
        let mut width = 1;
        let fits = rest
            .iter()
            .take_while(|cell| {
                width += room(cell) + 1;
                width <= WIDTH
            })
            .count();
        let (band, after) = rest.split_at(fits.max(1));
        draw(out, band, &mut offset);
        rest = after;
    }
    out.line("```");
    out.line("");
}

/// Width of a cell in columns: that of its texts, or more for larger fields.
fn room(cell: &Cell) -> usize {
    let texts = [
        cell.name.len(),
        cell.value.as_ref().map_or(0, String::len),
        cell.size_text().len(),
    ];
    let bytes = match cell.size {
        Size::Bytes(size) => 2 * size.min(8) + 1,
        Size::Varies(_) => 9,
    };
    texts.into_iter().max().unwrap_or(0).max(bytes - 2) + 2
}

fn draw(out: &mut Text, band: &[Cell], offset: &mut Offset) {
    let mut above = String::from(" ");
    let mut border = String::from("+");
    let mut names = String::from("|");
    let mut values = String::from("|");
    let mut below = String::from(" ");
    for cell in band {
        let room = room(cell);
        above += &format!("{:<1$}", offset.text(), room + 1);
        let (line, side) = match cell.size {
            Size::Bytes(_) => ("-", "|"),
            Size::Varies(_) => ("~", "|"),
        };
        border += &format!("{}+", line.repeat(room));
        names += &format!("{:^room$}{side}", cell.name);
        let value = cell.value.as_deref().unwrap_or_default();
        values += &format!("{value:^room$}{side}");
        below += &format!("{:^room$} ", cell.size_text());
        offset.add(cell);
    }
    out.line(above.trim_end());
    out.line(&border);
    out.line(&names);
    if band.iter().any(|cell| cell.value.is_some()) {
        out.line(&values);
    }
    out.line(&border);
    out.line(below.trim_end());
}

/// The cells as a table.
pub(super) fn table(out: &mut Text, cells: &[Cell]) {
    out.line("| offset | size | field | type | value | unit | meaning |");
    out.line("|---|---|---|---|---|---|---|");
    let mut offset = Offset::default();
    for cell in cells {
        out.line(&format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            offset.text(),
            cell.size_text(),
            cell.name,
            cell.ty,
            cell.value.as_deref().unwrap_or_default(),
            cell.unit,
            cell.doc,
        ));
        offset.add(cell);
    }
    out.line("");
}
