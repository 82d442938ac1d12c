//! The decoder: where in the stream it is, and what it has learned.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::command::PageSizes;
use crate::error::{DecodeError, Rule};
use crate::forward::blocks::{Block, BlockId, Blocks};
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::options::Options;
use crate::forward::order::{Phase, Position};
use crate::forward::place::{Payload, Place, Section, wide};
use crate::forward::{Event, Step};
use crate::generated::{ram as flag, section};

/// Pull decoder of one channel of a forward stream.
///
/// CONTINUE refers to the last record *of this channel* that named a block,
/// across sections, commands and the switch to postcopy, as in QEMU's
/// `ram.c:ram_block_from_stream`. A real source names the block again after
/// the discards; a decoder does not insist on it, because the reference is not
/// ambiguous. On a channel that resumes a migration, and on a preempt channel,
/// nothing has been named yet.
///
/// After an error the decoder stays broken, and says the same error again: the
/// stream offers no way to find the next item.
#[derive(Clone, Debug)]
pub struct Decoder {
    pub(super) options: Options,
    /// Bytes of the channel that have been consumed.
    pub(super) offset: u64,
    pub(super) place: Place,
    pub(super) phase: Phase,
    pub(super) return_path: bool,
    /// Bytes left of the package.
    pub(super) package: Option<u64>,
    /// Whether footers close sections; unknown before the first one could.
    pub(super) footers: Option<bool>,
    pub(super) target_page: u64,
    /// The target page size is from the configuration.
    pub(super) page_bits: bool,
    pub(super) ignore_shared: bool,
    pub(super) mapped_ram: bool,
    pub(super) sections: BTreeMap<u32, Section>,
    /// The `ram` section. Unknown in a blind decoder before its first piece.
    pub(super) ram: Option<u32>,
    pub(super) blocks: Blocks,
    /// The list of RAM blocks has been read.
    pub(super) listed: bool,
    /// The block that CONTINUE refers to.
    pub(super) current: Option<BlockId>,
    /// Nothing follows the input.
    closed: bool,
    broken: Option<DecodeError>,
}

/// Decoder state at the switch to postcopy that a decoder of a resumed channel needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Size of a target page in bytes.
    pub target_page: u64,
    /// The RAM blocks, in the order of their announcement.
    pub blocks: Vec<Block>,
    /// Number of the `ram` section.
    pub ram_section: u32,
    /// Whether footers close the sections.
    pub footers: bool,
}

impl Decoder {
    /// For the first connection of a migration, or a saved stream: the header
    /// is expected.
    pub fn new(options: Options) -> Self {
        Self::at(Place::Header, Phase::Start, false, options)
    }

    /// For a main channel that resumes a migration whose first connection
    /// cannot be had: blocks are known from the names that appear, without
    /// their lengths, and the first section is taken to be `ram`.
    pub fn blind_resumed(options: Options) -> Self {
        Self {
            return_path: true,
            ..Self::at(Place::Item, Phase::Recovering, true, options)
        }
    }

    /// For a preempt channel whose main channel cannot be had: blocks are
    /// known from the names that appear, without their lengths.
    pub fn blind_preempt(options: Options) -> Self {
        Self::at(Place::Preempt, Phase::Running, true, options)
    }

    /// For the main channel that resumes this channel's migration: sections
    /// and RAM blocks stay as they are, RECV_BITMAP and POSTCOPY_RESUME come
    /// first, and a section that had ended may end again.
    pub fn resume(&self) -> Self {
        let mut decoder = Self {
            return_path: true,
            ..self.another(Place::Item, Phase::Recovering)
        };
        for section in decoder.sections.values_mut() {
            section.ended = false;
        }
        decoder
    }

    /// A decoder for a main channel that resumes a migration whose first connection
    /// another process has read: as [`Decoder::resume`], from what that process saved.
    pub fn resumed(options: Options, known: Known) -> Self {
        let options = Options {
            target_page: known.target_page,
            ..options
        };
        let mut decoder = Self {
            return_path: true,
            footers: Some(known.footers),
            ram: Some(known.ram_section),
            listed: true,
            ..Self::at(Place::Item, Phase::Recovering, false, options)
        };
        let ram = Section {
            payload: Payload::Ram,
            name: section::RAM_NAME.into(),
            ended: false,
        };
        decoder.sections.insert(known.ram_section, ram);
        for block in known.blocks {
            decoder.blocks.push(block);
        }
        decoder
    }

    /// For the preempt channel of this channel's migration: bare RAM records.
    /// The list of RAM blocks must have been read.
    pub fn preempt(&self) -> Self {
        self.another(Place::Preempt, Phase::Running)
    }

    fn at(place: Place, phase: Phase, learns: bool, options: Options) -> Self {
        Self {
            offset: 0,
            place,
            phase,
            return_path: false,
            package: None,
            footers: None,
            target_page: options.target_page,
            page_bits: false,
            ignore_shared: false,
            mapped_ram: false,
            sections: BTreeMap::new(),
            ram: None,
            blocks: Blocks::new(learns),
            listed: learns,
            current: None,
            closed: false,
            broken: options.check().err(),
            options,
        }
    }

    /// Another channel of the same migration.
    fn another(&self, place: Place, phase: Phase) -> Self {
        Self {
            offset: 0,
            place,
            phase,
            package: None,
            current: None,
            closed: false,
            broken: self.options.check().err(),
            ..self.clone()
        }
    }

    /// The next piece of the stream, taken from the front of `input`. The
    /// caller drops what it took. Nothing changes when more is needed.
    ///
    /// # Errors
    ///
    /// The bytes break a rule of the stream, or a limit of the options. The
    /// offset is counted from the start of the channel. Every later call fails
    /// the same way.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, DecodeError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        match self.clipped(input) {
            Ok((event, size)) => Ok(Step::Event { event, size }),
            Err(Stop::Need(need)) => Ok(Step::Need(need)),
            Err(Stop::Fault(error)) => {
                let error = error.based(self.offset);
                self.broken = Some(error);
                Err(error)
            }
        }
    }

    /// Reads no further than the package.
    fn clipped<'a>(&mut self, input: &'a [u8]) -> Result<(Event<'a>, usize), Stop> {
        let Some(left) = self.package else {
            let (event, size) = self.step(input)?;
            self.offset = self.offset.saturating_add(wide(size));
            return Ok((event, size));
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let view = input.get(..most).unwrap_or(input);
        match self.step(view) {
            Ok((event, size)) => {
                self.offset = self.offset.saturating_add(wide(size));
                if let Some(left) = &mut self.package {
                    *left = left.saturating_sub(wide(size));
                }
                Ok((event, size))
            }
            Err(Stop::Need(need)) if wide(view.len()).saturating_add(wide(need)) > left => {
                Err(Cursor::new(view).fault_at(0, None, Rule::PackageEnd))
            }
            Err(stop) => Err(stop),
        }
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> Result<(Event<'a>, usize), Stop> {
        loop {
            match self.place {
                Place::Header => return self.header(input),
                Place::Configuration => {
                    if let Some(done) = self.configuration(input)? {
                        return Ok(done);
                    }
                }
                Place::Subsections(seen) => {
                    if let Some(done) = self.subsection(input, seen)? {
                        return Ok(done);
                    }
                }
                Place::Item if self.package == Some(0) => return self.package_end(input),
                Place::Item => return self.item(input),
                Place::Ram { id, start } => return self.ram_record(input, id, start),
                Place::List { id, left } => return self.list_entry(input, id, left),
                Place::Device { id } => {
                    if let Some(done) = self.device(input, id)? {
                        return Ok(done);
                    }
                }
                Place::DirtyBitmap { id } => return self.dirty_bitmap(input, id),
                Place::Unskippable { id } => return Err(Self::unskippable(input, id)),
                Place::Footer { id } => {
                    if let Some(done) = self.footer(input, id)? {
                        return Ok(done);
                    }
                }
                Place::Preempt => return self.preempt_record(input),
                Place::Eof => return self.description(input),
                Place::Description(left) => return self.description_bytes(input, left),
                Place::End => return Self::end(input),
            }
        }
    }

    /// Says that the channel has ended: the input of the next calls is all
    /// that there is. Only then can a stream end right behind EOF with device
    /// state and without a description, because EOF is a single 0 byte that
    /// device state is full of.
    pub fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the channel may end here, with `left` as the input that has
    /// been offered to [`Decoder::next`] and not been taken.
    ///
    /// It may end behind EOF and a whole description, at a record's end on a
    /// preempt channel, and in the device state of a precopy stream without
    /// footers.
    ///
    /// # Errors
    ///
    /// It ends inside something, or what is left is wrong, or the decoder had
    /// already failed.
    pub fn finish(&self, left: &[u8]) -> Result<(), DecodeError> {
        let mut decoder = self.clone();
        decoder.close();
        let mut left = left;
        let need = loop {
            match decoder.next(left)? {
                Step::Event { size, .. } => left = left.get(size..).unwrap_or_default(),
                Step::Need(need) => break need,
            }
        };
        if left.is_empty() && decoder.may_end() {
            return Ok(());
        }
        Err(DecodeError {
            offset: decoder.offset,
            message: decoder.place.inside(left),
            field: None,
            rule: Rule::CutShort {
                have: left.len(),
                need,
            },
        })
    }

    fn may_end(&self) -> bool {
        match self.place {
            Place::Eof | Place::End | Place::Preempt => true,
            Place::Device { .. } => self.package.is_none() && self.footers == Some(false),
            _ => false,
        }
    }

    /// The fast path for a page: if `word` opens a PAGE record of the same block as the
    /// last one, returns which page it is, and advances over the record if `is_whole`:
    /// the page behind the word has arrived, and the decoder need not see it.
    ///
    /// `None` leaves the decoder unchanged, and the bytes are for [`Decoder::next`].
    #[inline]
    pub fn continued_page(&mut self, word: [u8; 8], is_whole: bool) -> Option<(BlockId, u64)> {
        if !matches!(self.place, Place::Ram { .. } | Place::Preempt) || self.broken.is_some() {
            return None;
        }
        let word = u64::from_be_bytes(word);
        let flags = self.target_page - 1;
        if word & flags != flag::PAGE | flag::CONTINUE {
            return None;
        }
        let (block, offset) = (self.current?, word & !flags);
        self.blocks.check(block, offset, self.target_page).ok()?;
        if is_whole {
            self.offset = self.offset.saturating_add(8 + self.target_page);
        }
        Some((block, offset))
    }

    /// Bytes of the channel that have been consumed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The RAM blocks, in the order of their announcement.
    pub fn blocks(&self) -> &[Block] {
        self.blocks.list()
    }

    /// What [`Decoder::resumed`] needs, once the RAM blocks and a whole section
    /// have been read.
    pub fn known(&self) -> Option<Known> {
        Some(Known {
            target_page: self.target_page,
            blocks: self.blocks.list().to_vec(),
            ram_section: self.ram?,
            footers: self.footers?,
        })
    }

    /// The RAM block of this name.
    pub fn block(&self, name: &[u8]) -> Option<BlockId> {
        self.blocks.id(name)
    }

    /// Size of a target page in bytes.
    pub fn target_page(&self) -> u64 {
        self.target_page
    }

    /// What POSTCOPY_ADVISE said of page sizes, if it came.
    pub fn page_sizes(&self) -> Option<PageSizes> {
        self.blocks.sizes
    }

    /// Whether POSTCOPY_LISTEN has come, on this channel or one before.
    pub fn is_listening(&self) -> bool {
        self.phase.is_postcopy()
    }

    /// Whether POSTCOPY_RUN has come, on this channel or one before.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Recovering)
    }

    /// Whether EOF has come. In precopy a description may follow.
    pub fn has_ended(&self) -> bool {
        matches!(self.place, Place::Eof | Place::Description(_) | Place::End)
    }

    /// Whether footers close the sections, once that can be known.
    pub fn has_footers(&self) -> Option<bool> {
        self.footers
    }

    /// Bytes left of the package, inside of one.
    pub fn package(&self) -> Option<u64> {
        self.package
    }

    /// Name of a section that comes in pieces, such as `ram`.
    pub fn section(&self, id: u32) -> Option<&[u8]> {
        let section = self.sections.get(&id)?;
        (section.payload != Payload::Device).then_some(&*section.name)
    }

    pub(super) fn position(&self) -> Position {
        Position {
            phase: self.phase,
            package: self.package.is_some(),
            return_path: self.return_path,
            sections: !self.sections.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_channel_has_not_ended_with_this_one() {
        let mut main = Decoder::new(Options::default());
        main.close();
        assert!(main.is_closed());
        assert!(!main.resume().is_closed() && !main.preempt().is_closed());
    }
}
