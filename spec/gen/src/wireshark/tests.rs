//! The generator of the dissector on rows that no return path has.

use super::*;
use retpath_spec::sample;
use retpath_spec::table::command::COMMAND;

const FIELD: Field = Field {
    name: "value",
    kind: Kind::U8,
    rule: Rule::Any,
    unit: Unit::Plain,
    doc: "a value",
};

#[test]
fn maps_numbers_and_names_to_lua_types() {
    let of = |kind, unit| {
        lua_type(&Field {
            kind,
            unit,
            ..FIELD
        })
    };
    assert_eq!(of(Kind::U8, Unit::Plain), ("uint8", ", base.DEC"));
    assert_eq!(of(Kind::Be32, Unit::Plain), ("uint32", ", base.DEC"));
    assert_eq!(of(Kind::Be64, Unit::Bytes), ("uint64", ", base.DEC"));
    assert_eq!(of(Kind::Be64, Unit::Offset), ("uint64", ", base.HEX"));
    assert_eq!(of(Kind::Name, Unit::Plain), ("string", ", base.UNICODE"));
}

#[test]
#[should_panic(expected = "value: the dissector knows no PageSizes")]
fn panics_on_a_kind_without_a_lua_type() {
    lua_type(&Field {
        kind: Kind::PageSizes,
        ..FIELD
    });
}

#[test]
#[should_panic(expected = "value: the dissector knows no Ranges")]
fn panics_on_a_kind_that_the_dissector_cannot_read() {
    let kind = Kind::Ranges;
    row(&QEMU, &QEMU.messages[0], &Field { kind, ..FIELD });
}

#[test]
#[should_panic(expected = "no return path has packages")]
fn panics_on_a_message_with_a_package() {
    let packaged = sample::row(&COMMAND, "PACKAGED");
    one_message(&mut Text::default(), &COMMAND, packaged);
}

#[test]
fn capitalizes_titles() {
    assert_eq!(capitalised("start"), "Start");
    assert_eq!(capitalised(""), "");
}
