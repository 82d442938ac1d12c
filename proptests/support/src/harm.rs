//! Accidental changes to an image's files, most of them with the modification time restored, as
//! `cp -p` and `rsync --inplace -t` do.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A change of a file.
pub type Harm = (&'static str, fn(&File));

/// Changes that affect every nonzero page of a file.
pub const HARMS: [Harm; 3] = [
    ("overwritten", |file| {
        let len = file.metadata().expect("file is readable").len();
        let size = usize::try_from(len).expect("fits in usize");
        file.write_all_at(&vec![0xee; size], 0)
            .expect("file is writable");
    }),
    ("cut and made longer again", |file| {
        let len = file.metadata().expect("file is readable").len();
        file.set_len(0).expect("file is writable");
        file.set_len(len).expect("file is writable");
    }),
    ("cut", |file| file.set_len(4096).expect("file is writable")),
];

/// Changes a file and restores its modification time.
pub fn do_harm(path: &Path, harm: fn(&File)) {
    let file = File::options().write(true).read(true).open(path);
    let file = file.expect("file exists");
    let before = file.metadata().and_then(|found| found.modified());
    harm(&file);
    let before = FileTimes::new().set_modified(before.expect("file has a modification time"));
    file.set_times(before).expect("file is writable");
}

/// Flips one bit in each of these pages, and restores the modification time.
pub fn flip(path: &Path, pages: &[u64]) {
    let file = File::options().write(true).read(true).open(path);
    let file = file.expect("file exists");
    let before = file.metadata().and_then(|found| found.modified());
    for page in pages {
        let mut byte = [0];
        let at = page * 4096 + 4095;
        file.read_exact_at(&mut byte, at)
            .expect("page lies in the file");
        file.write_all_at(&[byte[0] ^ 0x10], at)
            .expect("page lies in the file");
    }
    let before = FileTimes::new().set_modified(before.expect("file has a modification time"));
    file.set_times(before).expect("file is writable");
}

/// Removes ID and digests from an image, as earlier versions wrote it.
pub fn strip(image: &Path) {
    let path = image.join("manifest.json");
    let text = std::fs::read(&path).expect("manifest exists");
    let mut manifest: serde_json::Value = serde_json::from_slice(&text).expect("manifest is JSON");
    let members = manifest.as_object_mut().expect("manifest is an object");
    assert!(members.remove("id").is_some() && members.remove("digests").is_some());
    std::fs::write(path, manifest.to_string()).expect("manifest is writable");
}
