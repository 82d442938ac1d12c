//! Small machines for the tests of images.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use retpath_codec::NameBuf;
use retpath_engine::bits::Bits;
use retpath_engine::blocks::Block;
use retpath_image::{Manifest, Recorder};
use tempfile::TempDir;

pub(crate) const PAGE: u64 = 4096;

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder can be created")
}

pub(crate) fn block(name: &[u8], pages: u64) -> Block {
    Block {
        name: NameBuf::new(name).expect("valid name"),
        len: pages * PAGE,
        page: PAGE,
    }
}

pub(crate) fn facts() -> Manifest {
    Recorder::new().facts()
}

pub(crate) fn seen() -> Manifest {
    let mut facts = facts();
    facts.machine = Some(b"pc-i440fx-7.2".to_vec());
    facts.source.ram_section = 2;
    facts.source.footers = true;
    facts
}

/// The pages of a block in a range.
pub(crate) fn bits(len: u64, range: Range<u64>) -> Bits {
    let mut bits = Bits::new(len);
    bits.set_range(range.start, range.end - range.start);
    bits
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .expect("temporary folder can be created")
        .flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(crate) fn mode(path: &Path) -> u32 {
    let about = fs::symlink_metadata(path).expect("file exists");
    about.permissions().mode() & 0o7777
}
