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
use crate::blocks::{BlockId, Blocks, Span};
use crate::protocol::wide;

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
    /// Maximum size of all regions.
    limit: u64,
}

/// A virtio-mem device.
#[derive(Debug)]
struct Device {
    /// Up to its last `/`.
    path: Vec<u8>,
    state: State,
}

/// The parsed state of a device.
#[derive(Debug)]
struct State {
    /// Length of the region in bytes.
    region: u64,
    /// Length of a piece in bytes.
    piece: u64,
    /// Unplugged pieces.
    unplugged: Bits,
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
        stream.extend(sections.concat());
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
            }
            Event::DeviceState { bytes, .. } => {
                self.open.take_if(|open| {
                    let fits = bytes.len() <= MOST - open.bytes.len();
                    if fits {
                        open.bytes.extend_from_slice(bytes);
                    }
                    !fits
                });
            }
            Event::Footer { .. } => return self.open.take().is_some_and(|open| self.add(open)),
            _ => {}
        }
        false
    }

    fn add(&mut self, open: Open) -> bool {
        let Open { path, early, bytes } = open;
        let known = self.list.iter().any(|device| device.path == path);
        if known || self.list.len() >= MOST_DEVICES {
            return false;
        }
        let state = match early {
            true => State::early(&bytes),
            false => State::find(&bytes),
        };
        let regions = self.list.iter().map(|device| device.state.region);
        let total = regions.fold(0, u64::saturating_add);
        let fits = |state: &State| total.saturating_add(state.region) <= self.limit;
        let state = state.filter(fits);
        let is_valid = state.is_some();
        self.list.extend(state.map(|state| Device { path, state }));
        is_valid
    }

    /// The unplugged ranges of these RAM blocks: whole host pages.
    pub fn unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Span> {
        self.list.iter().flat_map(|device| device.unplugged(blocks))
    }

    /// The unplugged ranges of the device that was added last.
    pub fn newly_unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Span> {
        let newest = self.list.last().into_iter();
        newest.flat_map(|device| device.unplugged(blocks))
    }
}

impl Device {
    /// The unplugged ranges of its RAM block.
    fn unplugged(&self, blocks: &Blocks) -> impl Iterator<Item = Span> {
        let piece = self.state.piece;
        self.block(blocks).into_iter().flat_map(move |block| {
            let runs = self.state.unplugged.runs();
            runs.map(move |(first, count)| Span {
                block,
                offset: first * piece,
                len: count * piece,
            })
        })
    }

    /// The device's RAM block: the only one at its path with the length of its region.
    fn block(&self, blocks: &Blocks) -> Option<BlockId> {
        let State { region, piece, .. } = self.state;
        let is_own = |name: &[u8]| {
            let id = name.strip_prefix(&self.path[..]);
            id.is_some_and(|id| !self.path.is_empty() || !id.contains(&b'/'))
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
        let slash = identity.idstr.iter().rposition(|byte| *byte == b'/');
        let (path, name) = identity.idstr.split_at(slash.map_or(0, |at| at + 1));
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
}

impl State {
    /// Parses an early section, which contains nothing else.
    fn early(bytes: &[u8]) -> Option<Self> {
        let mut parser = Parser::new(bytes)?;
        let size = parser.part()?;
        let state = parser.state(size)?;
        parser.rest.is_empty().then_some(state)
    }

    /// Searches a section for the state.
    fn find(bytes: &[u8]) -> Option<Self> {
        let places = (0..bytes.len()).filter_map(|at| {
            let mut parser = Parser::new(&bytes[at..])?;
            let [_, plugged, _] = [parser.part()?, parser.part()?, parser.part()?];
            Some((parser, plugged))
        });
        let places: Vec<_> = places.take(MOST_PLACES + 1).collect();
        if places.len() > MOST_PLACES {
            return None;
        }
        let mut states = places
            .into_iter()
            .filter_map(|(mut parser, plugged)| parser.state(plugged));
        let state = states.next();
        state.filter(|_| states.next().is_none())
    }
}

/// Parses the state of a device, a sequence of big-endian numbers.
struct Parser<'a> {
    rest: &'a [u8],
    /// Length of the region in bytes.
    region: u64,
    /// Length of a piece in bytes.
    piece: u64,
}

impl<'a> Parser<'a> {
    /// Parses address, lengths of region and piece, and node.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (rest, region, piece) = (bytes, 0, 0);
        let mut parser = Self {
            rest,
            region,
            piece,
        };
        let address = parser.be64()?;
        parser.region = parser.be64()?;
        parser.piece = parser.be64()?;
        parser.rest = parser.rest.get(4..)?;
        let Self { region, piece, .. } = parser;
        let whole = piece.is_power_of_two()
            && piece >= MIN_PIECE
            && region > 0
            && region.is_multiple_of(piece)
            && address.is_multiple_of(piece);
        whole.then_some(parser)
    }

    fn be64(&mut self) -> Option<u64> {
        let (number, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// Parses a length of whole pieces of the region.
    fn part(&mut self) -> Option<u64> {
        let part = self.be64()?;
        (part <= self.region && part.is_multiple_of(self.piece)).then_some(part)
    }

    /// Parses the bitmap; `None` if the plugged pieces do not add up to `size`.
    fn state(&mut self, size: u64) -> Option<State> {
        let Self { region, piece, .. } = *self;
        let pieces = region / piece;
        let len = pieces.div_ceil(64).checked_mul(8)?;
        if len > wide(self.rest.len()) {
            return None;
        }
        let words: Vec<u64> = (0..len / 8).map_while(|_| self.be64()).collect();
        let count: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
        let mut unplugged = Bits::new(pieces);
        unplugged.assign(words.into_iter().map(|word| !word));
        // Bits past the region are dropped, so the counts differ then.
        (count + unplugged.count() == pieces && count * piece == size).then_some(State {
            region,
            piece,
            unplugged,
        })
    }
}

#[cfg(test)]
mod tests;
