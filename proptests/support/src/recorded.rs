//! Replays recorded sources: channels of the corpus, mainly the main channel of a postcopy migration
//! by QEMU 10.0.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

/// Length of the stream's end: the end mark of `ram`, a footer, EOF.
pub const END: usize = 8 + 5 + 1;

/// Length of the return path before the end: SWITCHOVER_ACK and PONG 1 to 4.
pub const PONGS: usize = 4 + 4 * 8;

/// SHUT after a complete migration.
pub const SHUT: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

/// SHUT after a failure of the destination.
pub const SHUT_FAILED: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 1];

/// Reads a channel of the corpus.
pub fn channel(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus/capture");
    let path = folder.join(name);
    let mut bytes = Vec::new();
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .expect("file is valid gzip");
    bytes
}

/// Returns the stream without its end, and the end.
pub fn stream() -> (Vec<u8>, Vec<u8>) {
    let mut bytes = channel("qemu-10.0-plain.ch0.fwd.gz");
    let end = bytes.split_off(bytes.len() - END);
    assert_eq!((end[7], end[8], end[END - 1]), (0x10, 0x7e, 0));
    (bytes, end)
}
