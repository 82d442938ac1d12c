//! The decoder: its position in the stream, and its state.

use alloc::collections::BTreeMap;

use crate::command::PageSizes;
use crate::error::{DecodeError, Rule};
use crate::forward::blocks::{BlockIndex, Blocks, StreamBlock};
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::expected::{Expected, Payload, Section, wide};
use crate::forward::options::Options;
use crate::forward::order::{Context, Phase};
use crate::forward::ram::Record;
use crate::forward::{Decoded, Event};
use crate::generated::ram as flag;

/// Pull decoder of one channel of a forward stream.
///
/// ```
/// use retpath_codec::forward::{Decoded, Decoder, Event, Options};
///
/// let mut decoder = Decoder::new(Options::default());
/// // The first bytes of a stream; the second event is incomplete.
/// let mut input = &b"QEVM\0\0\0\x03\x07\0\0\0\x02p"[..];
/// let Decoded::Event { event, size } = decoder.next(input)? else {
///     panic!("the header is complete");
/// };
/// assert_eq!((event, size), (Event::Header, 8));
/// input = &input[size..];
/// assert_eq!(decoder.next(input)?, Decoded::Need(1));
/// # Ok::<(), retpath_codec::DecodeError>(())
/// ```
///
/// A record with the flag CONTINUE belongs to the block of the record before
/// it *on this channel*, across sections, commands and the switch to postcopy,
/// as in `ram.c:ram_block_from_stream`. QEMU names the block again after the
/// discards; the decoder does not require that. On a channel that resumes a
/// migration and on a preempt channel, the first record must name its block.
///
/// After an error, every call returns the same error: the stream has no
/// markers from which decoding could go on.
#[derive(Clone, Debug)]
pub struct Decoder {
    pub(super) options: Options,
    /// Bytes of the channel that were consumed.
    pub(super) offset: u64,
    pub(super) expected: Expected,
    pub(super) phase: Phase,
    pub(super) return_path: bool,
    /// Bytes that remain in the package.
    pub(super) package: Option<u64>,
    /// Whether sections have footers; unknown until the first could occur.
    pub(super) footers: Option<bool>,
    pub(super) target_page: u64,
    /// The target page size was stated in the configuration.
    pub(super) page_bits: bool,
    pub(super) ignore_shared: bool,
    pub(super) mapped_ram: bool,
    pub(super) sections: BTreeMap<u32, Section>,
    /// Id of the `ram` section. Without the first channel it is unknown until
    /// the first section.
    pub(super) ram: Option<u32>,
    pub(super) blocks: Blocks,
    /// The list of RAM blocks has been read.
    pub(super) listed: bool,
    /// The block that CONTINUE refers to.
    pub(super) current: Option<BlockIndex>,
    /// The input is the end of the channel.
    pub(super) closed: bool,
    pub(super) broken: Option<DecodeError>,
}

impl Decoder {
    /// Makes a decoder for the first channel of a migration or for a saved
    /// stream, which starts with the header.
    pub fn new(options: Options) -> Self {
        Self::at(Expected::Header, Phase::Start, false, options)
    }

    pub(super) fn at(expected: Expected, phase: Phase, learns: bool, options: Options) -> Self {
        Self {
            offset: 0,
            expected,
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

    /// Decodes one event from the start of `input`.
    ///
    /// The caller removes the event's bytes from the input before the next
    /// call. When more bytes are needed, the decoder is unchanged.
    ///
    /// # Errors
    ///
    /// Fails when the bytes break a rule of the stream or exceed a limit of the
    /// options. The offset in the error is relative to the start of the channel.
    /// Every later call returns the same error.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        if let Some(decoded) = self.page(input) {
            return Ok(decoded);
        }
        if let Some(error) = self.broken {
            return Err(error);
        }
        match self.clipped(input) {
            Ok((event, size)) => Ok(Decoded::Event { event, size }),
            Err(Stop::Need(need)) => Ok(Decoded::Need(need)),
            Err(Stop::Malformed(error)) => {
                let error = error.based(self.offset);
                self.broken = Some(error);
                Err(error)
            }
        }
    }

    /// Decodes a PAGE record with the flag CONTINUE; `None` for everything else, which
    /// leaves the decoder unchanged.
    ///
    /// Nearly all bytes of a stream are in these records. Here, one takes 5 ns in a plain
    /// release build; by the rest of [`Decoder::next`], which decodes them alike, 30 ns
    /// (`codec/bench`). Copying 4 KiB within the second-level cache takes 40 ns.
    #[inline]
    fn page<'a>(&mut self, input: &'a [u8]) -> Option<Decoded<'a>> {
        let (word, rest) = input.split_first_chunk()?;
        let page = usize::try_from(self.target_page).unwrap_or(usize::MAX);
        let data = rest.get(..page);
        let (block, offset) = self.continued_page(*word, data.is_some())?;
        let Some(data) = data else {
            return Some(Decoded::Need(page - rest.len()));
        };
        let record = Record::Page {
            block,
            offset,
            data,
            named: false,
        };
        Some(Decoded::Event {
            event: Event::Record(record),
            size: word.len() + page,
        })
    }

    /// Decodes one event, and nothing outside of the current package.
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
                Err(Cursor::new(view).error_at(0, None, Rule::PackageEnd))
            }
            Err(stop) => Err(stop),
        }
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> Result<(Event<'a>, usize), Stop> {
        loop {
            match self.expected {
                Expected::Header => return self.header(input),
                Expected::Configuration => {
                    if let Some(done) = self.configuration(input)? {
                        return Ok(done);
                    }
                }
                Expected::Subsections(seen) => {
                    if let Some(done) = self.subsection(input, seen)? {
                        return Ok(done);
                    }
                }
                Expected::Item if self.package == Some(0) => return self.package_end(input),
                Expected::Item => return self.item(input),
                Expected::Ram { id, start } => return self.ram_record(input, id, start),
                Expected::List { id, left } => return self.list_entry(input, id, left),
                Expected::Device { id } => {
                    if let Some(done) = self.device(input, id)? {
                        return Ok(done);
                    }
                }
                Expected::DirtyBitmap { id } => return self.dirty_bitmap(input, id),
                Expected::Unskippable { id } => return Err(Self::unskippable(input, id)),
                Expected::Footer { id } => {
                    if let Some(done) = self.footer(input, id)? {
                        return Ok(done);
                    }
                }
                Expected::Preempt => return self.preempt_record(input),
                Expected::Eof => return self.description(input),
                Expected::Description(left) => return self.description_bytes(input, left),
                Expected::End => return Self::end(input),
            }
        }
    }

    /// Marks the channel as ended: no bytes follow the input of the next calls.
    ///
    /// Needed to recognise an EOF that directly follows device state without a
    /// description: EOF is a single 0 byte, which is common in device state.
    pub fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Checks that the channel may end here. `left` is the input that has been
    /// passed to [`Decoder::next`] and is not part of an event yet.
    ///
    /// A channel may end after EOF and a complete description, between records
    /// of a preempt channel, and in the device state of a precopy stream without
    /// footers.
    ///
    /// # Errors
    ///
    /// [`Rule::CutShort`] when the channel ends inside an item, or the error of
    /// [`Decoder::next`].
    pub fn finish(&self, left: &[u8]) -> Result<(), DecodeError> {
        if left.is_empty() && self.broken.is_none() && self.may_end() {
            return Ok(());
        }
        let mut decoder = self.clone();
        decoder.close();
        let mut left = left;
        let need = loop {
            match decoder.next(left)? {
                Decoded::Event { size, .. } => left = left.get(size..).unwrap_or_default(),
                Decoded::Need(need) => break need,
            }
        };
        if left.is_empty() && decoder.may_end() {
            return Ok(());
        }
        Err(DecodeError::new(
            decoder.offset,
            decoder.expected.inside(left),
            None,
            Rule::CutShort {
                have: left.len(),
                need,
            },
        ))
    }

    fn may_end(&self) -> bool {
        match self.expected {
            Expected::Eof | Expected::End | Expected::Preempt => true,
            Expected::Device { .. } => self.package.is_none() && self.footers == Some(false),
            _ => false,
        }
    }

    /// Recognises a PAGE record with the flag CONTINUE at its first 8 bytes, and
    /// returns block and offset of the page.
    ///
    /// If `is_whole`, which means that the contents of the page have arrived, the
    /// decoder advances over record and contents. They need not be passed to it, so
    /// that they can be read straight into guest memory. Otherwise, and when the
    /// result is `None`, the decoder is unchanged; the bytes are for
    /// [`Decoder::next`].
    #[inline]
    pub fn continued_page(&mut self, word: [u8; 8], is_whole: bool) -> Option<(BlockIndex, u64)> {
        if !matches!(self.expected, Expected::Ram { .. } | Expected::Preempt)
            || self.broken.is_some()
        {
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

    /// Returns the number of bytes of the channel that were consumed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the RAM blocks, in the order of the block list.
    pub fn blocks(&self) -> &[StreamBlock] {
        self.blocks.list()
    }

    /// Returns the RAM block with this name.
    pub fn block(&self, name: &[u8]) -> Option<BlockIndex> {
        self.blocks.id(name)
    }

    /// Returns the target page size in bytes.
    pub fn target_page(&self) -> u64 {
        self.target_page
    }

    /// Returns the page sizes in POSTCOPY_ADVISE, once it has been decoded.
    pub fn page_sizes(&self) -> Option<PageSizes> {
        self.blocks.sizes
    }

    /// Returns whether POSTCOPY_LISTEN was decoded, on this channel or an earlier
    /// one.
    pub fn is_listening(&self) -> bool {
        self.phase.is_postcopy()
    }

    /// Returns whether POSTCOPY_RUN was decoded, on this channel or an earlier
    /// one.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Recovering)
    }

    /// Returns whether EOF was decoded. In precopy, a description may follow.
    pub fn has_ended(&self) -> bool {
        matches!(
            self.expected,
            Expected::Eof | Expected::Description(_) | Expected::End
        )
    }

    /// Returns whether sections have footers, once that is known.
    pub fn has_footers(&self) -> Option<bool> {
        self.footers
    }

    /// Returns how many bytes remain in the current package; `None` outside of
    /// packages.
    pub fn package(&self) -> Option<u64> {
        self.package
    }

    /// Returns the name of a section that has several parts, such as `ram`.
    pub fn section(&self, id: u32) -> Option<&[u8]> {
        let section = self.sections.get(&id)?;
        (section.payload != Payload::Device).then_some(&*section.name)
    }

    pub(super) fn context(&self) -> Context {
        Context {
            phase: self.phase,
            package: self.package.is_some(),
            return_path: self.return_path,
            sections: !self.sections.is_empty(),
        }
    }
}
