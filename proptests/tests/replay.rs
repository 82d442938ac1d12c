//! Replays every file of `corpus/` through the engine's fuzz targets.

#[path = "../../corpus/files.rs"]
#[allow(dead_code, reason = "the codec's replay uses the rest")]
mod files;
#[path = "../../corpus/readers.rs"]
#[allow(dead_code, reason = "the codec's replay uses the rest")]
mod readers;

use retpath_proptests as check;

use files::replay;

#[test]
fn decode_cli() {
    replay("decode_cli", check::decode_cli);
}

#[test]
fn destination() {
    replay("destination", check::destination::destination);
}

#[test]
fn source() {
    replay("source", check::source::source);
}

#[test]
fn migration() {
    replay("migration", check::link::link);
}

#[test]
fn drive_receive() {
    replay("drive_receive", check::drivers::receive);
}

#[test]
fn drive_serve() {
    replay("drive_serve", check::drivers::serve);
}

#[test]
fn image() {
    replay("image", check::image);
}
