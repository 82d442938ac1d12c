//! Reads the memory of a running [`Qemu`] from outside: by physical address over QMP, and by RAM
//! block through `/proc/PID/mem`.
//!
//! Memory that QEMU gives no address for is read from its migration stream: see [`super::stream`].
//!
//! Read a destination's blocks only after its migration has completed: earlier reads wait for
//! missing pages as the guest does.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use retpath_codec::wire::capability::{POSTCOPY_PREEMPT, POSTCOPY_RAM, RETURN_PATH};
use serde_json::json;

use super::process::Qemu;
use super::stream::Ram;

/// The block that ends at guest physical address 4 GiB.
const BIOS: &str = "pc.bios";

/// A RAM block as QEMU lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its name on the wire.
    pub name: String,
    /// Its page size in bytes.
    pub page_size: u64,
    /// Its used length in bytes.
    pub len: u64,
    /// Its address in QEMU's address space. Before QEMU 8.0, known only for blocks that the guest
    /// sees.
    pub host: Option<u64>,
}

impl Qemu {
    /// Reads guest physical memory from `address` on with `pmemsave`, which goes through the
    /// chipset: the ranges of video memory and BIOS show those.
    pub fn physical(&mut self, address: u64, len: u64) -> Vec<u8> {
        let path = self.folder().join("pmemsave");
        let arguments = json!({ "val": address, "size": len, "filename": path.to_str() });
        self.run("pmemsave", arguments);
        let bytes =
            fs::read(&path).unwrap_or_else(|error| self.fail(&format!("pmemsave: {error}")));
        let _ = fs::remove_file(&path);
        bytes
    }

    /// Returns all RAM blocks that migrate, in QEMU's order.
    pub fn blocks(&mut self) -> Vec<Block> {
        let text = self.monitor("info ramblock");
        let mut blocks: Vec<_> = text.lines().skip(1).filter_map(parse).collect();
        assert!(!blocks.is_empty(), "no RAM blocks in {text:?}");
        if blocks.iter().all(|block| block.host.is_none()) {
            self.locate(&mut blocks);
        }
        blocks
    }

    /// Finds the addresses of the guest-visible blocks for a QEMU that does not list them. Addresses of
    /// other blocks cannot be determined; their content is in the migration stream.
    fn locate(&mut self, blocks: &mut [Block]) {
        let mut seen = self.machine().layout();
        for block in blocks.iter().filter(|block| block.name == BIOS) {
            seen.push((block.name.clone(), (4 << 30) - block.len, block.len));
        }
        for (name, start, _) in seen {
            let host = self.host_address(&name, start);
            if let Some(block) = blocks.iter_mut().find(|block| block.name == name) {
                block.host = host;
            }
        }
    }

    /// Returns the names of the blocks on huge pages.
    pub fn huge_blocks(&mut self) -> Vec<String> {
        let blocks = self.blocks().into_iter();
        let huge = blocks.filter(|block| block.page_size > 4096);
        huge.map(|block| block.name).collect()
    }

    /// Stops the machine and reads all of its RAM through a migration to a file.
    pub fn ram(&mut self) -> Ram {
        let huge = self.huge_blocks();
        // A pipe has no return path for page requests.
        let off = [RETURN_PATH, POSTCOPY_PREEMPT, POSTCOPY_RAM];
        let off: Vec<_> = off.into_iter().filter(|name| self.knows(name)).collect();
        self.disable(&off);
        let path = self.save();
        let stream = fs::read(&path).unwrap_or_else(|error| self.fail(&format!("{error}")));
        let _ = fs::remove_file(path);
        Ram::saved(&stream, &huge)
    }

    /// Fails unless `ram` equals the memory of this stopped machine: every block whose address QEMU
    /// reports, and all guest-visible memory.
    pub fn assert_ram(&mut self, ram: &Ram) {
        let blocks = self.blocks();
        assert_eq!(ram.blocks().len(), blocks.len(), "{ram:?}, {blocks:?}");
        for block in &blocks {
            let theirs = ram.block(&block.name);
            assert_eq!(theirs.len(), size(block.len), "length of {}", block.name);
            if block.host.is_some() && self.block(block) != theirs {
                self.fail(&format!("{} differs from the stream", block.name));
            }
        }
        for (name, start, len) in self.machine().layout() {
            // Video memory and BIOS overlay this part of RAM.
            for range in [
                start..(start + len).min(0xa_0000),
                start.max(1 << 20)..start + len,
            ] {
                if range.is_empty() {
                    continue;
                }
                let seen = self.physical(range.start, range.end - range.start);
                let sent = &ram.block(&name)[size(range.start - start)..][..seen.len()];
                if seen != sent {
                    self.fail(&format!(
                        "{name} at {range:x?} differs from guest physical memory"
                    ));
                }
            }
        }
    }

    /// Reads a whole RAM block, up to its used length.
    pub fn block(&mut self, block: &Block) -> Vec<u8> {
        let mut bytes = vec![0; size(block.len)];
        self.read_block(block, 0, &mut bytes);
        bytes
    }

    /// Reads part of a RAM block, from byte `offset` on.
    pub fn read_block(&mut self, block: &Block, offset: u64, bytes: &mut [u8]) {
        let place = self.place(block) + offset;
        let memory = self.address_space();
        if let Err(error) = memory.read_exact_at(bytes, place) {
            self.fail(&format!(
                "cannot read {} at {offset:#x}: {error}",
                block.name
            ));
        }
    }

    /// Modifies a RAM block without the guest's knowledge.
    pub fn write_block(&mut self, block: &Block, offset: u64, bytes: &[u8]) {
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
                "this QEMU does not report the address of {}",
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

    /// Returns the host address of guest physical memory, if it belongs to the named block.
    fn host_address(&mut self, name: &str, address: u64) -> Option<u64> {
        // "Host virtual address for 0x0 (pc.ram) is 0x7f0123456000"
        let text = self.monitor(&format!("gpa2hva {address:#x}"));
        let (before, after) = text.trim().rsplit_once(" is 0x")?;
        before.ends_with(&format!("({name})")).then_some(())?;
        u64::from_str_radix(after, 16).ok()
    }
}

/// Parses one line of the block list: name, page size, offset, used length, total length and, from
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
        host: hex(4),
    })
}

fn size(len: u64) -> usize {
    usize::try_from(len).expect("block length fits in usize")
}
