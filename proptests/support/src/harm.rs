//! Ways in which an image's file is changed by accident, most of them with the time of its last
//! modification put back, as `cp -p` and `rsync --inplace -t` do.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A change of a file.
pub type Harm = (&'static str, fn(&File));

/// Changes that reach every page of a file that is not zero.
pub const HARMS: [Harm; 3] = [
    ("overwritten", |file| {
        let len = file.metadata().expect("ours").len();
        let size = usize::try_from(len).expect("small");
        file.write_all_at(&vec![0xee; size], 0).expect("room");
    }),
    ("cut and made longer again", |file| {
        let len = file.metadata().expect("ours").len();
        file.set_len(0).expect("ours");
        file.set_len(len).expect("ours");
    }),
    ("cut", |file| file.set_len(4096).expect("ours")),
];

/// Changes a file, and puts the time of its last modification back.
pub fn do_harm(path: &Path, harm: fn(&File)) {
    let file = File::options().write(true).read(true).open(path);
    let file = file.expect("there");
    let before = file.metadata().and_then(|found| found.modified());
    harm(&file);
    let before = FileTimes::new().set_modified(before.expect("a time"));
    file.set_times(before).expect("ours");
}

/// Changes one byte of each of these pages.
pub fn flip(path: &Path, pages: &[u64]) {
    let file = File::options().write(true).read(true).open(path);
    let file = file.expect("there");
    let before = file.metadata().and_then(|found| found.modified());
    for page in pages {
        let mut byte = [0];
        let at = page * 4096 + 4095;
        file.read_exact_at(&mut byte, at).expect("inside");
        file.write_all_at(&[byte[0] ^ 0x10], at).expect("inside");
    }
    let before = FileTimes::new().set_modified(before.expect("a time"));
    file.set_times(before).expect("ours");
}

/// Makes an image one of an earlier version, without digests.
pub fn strip(image: &Path) {
    let path = image.join("manifest.json");
    let text = std::fs::read(&path).expect("there");
    let mut manifest: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let members = manifest.as_object_mut().expect("an object");
    assert!(members.remove("id").is_some() && members.remove("digests").is_some());
    std::fs::write(path, manifest.to_string()).expect("ours");
}
