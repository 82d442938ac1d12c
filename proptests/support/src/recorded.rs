//! Sources that are played back: channels of the corpus, above all the main channel of a postcopy
//! migration by QEMU 10.0.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

/// What ends the stream: the end mark of `ram`, a footer, EOF.
pub const END: usize = 8 + 5 + 1;

/// SWITCHOVER_ACK and PONG 1 to 4: what comes back before the end.
pub const PONGS: usize = 4 + 4 * 8;

/// SHUT: everything is there.
pub const SHUT: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

/// SHUT: the destination has failed.
pub const SHUT_FAILED: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 1];

/// A channel of the corpus.
pub fn channel(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus/capture");
    let path = folder.join(name);
    let mut bytes = Vec::new();
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
    bytes
}

/// The stream, cut in front of its end, and the end.
pub fn stream() -> (Vec<u8>, Vec<u8>) {
    let mut bytes = channel("qemu-10.0-plain.ch0.fwd.gz");
    let end = bytes.split_off(bytes.len() - END);
    assert_eq!((end[7], end[8], end[END - 1]), (0x10, 0x7e, 0));
    (bytes, end)
}
