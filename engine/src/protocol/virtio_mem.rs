//! virtio-mem: which memory of a machine is unplugged.
//!
//! A virtio-mem device has a RAM block of its own, of which it gives the guest
//! as many pieces as it is asked to. The pieces that are not plugged hold
//! nothing. QEMU never sends them, in precopy or after the switch, and neither
//! requests nor expects them as a destination (`ram.c:ramblock_page_is_discarded`,
//! since 6.2); RAM records do not say which they are. The device's own state does:
//!
//! ```text
//!  section PATH/virtio-mem-device-early       section PATH/virtio-mem
//!  (machine types from 8.0 on, in front       (machine types up to 7.2)
//!  of the first page)
//!
//!  8  guest physical address                  .  state of any virtio device
//!  8  length of the region = the block        8  guest physical address
//!  8  length of a piece                       8  length of the region
//!  4  NUMA node                               8  length of a piece
//!  8  bytes plugged                           4  NUMA node
//!  .  plugged pieces, 64 in each word         8  bytes that may be plugged
//!                                             8  bytes plugged
//!                                             8  bytes asked for
//!                                             .  plugged pieces
//!                                             .  subsections
//! ```
//!
//! All numbers are big-endian; bit `i % 64` of word `i / 64` is piece `i`. See
//! `virtio-mem.c:vmstate_virtio_mem_device` and `vmstate_virtio_mem_device_early`.
//! The device's RAM block is called `PATH/ID`.
//!
//! The state of the virtio device in front has no length, so the rest is looked
//! for: it must be there exactly once, with lengths that fit each other and with
//! as many plugged pieces as bytes plugged. What does not fit is not understood,
//! and then nothing counts as unplugged. A machine type without footers (up to
//! 2.3) does not say where its sections begin; its virtio-mem is not understood.
//!
//! Nothing here panics, whatever the state holds, and at most 1 MiB of a section is
//! kept at a time.

use retpath_codec::BlockName;
use retpath_codec::forward::{Decoder, Event, Identity, Options, SectionKind, Step, write};

use crate::bits::Bits;
use crate::blocks::{BlockId, Blocks};
use crate::protocol::wide;

/// A part of a RAM block that is unplugged: whole host pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplugged {
    /// The RAM block.
    pub block: BlockId,
    /// Start in it, in bytes.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Longest section that is looked at: twice the bitmap of the largest region.
const MOST: usize = 1 << 20;

/// Shortest piece (`virtio-mem.c:VIRTIO_MEM_MIN_BLOCK_SIZE`).
const MIN_PIECE: u64 = 1 << 20;

/// Most places of a section that are looked at closely.
const MOST_PLACES: usize = 16;

/// Most devices, as each has a RAM block of its own.
const MOST_DEVICES: usize = crate::destination::MAX_BLOCKS;

/// The virtio-mem devices of a stream, as far as their states have come.
#[derive(Debug, Default)]
pub struct Devices {
    list: Vec<Device>,
    /// The section that is coming, if it is a virtio-mem device's.
    open: Option<Open>,
    /// Bytes of all regions so far.
    total: u64,
    /// The most that they may be.
    limit: u64,
}

/// A virtio-mem device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    path: Vec<u8>,
    state: State,
}

/// What a device's state says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Length of the region in bytes.
    region: u64,
    /// Length of a piece in bytes.
    piece: u64,
    plugged: Bits,
}

/// A section that is coming.
#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    early: bool,
    bytes: Vec<u8>,
}

impl Devices {
    /// No device yet, of a machine with at most `limit` bytes of RAM.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// The devices in sections as they stand in a stream with footers, of a
    /// machine with at most `limit` bytes of RAM.
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
        while let Ok(Step::Event { event, size }) = decoder.next(rest) {
            devices.event(&event);
            rest = rest.get(size..).unwrap_or_default();
        }
        devices
    }

    /// Takes the next event of a main channel. Says whether one more device is
    /// known now.
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

    /// The unplugged parts of these RAM blocks.
    pub fn unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Unplugged> {
        self.list.iter().flat_map(|device| device.unplugged(blocks))
    }

    /// The same, of the device that was added last.
    pub fn newly_unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Unplugged> {
        let newest = self.list.last();
        newest
            .into_iter()
            .flat_map(|device| device.unplugged(blocks))
    }
}

impl Device {
    /// The unplugged parts of its RAM block.
    fn unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Unplugged> {
        let block = self.block(blocks);
        let parts = block.map(|block| self.state.unplugged(block));
        parts.into_iter().flatten()
    }

    /// The device's RAM block: the only one at its path that is as long as its
    /// region.
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
    /// `None` if the section is no virtio-mem device's.
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

    /// With the next bytes; `None` if that is too long.
    fn with(mut self, bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MOST - self.bytes.len() {
            return None;
        }
        self.bytes.extend_from_slice(bytes);
        Some(self)
    }
}

impl State {
    /// The state in an early section, which holds nothing else.
    fn early(bytes: &[u8]) -> Option<Self> {
        let mut numbers = Numbers(bytes);
        let (region, piece) = numbers.geometry()?;
        let size = numbers.part_of(region, piece)?;
        let state = numbers.plugged(region, piece, size)?;
        numbers.0.is_empty().then_some(state)
    }

    /// The state inside a section.
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

/// Big-endian numbers in a row.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn be64(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// Address, lengths of region and piece, node; gives the lengths.
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

    /// A length of whole pieces of the region.
    fn part_of(&mut self, region: u64, piece: u64) -> Option<u64> {
        let part = self.be64()?;
        (part <= region && part.is_multiple_of(piece)).then_some(part)
    }

    /// The bitmap; `None` if it does not hold as many pieces as `size` says.
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
        // Bits beyond the region are dropped, and are missing then.
        (count == plugged.count() && count * piece == size).then_some(State {
            region,
            piece,
            plugged,
        })
    }
}

#[cfg(test)]
mod tests;
