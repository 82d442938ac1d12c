//! Decoders for the further channels of a migration: the preempt channel, and the main
//! channel after a recovery.
//!
//! What such a channel does not repeat, above all the block list, comes from the decoder
//! of the first channel, or from its saved [`ResumeState`]. Without either, a decoder
//! is *blind*: it learns blocks from the names in records.

use alloc::vec::Vec;

use crate::forward::blocks::StreamBlock;
use crate::forward::decoder::Decoder;
use crate::forward::expected::{Expected, Payload, Section};
use crate::forward::options::Options;
use crate::forward::order::Phase;
use crate::generated::section;

/// What a decoder of a resumed channel must know of the first channel.
///
/// Returned by [`Decoder::resume_state`], to be saved by a process that may be
/// restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumeState {
    /// Target page size in bytes.
    pub target_page: u64,
    /// The RAM blocks, in the order of the block list.
    pub blocks: Vec<StreamBlock>,
    /// Id of the `ram` section.
    pub ram_section: u32,
    /// Whether sections have footers.
    pub footers: bool,
}

impl ResumeState {
    /// Puts saved state together again.
    pub const fn new(
        target_page: u64,
        blocks: Vec<StreamBlock>,
        ram_section: u32,
        footers: bool,
    ) -> Self {
        Self {
            target_page,
            blocks,
            ram_section,
            footers,
        }
    }
}

impl Decoder {
    /// Makes a decoder for a main channel that resumes a migration, when the
    /// first channel is not available.
    ///
    /// RAM blocks are learned from the names in records, without their lengths;
    /// the first section is assumed to be `ram`.
    pub fn blind_resumed(options: Options) -> Self {
        Self {
            return_path: true,
            ..Self::at(Expected::Item, Phase::Recovering, true, options)
        }
    }

    /// Makes a decoder for a preempt channel, when the main channel is not
    /// available.
    ///
    /// RAM blocks are learned from the names in records, without their lengths.
    pub fn blind_preempt(options: Options) -> Self {
        Self::at(Expected::Preempt, Phase::Running, true, options)
    }

    /// Makes a decoder for the main channel that resumes this migration.
    ///
    /// Sections and RAM blocks are kept. RECV_BITMAP and POSTCOPY_RESUME are
    /// expected first. A section that had ended may end again.
    pub fn resume(&self) -> Self {
        let mut decoder = Self {
            return_path: true,
            ..self.another(Expected::Item, Phase::Recovering)
        };
        for section in decoder.sections.values_mut() {
            section.ended = false;
        }
        decoder
    }

    /// Makes a decoder for a main channel that resumes a migration, whose first
    /// channel was decoded by another process: as [`Decoder::resume`], from the
    /// state that the other process saved.
    pub fn resume_from(options: Options, known: ResumeState) -> Self {
        let options = Options {
            target_page: known.target_page,
            ..options
        };
        let mut decoder = Self {
            return_path: true,
            footers: Some(known.footers),
            ram: Some(known.ram_section),
            ..Self::at(Expected::Item, Phase::Recovering, false, options)
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

    /// Makes a decoder for the preempt channel of this migration, which consists
    /// of RAM records.
    ///
    /// To be called after the block list has been read.
    pub fn preempt(&self) -> Self {
        self.another(Expected::Preempt, Phase::Running)
    }

    /// Returns what [`Decoder::resume_from`] needs, once the block list and a
    /// complete section have been decoded.
    pub fn resume_state(&self) -> Option<ResumeState> {
        Some(ResumeState {
            target_page: self.target_page,
            blocks: self.blocks.list().to_vec(),
            ram_section: self.ram?,
            footers: self.footers?,
        })
    }

    /// Makes a decoder for another channel of the same migration.
    fn another(&self, expected: Expected, phase: Phase) -> Self {
        Self {
            offset: 0,
            expected,
            phase,
            package: None,
            current: None,
            closed: false,
            broken: self.options.check().err(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_a_channel_does_not_close_the_next() {
        let mut main = Decoder::new(Options::default());
        main.close();
        assert!(main.is_closed());
        assert!(!main.resume().is_closed() && !main.preempt().is_closed());
    }
}
