//! Commands: decoded by generated code, checked here against the phase of the
//! migration and the RAM blocks.

use crate::command::{Command, Commands, PageSizes, RangeList, Ranges};
use crate::error::Rule;
use crate::forward::Event;
use crate::forward::cursor::{Cursor, Stop};
use crate::forward::decoder::Decoder;
use crate::forward::expected::wide;
use crate::forward::item::Piece;
use crate::forward::options::within;
use crate::forward::order::Phase;
use crate::forward::ram::is_target_page;
use crate::frame::{Decoded, Dialect, decode};
use crate::name::Name;

/// Offset of the payload of a command.
const PAYLOAD: usize = Commands::HEADER;

impl Decoder {
    pub(super) fn command<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        let (command, size) = match decode::<Commands>(input)? {
            Decoded::Need(need) => return Err(Stop::Need(need)),
            Decoded::Message { message, rest, .. } => (message, input.len() - rest.len()),
        };
        let cursor = Cursor::new(input).of(command.label());
        let phase = self
            .context()
            .command(&command)
            .map_err(|rule| cursor.error_at(0, None, rule))?;
        match command {
            Command::OpenReturnPath => self.return_path = true,
            Command::PostcopyAdvise { sizes: Some(sizes) } => self.advise(cursor, sizes)?,
            Command::PostcopyRamDiscard { block, ranges } => self.discard(cursor, block, ranges)?,
            Command::Packaged { size: package } => {
                within(package.into(), self.options.max_package.into())
                    .map_err(|rule| cursor.error_at(PAYLOAD, Some("size"), rule))?;
                self.package = Some(package.into());
            }
            Command::PostcopyRun => {
                let left = self.package.unwrap_or(0);
                let count = left.saturating_sub(wide(size));
                if count > 0 {
                    return Err(cursor.error_at(size, None, Rule::AfterRun { count }));
                }
            }
            Command::RecvBitmap { block } => {
                let found = self
                    .blocks
                    .find(block, &self.options)
                    .map_err(|rule| cursor.error_at(PAYLOAD, Some("block"), rule))?;
                self.learn_new(found, block);
            }
            _ => {}
        }
        self.phase = phase;
        Ok((Event::Command(command), size))
    }

    fn advise(&mut self, cursor: Cursor<'_>, sizes: PageSizes) -> Result<(), Stop> {
        let error = |at, rule| Err(cursor.error_at(at, Some("sizes"), rule));
        let PageSizes { summary, target } = sizes;
        let second = PAYLOAD + size_of_val(&summary);
        if !is_target_page(target) {
            return error(second, Rule::TargetPage { size: target });
        }
        if self.page_bits && target != self.target_page {
            let (got, want) = (target, self.target_page);
            return error(second, Rule::Value { got, want });
        }
        if summary == 0 || !summary.is_multiple_of(target) {
            return error(PAYLOAD, Rule::PageSummary { summary });
        }
        self.target_page = target;
        self.blocks.sizes = Some(sizes);
        Ok(())
    }

    fn discard(&self, cursor: Cursor<'_>, block: Name<'_>, ranges: Ranges<'_>) -> Result<(), Stop> {
        if self.blocks.sizes.is_none() {
            let state = "without page sizes in POSTCOPY_ADVISE";
            return Err(cursor.error_at(0, None, Rule::OutOfTurn { state }));
        }
        // The version is one byte.
        let at = PAYLOAD + 1;
        let Some(id) = self.blocks.id(block.as_bytes()) else {
            return Err(cursor.error_at(at, Some("block"), Rule::UnknownBlock));
        };
        // The name's length, the name, the terminator.
        let first = at + 1 + block.as_bytes().len() + 1;
        for (i, range) in ranges.iter().enumerate() {
            let at = first + i * size_of::<[u64; 2]>();
            self.blocks
                .check_range(id, range)
                .map_err(|rule| cursor.error_at(at, Some("ranges"), rule))?;
        }
        Ok(())
    }

    /// Ends a package, whose last command must be RUN.
    pub(super) fn package_end<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Stop> {
        if self.phase != Phase::Running {
            return Err(Cursor::new(input).error_at(0, None, Rule::NoRun));
        }
        self.package = None;
        Ok((Event::PackageEnd, 0))
    }
}
