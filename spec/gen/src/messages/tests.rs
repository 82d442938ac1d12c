//! The reference on rows that the tables do not have.

use std::string::{String, ToString};

use super::cells::{Cell, Offset};
use super::{dump, forward};
use retpath_spec::model::{Form, Part};

const FORMS: [Form; 8] = [
    Form::Be16,
    Form::Be32,
    Form::Bytes(3),
    Form::Name,
    Form::Text,
    Form::Names,
    Form::Counted,
    Form::Open,
];

#[test]
fn has_a_notation_for_every_form() {
    let words = FORMS.map(forward::notation);
    let wanted = [
        "`be16`",
        "`be32`",
        "3 bytes",
        "`str8`",
        "`be32` n, n bytes",
        "`be32` count, count × `str8`",
        "bytes",
        "bytes",
    ];
    assert_eq!(words, wanted);
}

#[test]
fn has_a_cell_for_every_form() {
    let cells = |form| -> Vec<String> {
        let doc = "a part";
        let part = Part {
            name: "part",
            form,
            doc,
        };
        let cells = forward::part(&part).into_iter();
        let mut offset = Offset::default();
        let shown = cells.map(|cell| {
            let at = offset.text();
            offset.add(&cell);
            format!("{at} {} {}", cell.name, cell.ty)
        });
        let mut shown: Vec<String> = shown.collect();
        shown.push(offset.text());
        shown
    };
    assert_eq!(cells(Form::Be16), ["0 part be16", "2"]);
    assert_eq!(cells(Form::Be32), ["0 part be32", "4"]);
    assert_eq!(cells(Form::Bytes(3)), ["0 part bytes", "3"]);
    assert_eq!(cells(Form::Name), ["0 n u8", "1 part bytes", "1+n"]);
    assert_eq!(cells(Form::Text), ["0 n be32", "4 part bytes", "4+n"]);
    assert_eq!(cells(Form::Names), ["0 count be32", "4 part bytes", "4+?"]);
    assert_eq!(cells(Form::Counted), ["0 part bytes", "length"]);
    assert_eq!(cells(Form::Open), ["0 part bytes", "?"]);
}

#[test]
fn writes_sizes_with_singular_and_plural() {
    assert_eq!(dump::bytes(&0), "0 bytes");
    assert_eq!(dump::bytes(&1), "1 byte");
    assert_eq!(dump::bytes(&"n"), "n bytes");
    let mut offset = Offset::default();
    assert_eq!(offset.text(), 0.to_string());
    offset.add(&Cell::integer("one", 1, "one"));
    offset.add(&Cell::bytes("name", "n", "name"));
    assert_eq!(offset.text(), "1+n");
}
