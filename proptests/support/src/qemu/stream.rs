//! A naive reader of RAM from a migration stream: the reference for images where QEMU does not
//! report a block's address. It shares no code with the readers under test.
//!
//! The layout is in `spec/MESSAGES.md`. Panics on streams that the QEMUs of these tests never send.

use std::fmt;

use retpath_codec::wire::ram::{CONTINUE, EOS, MEM_SIZE, MULTIFD_FLUSH, PAGE as PAGE_RECORD, ZERO};
use retpath_codec::wire::section::SECTION_FOOTER;

const PAGE: usize = 4096;

/// Numbers of the commands that change the parsing.
const ADVISE: u64 = 3;
const PACKAGED: u64 = 7;

/// The content of one RAM block received so far.
#[derive(Clone)]
pub struct Content {
    /// Its name.
    pub name: String,
    bytes: Vec<u8>,
    came: Vec<bool>,
}

impl Content {
    /// Returns the whole block. Fails if a page is missing.
    pub fn bytes(&self) -> &[u8] {
        let missing = self.came.iter().filter(|came| !**came).count();
        assert!(missing == 0, "{missing} pages of {} are missing", self.name);
        &self.bytes
    }

    /// Returns the received pages, by number.
    pub fn pages(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let pages = self.bytes.chunks(PAGE).zip(&self.came).enumerate();
        pages.filter_map(|(number, (page, came))| came.then_some((number, page)))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.name, self.bytes.len())
    }
}

/// The RAM of a machine according to its streams. Channels are read one after the other: the first
/// main channel, then all others. The last content of a repeated page is valid, because the guest
/// stands still after the switch.
#[derive(Clone, Debug, Default)]
pub struct Ram {
    blocks: Vec<Content>,
}

impl Ram {
    /// Reads a stream saved to a file. `huge` names the blocks on huge pages.
    pub fn saved(stream: &[u8], huge: &[String]) -> Self {
        let mut ram = Self::default();
        ram.take(stream, huge);
        ram
    }

    /// Returns all blocks, in the order of their announcement.
    pub fn blocks(&self) -> &[Content] {
        &self.blocks
    }

    /// Returns all bytes of a block.
    pub fn block(&self, name: &str) -> &[u8] {
        let block = self.blocks.iter().find(|block| block.name == name);
        let block = block.unwrap_or_else(|| panic!("no {name} in the stream: {:?}", self.blocks));
        block.bytes()
    }

    /// Excludes a range of a block, which reads as zeros. Fails if a page of it was received.
    pub fn leave_out(&mut self, name: &str, start: usize, len: usize) {
        let block = self.blocks.iter_mut().find(|block| block.name == name);
        let block = block.unwrap_or_else(|| panic!("no {name} in the stream"));
        for came in &mut block.came[start / PAGE..(start + len) / PAGE] {
            assert!(
                !std::mem::replace(came, true),
                "a page of {name} was received"
            );
        }
    }

    /// Reads what one channel carried, to its end or its cut.
    pub fn take(&mut self, stream: &[u8], huge: &[String]) {
        let mut reader = Reader {
            rest: stream,
            ram: self,
            huge,
            current: None,
            advised: false,
            ended: false,
        };
        // A stream that ends inside an item was cut.
        let _ = match stream.get(..2) {
            Some(b"QE") => reader.fresh(),
            Some([8, 0]) => reader.items(),
            _ => reader.records(),
        };
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    ram: &'a mut Ram,
    huge: &'a [String],
    /// The block that CONTINUE refers to.
    current: Option<usize>,
    /// Whether the list of blocks has page sizes.
    advised: bool,
    /// Whether the last RAM section was read.
    ended: bool,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn number(&mut self, len: usize) -> Option<u64> {
        self.bytes(len).map(big_endian)
    }

    fn len(&mut self, width: usize) -> Option<usize> {
        self.number(width).map(size)
    }

    fn name(&mut self) -> Option<String> {
        let len = self.len(1)?;
        Some(String::from_utf8_lossy(self.bytes(len)?).into_owned())
    }

    /// Reads the first main channel.
    fn fresh(&mut self) -> Option<()> {
        assert_eq!(self.bytes(8)?, b"QEVM\0\0\0\x03");
        if self.rest.first()? == &7 {
            self.bytes(1)?;
            let name = self.len(4)?;
            self.bytes(name)?;
        }
        self.items()
    }

    /// Reads sections and commands, up to the devices of precopy or the end.
    fn items(&mut self) -> Option<()> {
        loop {
            match self.number(1)? {
                4 if !self.ended => self.early_device()?,
                // EOF, or the devices of precopy.
                0 | 4 => return Some(()),
                1 => {
                    let id = self.number(4)?;
                    assert_eq!(self.name()?, "ram");
                    self.bytes(8)?;
                    self.section(id)?;
                }
                kind @ (2 | 3) => {
                    self.ended = kind == 3;
                    let id = self.number(4)?;
                    self.section(id)?;
                }
                8 => self.command()?,
                other => panic!("unknown item type {other:#x}"),
            }
        }
    }

    /// Reads a device before RAM or after its list of blocks: virtio-mem, in machine types from 8.0
    /// on.
    fn early_device(&mut self) -> Option<()> {
        let id = self.number(4)?;
        let name = self.name()?;
        assert!(name.ends_with("virtio-mem-device-early"), "{name}");
        // Instance and version; address; region length and block size; node and size.
        self.bytes(8 + 8)?;
        let pieces = self.number(8)? / self.number(8)?;
        self.bytes(4 + 8 + size(pieces.div_ceil(64)) * 8)?;
        assert_eq!(
            (self.number(1)?, self.number(4)?),
            (SECTION_FOOTER.into(), id),
            "a footer"
        );
        Some(())
    }

    fn command(&mut self) -> Option<()> {
        let command = self.number(2)?;
        let len = self.len(2)?;
        let payload = self.bytes(len)?;
        match command {
            ADVISE => self.advised = true,
            // The package follows the command with its length.
            PACKAGED => {
                self.bytes(size(big_endian(payload)))?;
            }
            _ => {}
        }
        Some(())
    }

    fn section(&mut self, id: u64) -> Option<()> {
        self.records()?;
        // Older machine types have no footers, and no item has this type.
        if self.rest.first() == Some(&SECTION_FOOTER) {
            self.bytes(1)?;
            assert_eq!(self.number(4)?, id, "section number in the footer");
        }
        Some(())
    }

    /// Reads RAM records up to the end mark.
    fn records(&mut self) -> Option<()> {
        loop {
            let word = self.number(8)?;
            let (offset, flags) = (word & !(PAGE as u64 - 1), word & (PAGE as u64 - 1));
            match flags & !CONTINUE {
                EOS => return Some(()),
                MEM_SIZE => self.list(offset)?,
                MULTIFD_FLUSH => {}
                ZERO | PAGE_RECORD => {
                    if flags & CONTINUE == 0 {
                        let name = self.name()?;
                        let found = self.ram.blocks.iter().position(|block| block.name == name);
                        self.current = Some(found.unwrap_or_else(|| panic!("no block {name}")));
                    }
                    let block = self.current.expect("an earlier record named a block");
                    let data = match flags & PAGE_RECORD {
                        0 => [self.bytes(1)?[0]; PAGE],
                        _ => self.bytes(PAGE)?.try_into().expect("PAGE bytes"),
                    };
                    let (block, offset) = (&mut self.ram.blocks[block], size(offset));
                    block.bytes[offset..offset + PAGE].copy_from_slice(&data);
                    block.came[offset / PAGE] = true;
                }
                other => panic!("unknown record flags {other:#x}"),
            }
        }
    }

    fn list(&mut self, total: u64) -> Option<()> {
        let mut left = total;
        while left > 0 {
            let name = self.name()?;
            let len = self.number(8)?;
            if self.advised && self.huge.contains(&name) {
                self.bytes(8)?;
            }
            left = left
                .checked_sub(len)
                .expect("lengths do not exceed the total");
            self.ram.blocks.push(Content {
                name,
                bytes: vec![0; size(len)],
                came: vec![false; size(len) / PAGE],
            });
        }
        Some(())
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    let shift = |number, byte: &u8| number << 8 | u64::from(*byte);
    bytes.iter().fold(0, shift)
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("fits in usize")
}
