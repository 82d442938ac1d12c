//! Parses the state of virtio-mem devices: which memory is unplugged.
//!
//! A virtio-mem device has a RAM block of its own, divided into pieces that are plugged
//! on demand. Unplugged pieces have no content. QEMU never sends them, in precopy or
//! after the switch, and neither requests nor expects them as a destination
//! (`ram.c:ramblock_page_is_discarded`, since 6.2). RAM records do not say which pieces
//! are unplugged; the state of the device does:
//!
//! ```text
//!  section PATH/virtio-mem-device-early       section PATH/virtio-mem
//!  (machine types from 8.0 on, before         (machine types up to 7.2)
//!  the first page)
//!
//!  8  guest physical address                  .  state of any virtio device
//!  8  length of the region = the block        8  guest physical address
//!  8  length of a piece                       8  length of the region
//!  4  NUMA node                               8  length of a piece
//!  8  bytes plugged                           4  NUMA node
//!  .  plugged pieces, 64 in each word         8  bytes that may be plugged
//!                                             8  bytes plugged
//!                                             8  bytes requested
//!                                             .  plugged pieces
//!                                             .  subsections
//! ```
//!
//! All numbers are big-endian; bit `i % 64` of word `i / 64` is piece `i`. See
//! `virtio-mem.c:vmstate_virtio_mem_device` and `vmstate_virtio_mem_device_early`.
//! The device's RAM block is called `PATH/ID`.
//!
//! The preceding state of the virtio device has no length, so the parser searches the
//! section: exactly one offset must have consistent lengths and as many plugged pieces
//! as plugged bytes. Otherwise the state is ignored and no memory counts as unplugged.
//! A machine type without footers (up to 2.3) does not mark where its sections begin;
//! its virtio-mem devices are ignored.
//!
//! Nothing here panics on any state, and at most 1 MiB of a section is kept at a time.

use retpath_codec::BlockName;
use retpath_codec::forward::{Decoded, Decoder, Event, Identity, Options, SectionKind, write};

use crate::bits::Bits;
use crate::blocks::{BlockId, Blocks};
use crate::protocol::wide;

/// An unplugged range of a RAM block: whole host pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplugged {
    /// The RAM block.
    pub block: BlockId,
    /// Offset in the block in bytes.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Maximum size of a section: twice the bitmap of the largest region.
const MOST: usize = 1 << 20;

/// Minimum size of a piece (`virtio-mem.c:VIRTIO_MEM_MIN_BLOCK_SIZE`).
const MIN_PIECE: u64 = 1 << 20;

/// Maximum number of candidate offsets in a section.
const MOST_PLACES: usize = 16;

/// Maximum number of devices; each has a RAM block of its own.
const MOST_DEVICES: usize = crate::destination::MAX_BLOCKS;

/// The virtio-mem devices of a stream whose states have been received.
#[derive(Debug, Default)]
pub struct Devices {
    list: Vec<Device>,
    /// The open section, if it is a virtio-mem device's.
    open: Option<Open>,
    /// Total size of all regions.
    total: u64,
    /// Maximum of `total`.
    limit: u64,
}

/// A virtio-mem device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    path: Vec<u8>,
    state: State,
}

/// The parsed state of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Length of the region in bytes.
    region: u64,
    /// Length of a piece in bytes.
    piece: u64,
    plugged: Bits,
}

/// A section that is being received.
#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    early: bool,
    bytes: Vec<u8>,
}

impl Devices {
    /// Makes an empty list, for a machine with at most `limit` bytes of RAM.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Parses sections of a stream with footers, of a machine with at most `limit` bytes
    /// of RAM.
    pub fn in_sections(limit: u64, sections: &[&[u8]]) -> Self {
        let mut stream = Vec::new();
        write::header(&mut stream);
        for bytes in sections {
            stream.extend_from_slice(bytes);
        }
        write::eof(&mut stream);
        let mut devices = Self::new(limit);
        let mut decoder = Decoder::new(Options::default());
        decoder.close();
        let mut rest = &stream[..];
        while let Ok(Decoded::Event { event, size }) = decoder.next(rest) {
            devices.event(&event);
            rest = rest.get(size..).unwrap_or_default();
        }
        devices
    }

    /// Handles an event of a main channel; returns whether it completed a device.
    pub fn event(&mut self, event: &Event<'_>) -> bool {
        match event {
            Event::Section { kind, identity, .. } => {
                let full = identity.filter(|_| *kind == SectionKind::Full);
                self.open = full.and_then(Open::of);
                false
            }
            Event::DeviceState { bytes, .. } => {
                self.open = self.open.take().and_then(|open| open.with(bytes));
                false
            }
            Event::Footer { .. } => self.open.take().is_some_and(|open| self.add(open)),
            _ => false,
        }
    }

    fn add(&mut self, open: Open) -> bool {
        let known = self.list.iter().any(|device| device.path == open.path);
        if known || self.list.len() >= MOST_DEVICES {
            return false;
        }
        let state = match open.early {
            true => State::early(&open.bytes),
            false => State::find(&open.bytes),
        };
        let Some(state) = state else {
            return false;
        };
        let total = self.total.saturating_add(state.region);
        if total > self.limit {
            return false;
        }
        self.total = total;
        let path = open.path;
        self.list.push(Device { path, state });
        true
    }

    /// The unplugged ranges of these RAM blocks.
    pub fn unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Unplugged> {
        self.list.iter().flat_map(|device| device.unplugged(blocks))
    }

    /// The unplugged ranges of the device that was added last.
    pub fn newly_unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Unplugged> {
        let newest = self.list.last();
        newest
            .into_iter()
            .flat_map(|device| device.unplugged(blocks))
    }
}

impl Device {
    /// The unplugged ranges of its RAM block.
    fn unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Unplugged> {
        let block = self.block(blocks);
        let parts = block.map(|block| self.state.unplugged(block));
        parts.into_iter().flatten()
    }

    /// The device's RAM block: the only one at its path with the length of its region.
    fn block(&self, blocks: &Blocks) -> Option<BlockId> {
        let State { region, piece, .. } = self.state;
        let is_own = |name: &[u8]| match self.path.as_slice() {
            [] => !name.contains(&b'/'),
            path => name
                .strip_prefix(path)
                .is_some_and(|id| id.starts_with(b"/")),
        };
        let mut own = blocks
            .iter()
            .enumerate()
            .filter(|(_, block)| block.len == region && is_own(block.name.name().as_bytes()));
        let (id, block) = own.next()?;
        let fits = piece.is_multiple_of(block.page) && own.next().is_none();
        fits.then_some(id)
    }
}

impl Open {
    /// `None` if the section does not belong to a virtio-mem device.
    fn of(identity: Identity<'_>) -> Option<Self> {
        let (path, name) = match identity.idstr.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&identity.idstr[..at], &identity.idstr[at + 1..]),
            None => (&[][..], identity.idstr),
        };
        let early = match name {
            b"virtio-mem-device-early" => true,
            b"virtio-mem" => false,
            _ => return None,
        };
        (identity.version == 1).then(|| Self {
            path: path.to_vec(),
            early,
            bytes: Vec::new(),
        })
    }

    /// Appends bytes; `None` if the section is too long.
    fn with(mut self, bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MOST - self.bytes.len() {
            return None;
        }
        self.bytes.extend_from_slice(bytes);
        Some(self)
    }
}

impl State {
    /// Parses an early section, which contains nothing else.
    fn early(bytes: &[u8]) -> Option<Self> {
        let mut numbers = Numbers(bytes);
        let (region, piece) = numbers.geometry()?;
        let size = numbers.part_of(region, piece)?;
        let state = numbers.plugged(region, piece, size)?;
        numbers.0.is_empty().then_some(state)
    }

    /// Searches a section for the state.
    fn find(bytes: &[u8]) -> Option<Self> {
        let places = (0..bytes.len()).filter_map(|at| {
            let mut numbers = Numbers(&bytes[at..]);
            let (region, piece) = numbers.geometry()?;
            numbers.part_of(region, piece)?;
            let size = numbers.part_of(region, piece)?;
            numbers.part_of(region, piece)?;
            Some((numbers, region, piece, size))
        });
        let mut found = None;
        for (seen, (mut numbers, region, piece, size)) in places.enumerate() {
            if seen >= MOST_PLACES {
                return None;
            }
            let Some(state) = numbers.plugged(region, piece, size) else {
                continue;
            };
            if found.replace(state).is_some() {
                return None;
            }
        }
        found
    }

    fn unplugged(&self, block: BlockId) -> impl Iterator<Item = Unplugged> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.plugged.next_gap(at)?;
            at = self.plugged.next(first).unwrap_or(self.plugged.len());
            Some(Unplugged {
                block,
                start: first * self.piece,
                len: (at - first) * self.piece,
            })
        })
    }
}

/// A sequence of big-endian numbers.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn be64(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// Parses address, lengths of region and piece, and node; returns the lengths.
    fn geometry(&mut self) -> Option<(u64, u64)> {
        let (address, region, piece) = (self.be64()?, self.be64()?, self.be64()?);
        let (_node, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        let whole = piece.is_power_of_two()
            && piece >= MIN_PIECE
            && region > 0
            && region.is_multiple_of(piece)
            && address.is_multiple_of(piece);
        whole.then_some((region, piece))
    }

    /// Parses a length of whole pieces of the region.
    fn part_of(&mut self, region: u64, piece: u64) -> Option<u64> {
        let part = self.be64()?;
        (part <= region && part.is_multiple_of(piece)).then_some(part)
    }

    /// Parses the bitmap; `None` if the plugged pieces do not add up to `size`.
    fn plugged(&mut self, region: u64, piece: u64, size: u64) -> Option<State> {
        let pieces = region / piece;
        let len = pieces.div_ceil(64).checked_mul(8)?;
        if len > wide(self.0.len()) {
            return None;
        }
        let mut words = Vec::new();
        for _ in 0..len / 8 {
            words.push(self.be64()?);
        }
        let count: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
        let mut plugged = Bits::new(pieces);
        plugged.assign(words);
        // Bits past the region are dropped, so the counts differ then.
        (count == plugged.count() && count * piece == size).then_some(State {
            region,
            piece,
            plugged,
        })
    }
}

#[cfg(test)]
mod tests;
