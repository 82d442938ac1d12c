//! RAM records and the block list.
//!
//! The decoder changes only when a record is complete.

use nom::ToUsize;
use nom::bytes::{tag, take};
use nom::combinator::{cond, opt, peek, verify};
use nom::number::{be_u8, be_u16, be_u32, be_u64};
use nom::sequence::preceded;

use crate::command::Range;
use crate::error::Rule;
use crate::field::combinator::{field, length_data};
use crate::field::input::Bytes;
use crate::field::parse;
use crate::forward::blocks::{Found, StreamBlock, aligned};
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::decoder::Decoder;
use crate::forward::expected::Expected;
use crate::forward::item::Piece;
use crate::forward::ram::{Record, compress_bound};
use crate::forward::{BlockIndex, Event};
use crate::generated::ram as flag;
use crate::name::Name;

/// The offset and flags at the start of a record.
#[derive(Clone, Copy)]
struct Word {
    offset: u64,
    /// The flags without CONTINUE.
    kind: u64,
    named: bool,
}

/// The first byte of a page size in the block list.
const FIRST_OF_PAGE_SIZE: &[u8] = &[0];

impl Decoder {
    /// Decodes a record of a `ram` section.
    pub(super) fn ram_record<'a>(
        &mut self,
        input: &'a [u8],
        id: u32,
        start: bool,
    ) -> Result<Piece<'a>, Stop> {
        let (legal, state) = match self.phase.is_postcopy() {
            true => (flag::POSTCOPY, "after POSTCOPY_LISTEN"),
            false => (flag::PRECOPY, "in a RAM section"),
        };
        let mut cursor = Cursor::new(input);
        let word = self.word(&mut cursor, legal, state)?;
        let record = match word.kind {
            flag::EOS => {
                self.expected = Expected::Footer { id };
                Record::Eos
            }
            flag::MEM_SIZE => {
                self.mem_size(&cursor, start)?;
                self.listed = true;
                if word.offset > 0 {
                    let left = word.offset;
                    self.expected = Expected::List { id, left };
                }
                Record::MemSize { total: word.offset }
            }
            flag::HOOK => Record::Hook,
            flag::MULTIFD_FLUSH => Record::MultifdFlush,
            _ => self.page_record(&mut cursor, word)?,
        };
        Ok((Event::Record(record), cursor.at()))
    }

    /// Decodes a record of the preempt channel.
    pub(super) fn preempt_record<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input);
        let word = self.word(&mut cursor, flag::PREEMPT, "on the preempt channel")?;
        let record = match word.kind {
            flag::EOS => {
                self.expected = Expected::End;
                Record::Eos
            }
            _ => self.page_record(&mut cursor, word)?,
        };
        Ok((Event::Record(record), cursor.at()))
    }

    fn word(&self, cursor: &mut Cursor<'_>, legal: u64, state: &'static str) -> Result<Word, Stop> {
        let word = cursor.read(be_u64())?;
        let mask = self.target_page - 1;
        let (offset, flags) = (word & !mask, word & mask);
        let kind = flags & !flag::CONTINUE;
        let named = flags & flag::CONTINUE == 0;
        let Some(label) = flag::label(kind) else {
            return Err(cursor.error(8, "flags", Rule::Flags { flags }));
        };
        cursor.label = Some(label);
        if kind & legal == 0 {
            return Err(cursor.error(8, "flags", Rule::Illegal { state }));
        }
        if kind & flag::IN_BLOCK == 0 && !named {
            return Err(cursor.error(8, "flags", Rule::Flags { flags }));
        }
        if kind & (flag::IN_BLOCK | flag::MEM_SIZE) == 0 && offset != 0 {
            let (got, want) = (word, kind);
            return Err(cursor.error(8, "offset", Rule::Value { got, want }));
        }
        Ok(Word {
            offset,
            kind,
            named,
        })
    }

    /// Decodes the rest of a record that belongs to a block.
    fn page_record<'a>(&mut self, cursor: &mut Cursor<'a>, word: Word) -> Result<Record<'a>, Stop> {
        let (name, found) = if word.named {
            let (name, found) = self.named(cursor)?;
            (Some(name), found)
        } else {
            match self.current {
                Some(block) => (None, Found::Known(block)),
                None => return Err(cursor.error(8, "flags", Rule::NoBlock)),
            }
        };
        let block = found.id();
        let Word { offset, named, .. } = word;
        self.blocks
            .check(block, offset, self.target_page)
            .map_err(|rule| cursor.error_at(0, Some("offset"), rule))?;
        let record = self.body(cursor, word.kind, block, offset, named)?;
        if let Some(name) = name {
            self.learn_new(found, name);
            self.current = Some(block);
        }
        Ok(record)
    }

    fn body<'a>(
        &self,
        cursor: &mut Cursor<'a>,
        kind: u64,
        block: BlockIndex,
        offset: u64,
        named: bool,
    ) -> Result<Record<'a>, Stop> {
        // At most 64 KiB.
        let page = usize::try_from(self.target_page).unwrap_or(usize::MAX);
        Ok(match kind {
            flag::ZERO => {
                let fill = cursor.read(field("fill", be_u8(), |fill| match fill {
                    0 => Ok(fill),
                    _ if self.options.nonzero_fill => Ok(fill),
                    _ => Err(Rule::Fill { fill }),
                }))?;
                Record::Zero {
                    block,
                    offset,
                    fill,
                    named,
                }
            }
            flag::XBZRLE => {
                let encoding = parse::u8_equals("encoding", flag::XBZRLE_ENCODING);
                let len = field("data", be_u16(), |len| at_most(page, len));
                let ((), Bytes(data)) = cursor.read((encoding, length_data(len)))?;
                Record::Xbzrle {
                    block,
                    offset,
                    data,
                    named,
                }
            }
            flag::COMPRESS_PAGE => {
                let len = field("data", be_u32(), |len| at_most(compress_bound(page), len));
                let Bytes(data) = cursor.read(length_data(len))?;
                Record::Compressed {
                    block,
                    offset,
                    data,
                    named,
                }
            }
            _ => Record::Page {
                block,
                offset,
                data: cursor.read(take(page))?.0,
                named,
            },
        })
    }

    /// Decodes a block name and finds the block.
    fn named<'a>(&self, cursor: &mut Cursor<'a>) -> Result<(Name<'a>, Found), Stop> {
        let name = cursor.read(parse::name("block"))?;
        let back = name.as_bytes().len() + 1;
        let found = self
            .blocks
            .find(name, &self.options)
            .map_err(|rule| cursor.error(back, "block", rule))?;
        Ok((name, found))
    }

    /// Adds a block that was not known before.
    pub(super) fn learn_new(&mut self, found: Found, name: Name<'_>) {
        if let Found::New(_) = found {
            self.blocks.learn(name, &self.options);
        }
    }

    /// Checks that the block list is allowed here.
    fn mem_size(&self, cursor: &Cursor<'_>, start: bool) -> Result<(), Stop> {
        let rule = if !start {
            Rule::Illegal {
                state: "outside SECTION_START",
            }
        } else if self.listed {
            Rule::Repeated
        } else if self.mapped_ram {
            Rule::MappedRam
        } else {
            return Ok(());
        };
        Err(cursor.error_at(0, None, rule))
    }

    /// Decodes an entry of the block list.
    ///
    /// Whether it has a page size follows from the next byte. A page size is a power
    /// of two far below 2^56, so its first byte is 0. Otherwise the length of a name
    /// follows, which is not 0, or a record, which has a flag below the smallest page
    /// size.
    pub(super) fn list_entry<'a>(
        &mut self,
        input: &'a [u8],
        section: u32,
        left: u64,
    ) -> Result<Piece<'a>, Stop> {
        let mut cursor = Cursor::new(input).of("BLOCK");
        let name = cursor.read(parse::name("block"))?;
        let back = name.as_bytes().len() + 1;
        if self.blocks.id(name.as_bytes()).is_some() {
            return Err(cursor.error(back, "block", Rule::BlockTwice));
        }
        let id = self
            .blocks
            .room(&self.options)
            .map_err(|rule| cursor.error(back, "blocks", rule))?;
        let (len, left) = cursor.read(field("len", be_u64(), |len| {
            Range::new(0, len).and(aligned(len, self.target_page))?;
            match left.checked_sub(len) {
                Some(left) => Ok((len, left)),
                None => Err(Rule::PastTotal { len, left }),
            }
        }))?;
        let at = cursor.at();
        let page_size = self.page_size(&mut cursor)?;
        let gpa = cursor.read(cond(self.ignore_shared, be_u64()))?;
        let used = self.judge_page_size(name, page_size);
        let used = used.map_err(|rule| cursor.error_at(at, Some("page_size"), rule))?;
        if self.blocks.sizes.is_some() {
            aligned(len, used).map_err(|rule| cursor.error_at(at - 8, Some("len"), rule))?;
        }
        self.blocks.push(StreamBlock {
            name: name.to_buf(),
            len: Some(len),
            page_size: used,
        });
        self.expected = match left {
            0 => Expected::Ram {
                id: section,
                start: true,
            },
            left => Expected::List { id: section, left },
        };
        let record = Record::Block {
            block: id,
            name,
            len,
            page_size,
            gpa,
        };
        Ok((Event::Record(record), cursor.at()))
    }

    /// Decodes the page size in an entry of the block list, if it has one.
    fn page_size(&self, cursor: &mut Cursor<'_>) -> Result<Option<u64>, Stop> {
        // An entry has a guest address or a page size, not both.
        if self.blocks.sizes.is_none() || self.ignore_shared {
            return Ok(None);
        }
        let word = preceded(peek(tag(FIRST_OF_PAGE_SIZE)), be_u64());
        let is_size = |size: &u64| size.is_power_of_two() && *size >= self.target_page;
        cursor.read(opt(verify(word, is_size)))
    }

    /// Determines the page size of a block from stream and options.
    fn judge_page_size(&self, name: Name<'_>, written: Option<u64>) -> Result<u64, Rule> {
        let listed = self.options.listed(name.as_bytes());
        let usual = self.blocks.usual(&self.options);
        let Some(sizes) = self.blocks.sizes else {
            return Ok(listed.unwrap_or(usual));
        };
        let got = written.unwrap_or(usual);
        if got & sizes.summary == 0 {
            let (size, summary) = (got, sizes.summary);
            return Err(Rule::NotAdvised { size, summary });
        }
        match listed {
            Some(want) if want != got => Err(Rule::BlockPage { got, want }),
            _ => Ok(got),
        }
    }
}

/// Parses a length of at most `limit` bytes.
fn at_most(limit: usize, len: impl ToUsize) -> Result<usize, Rule> {
    let len = len.to_usize();
    match len <= limit {
        true => Ok(len),
        false => Err(Rule::TooLong { len, limit }),
    }
}
