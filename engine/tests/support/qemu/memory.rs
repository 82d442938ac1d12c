//! The memory of a running [`Qemu`], read from outside: by physical address over QMP, and by RAM
//! block through the process's own address space.
//!
//! Reading a destination's block before its migration has completed waits for pages like the guest
//! does; do it afterwards.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde_json::json;

use super::process::Qemu;

/// A RAM block as QEMU lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its name on the wire.
    pub(crate) name: String,
    /// Its page size in bytes.
    pub(crate) page_size: u64,
    /// Its used length in bytes.
    pub(crate) len: u64,
    /// The length it may grow to, in bytes.
    pub(crate) room: u64,
    /// Where it lies in QEMU's address space, if that can be told.
    pub(crate) host: Option<u64>,
}

impl Qemu {
    /// Guest physical memory from `address` on, read with `pmemsave`: through the chipset, so that
    /// the ranges of the video memory and of the BIOS show those.
    pub(crate) fn physical(&mut self, address: u64, len: u64) -> Vec<u8> {
        let path = self.folder().join("pmemsave");
        let arguments = json!({ "val": address, "size": len, "filename": path.to_str() });
        self.run("pmemsave", arguments);
        let bytes =
            fs::read(&path).unwrap_or_else(|error| self.fail(&format!("pmemsave: {error}")));
        let _ = fs::remove_file(&path);
        bytes
    }

    /// All RAM blocks that migrate, in QEMU's order.
    pub(crate) fn blocks(&mut self) -> Vec<Block> {
        let answer = self.run("x-query-ramblock", json!({}));
        let text = answer["human-readable-text"].as_str().unwrap_or_default();
        let mut blocks: Vec<_> = text.lines().skip(1).filter_map(parse).collect();
        assert!(!blocks.is_empty(), "no RAM blocks in {text:?}");
        if blocks.iter().all(|block| block.host.is_none()) {
            self.locate(&mut blocks);
        }
        blocks
    }

    /// Finds where the blocks lie, for a QEMU that does not list it.
    fn locate(&mut self, blocks: &mut [Block]) {
        for (name, start, _) in self.machine().layout() {
            let host = self.host_address(&name, start);
            if let Some(block) = blocks.iter_mut().find(|block| block.name == name) {
                block.host = host;
            }
        }
        let path = format!("/proc/{}/maps", self.program.id());
        let text = fs::read_to_string(path).unwrap_or_else(|error| self.fail(&format!("{error}")));
        let maps: Vec<_> = text.lines().filter_map(mapping).collect();
        for at in 0..blocks.len() {
            let room = blocks[at].room;
            let alike = blocks
                .iter()
                .filter(|other| other.host.is_none() && other.room == room);
            // Never a guess: one place of that length, and one block.
            if let (1, [only]) = (alike.count(), places(&maps, room).as_slice()) {
                blocks[at].host = Some(*only);
            }
        }
    }

    /// A whole RAM block, used length only.
    pub(crate) fn block(&mut self, block: &Block) -> Vec<u8> {
        let len = usize::try_from(block.len).expect("a block fits into this process");
        let mut bytes = vec![0; len];
        self.read_block(block, 0, &mut bytes);
        bytes
    }

    /// Part of a RAM block, from byte `offset` on.
    pub(crate) fn read_block(&mut self, block: &Block, offset: u64, bytes: &mut [u8]) {
        let place = self.place(block) + offset;
        let memory = self.address_space();
        if let Err(error) = memory.read_exact_at(bytes, place) {
            self.fail(&format!(
                "cannot read {} at {offset:#x}: {error}",
                block.name
            ));
        }
    }

    /// Changes a RAM block behind the guest's back.
    pub(crate) fn write_block(&mut self, block: &Block, offset: u64, bytes: &[u8]) {
        let place = self.place(block) + offset;
        let memory = self.address_space();
        if let Err(error) = memory.write_all_at(bytes, place) {
            self.fail(&format!(
                "cannot write {} at {offset:#x}: {error}",
                block.name
            ));
        }
    }

    fn place(&self, block: &Block) -> u64 {
        let unknown = || {
            self.fail(&format!(
                "this QEMU does not tell where {} lies",
                block.name
            ))
        };
        block.host.unwrap_or_else(unknown)
    }

    fn address_space(&self) -> File {
        let path = format!("/proc/{}/mem", self.program.id());
        let file = File::options().read(true).write(true).open(&path);
        file.unwrap_or_else(|error| self.fail(&format!("cannot open {path}: {error}")))
    }

    /// Where guest physical memory lies in QEMU, if it belongs to the block of that name.
    fn host_address(&mut self, name: &str, address: u64) -> Option<u64> {
        // "Host virtual address for 0x0 (pc.ram) is 0x7f0123456000"
        let text = self.monitor(&format!("gpa2hva {address:#x}"));
        let (before, after) = text.trim().rsplit_once(" is 0x")?;
        before.ends_with(&format!("({name})")).then_some(())?;
        u64::from_str_radix(after, 16).ok()
    }
}

/// One line of the block list: name, page size, offset, used length, total length and, from
/// QEMU 8 on, the host address.
fn parse(line: &str) -> Option<Block> {
    let words: Vec<_> = line.split_whitespace().collect();
    let unit = words
        .iter()
        .position(|word| matches!(*word, "KiB" | "MiB" | "GiB"))?;
    let shift = match *words.get(unit)? {
        "KiB" => 10,
        "MiB" => 20,
        _ => 30,
    };
    let size: u64 = words.get(unit.checked_sub(1)?)?.parse().ok()?;
    let hex = |place: usize| -> Option<u64> {
        let word = words.get(unit + place)?.strip_prefix("0x")?;
        u64::from_str_radix(word, 16).ok()
    };
    Some(Block {
        name: words[..unit - 1].join(" "),
        page_size: size << shift,
        len: hex(2)?,
        room: hex(3)?,
        host: hex(4),
    })
}

/// One line of a process's list of mappings: range, and whether it can be read and written.
fn mapping(line: &str) -> Option<(Range<u64>, bool)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some((hex(start)?..hex(end)?, rest.starts_with("rw")))
}

/// Where a RAM block of `len` bytes may lie: QEMU aligns each to 2 MiB and puts a page without
/// access behind it. Advice about a part of a block splits its mapping.
fn places(maps: &[(Range<u64>, bool)], len: u64) -> Vec<u64> {
    let guard = |(range, open): &&(Range<u64>, bool)| !open && range.end - range.start == 4096;
    let place = |(range, _): &(Range<u64>, bool)| {
        let start = range.start.checked_sub(len)?;
        let first = maps.iter().position(|(range, _)| range.start == start)?;
        let mut next = start;
        for (part, open) in &maps[first..] {
            if next == range.start {
                return start.is_multiple_of(2 << 20).then_some(start);
            }
            if !open || part.start != next {
                return None;
            }
            next = part.end;
        }
        None
    };
    maps.iter().filter(guard).filter_map(place).collect()
}
