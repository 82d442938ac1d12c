//! Images created without QEMU.

use std::path::{Path, PathBuf};

use retpath_codec::NameBuf;
use retpath_engine::blocks::Block;
use retpath_image::{Manifest, Recorder, Writer};

pub const PAGE: u64 = 4096;

/// Pages of the first block, most of them a hole.
pub const PAGES: u64 = 4096;

/// The file of the first block.
pub const RAM: &str = "ram-000-pc.ram.raw";

/// Creates an image of two blocks whose device state is one section with a footer.
pub fn make(folder: &Path, machine: &str) -> PathBuf {
    make_with(folder, machine, |_| ())
}

/// Creates such an image; `tell` edits its manifest.
pub fn make_with(folder: &Path, machine: &str, tell: impl FnOnce(&mut Manifest)) -> PathBuf {
    let out = folder.join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    for (name, pages) in [("pc.ram", PAGES), ("vga.vram", 16)] {
        let block = Block {
            name: NameBuf::new(name).expect("valid name"),
            len: pages * PAGE,
            page: PAGE,
        };
        writer.block(&block, PAGE).expect("valid block");
    }
    for page in (0..PAGES / 4).filter(|page| page % 3 > 0) {
        let bytes = vec![u8::try_from(page % 255 + 1).expect("below 256"); 4096];
        writer
            .write(0, page * PAGE, &bytes)
            .expect("page lies in the block");
    }
    let state = b"\x04\0\0\0\x09\x05timer\0\0\0\0\0\0\0\x0201234567\x7e\0\0\0\x09";
    writer.device_state(state).expect("device state is small");
    let mut facts: Manifest = Recorder::new().facts();
    facts.machine = Some(machine.into());
    facts.source.ram_section = 2;
    facts.source.footers = true;
    tell(&mut facts);
    writer.finish(facts).expect("image is complete");
    out
}

/// Creates an image with one block of `mib` MiB, in which no page is zero or equals another.
pub fn make_full(folder: &Path, mib: u64) -> PathBuf {
    make_sparse(folder, mib, 1)
}

/// Creates such an image with data in one of `one_of` chunks of 64 KiB, and a hole in the others.
pub fn make_sparse(folder: &Path, mib: u64, one_of: usize) -> PathBuf {
    let out = folder.join("image");
    let mut writer = Writer::new(&out).expect("image does not exist yet");
    let block = Block {
        name: NameBuf::new("pc.ram").expect("valid name"),
        len: mib << 20,
        page: PAGE,
    };
    writer.block(&block, PAGE).expect("valid block");
    let mut bytes = vec![7; 1 << 16];
    for at in (0..block.len).step_by(one_of * bytes.len()) {
        for (page, bytes) in (at / PAGE..).zip(bytes.chunks_mut(4096)) {
            bytes[..8].copy_from_slice(&page.to_ne_bytes());
        }
        writer
            .write(0, at, &bytes)
            .expect("range lies in the block");
    }
    writer
        .finish(Recorder::new().facts())
        .expect("image is complete");
    out
}
