//! The state that an earlier `retpath receive` left in postcopy, for `--continue`.

use std::path::Path;

use retpath_codec::forward::{self, ResumeState};

use retpath_engine::destination::Destination;
use retpath_engine::driver::ReceiveOptions;
use retpath_image::{Manifest, Writer};

/// A migration that an earlier process left unfinished.
pub(super) struct Unfinished {
    pub(super) core: Destination,
    pub(super) known: ResumeState,
    pub(super) facts: Manifest,
    /// Whether the image can be finished; if not, the guest can only be given back.
    pub(super) has_device_state: bool,
}

impl Unfinished {
    /// Opens the folder, and sets the options that the stream depends on.
    ///
    /// # Errors
    ///
    /// The folder does not hold an unfinished migration, or cannot be read.
    pub(super) fn open(
        folder: &Path,
        out: Option<&Path>,
        options: &mut ReceiveOptions,
    ) -> Result<(Writer, Self), String> {
        let text = |error: retpath_image::Error| error.to_string();
        let (writer, unfinished) = Writer::resume(folder, out).map_err(text)?;
        let retpath_image::Unfinished {
            facts,
            has_device_state,
            ..
        } = unfinished;
        options.core.target_page = facts.target_page;
        let blocks = writer.blocks().into_iter().flat_map(|blocks| blocks.iter());
        let blocks: Vec<_> = blocks
            .enumerate()
            .map(|(id, block)| Ok((block.clone(), writer.received(id).map_err(text)?)))
            .collect::<Result<_, String>>()?;
        let known = ResumeState::new(
            facts.target_page,
            blocks
                .iter()
                .map(|(block, _)| {
                    forward::StreamBlock::new(block.name.clone(), Some(block.len), block.page)
                })
                .collect(),
            facts.source.ram_section,
            facts.source.footers,
        );
        let states = writer.states().map_err(text)?;
        let sections = states.each_ref().map(Vec::as_slice);
        let sections = has_device_state.then_some(&sections[..]);
        let core = Destination::resumed(options.core.clone(), blocks, sections)
            .map_err(|error| error.to_string())?;
        let left = Self {
            core,
            known,
            facts,
            has_device_state,
        };
        Ok((writer, left))
    }
}
