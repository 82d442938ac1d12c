//! What is served: the image's memory, lent from its mapping, and what the image says about how its
//! machine speaks on the wire.

use std::io;

use super::{Args, Release};
use crate::blocks::{Block, BlockId, Blocks};
use crate::image::Manifest;
use crate::memory::Frozen;
use crate::source::{Config, PageSource, Preempt};

/// The image, mapped once for all QEMUs.
pub(super) struct Stock {
    manifest: Manifest,
    blocks: Blocks,
    memory: Vec<Frozen>,
    device_state: Vec<u8>,
    early_state: Vec<u8>,
    release: Option<Release>,
}

impl Stock {
    /// Opens the image for reading only, and finds out how its machine speaks.
    ///
    /// # Errors
    ///
    /// It is no whole image; or `--preempt` is wanted and nothing tells its kind.
    pub(super) fn open(args: &Args) -> Result<Self, String> {
        let dir = &args.image;
        let path = dir.join(crate::image::MANIFEST);
        let text = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let manifest = Manifest::parse(&text, &path).map_err(|e| e.to_string())?;
        let mut blocks = Blocks::new(manifest.target_page).map_err(|e| e.to_string())?;
        let mut memory = Vec::new();
        for ram in &manifest.blocks {
            let block = Block {
                name: ram.name.clone(),
                len: ram.len,
                page: ram.page,
            };
            blocks.add(block).map_err(|e| e.to_string())?;
            let file = std::fs::File::open(dir.join(&ram.file)).map_err(|e| e.to_string())?;
            memory.push(Frozen::map(file, ram.len).map_err(|e| e.to_string())?);
        }
        let device_state =
            std::fs::read(dir.join(crate::image::DEVICE_STATE)).map_err(|e| e.to_string())?;
        let named = manifest.machine.as_deref();
        let release = args.machine_release.or_else(|| match named {
            Some(machine) => Release::of(machine),
            // Only machine types up to 2.3 do not say their name.
            None => Some(Release::OLD),
        });
        if args.preempt && release.is_none() {
            let machine = String::from_utf8_lossy(named.unwrap_or_default());
            return Err(format!(
                "the machine type {machine} does not tell its QEMU release, on which the preempt \
                 channel depends: give it with --machine-release, such as 7.2"
            ));
        }
        Ok(Self {
            manifest,
            blocks,
            memory,
            device_state,
            early_state: Vec::new(),
            release,
        })
    }

    /// The machine type, if the image says it.
    pub(super) fn machine(&self) -> Option<&[u8]> {
        self.manifest.machine.as_deref()
    }

    /// The RAM blocks.
    pub(super) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The devices' sections.
    pub(super) fn device_state(&self) -> &[u8] {
        &self.device_state
    }

    /// How a source of this machine speaks.
    pub(super) fn config(&self, args: &Args) -> Config {
        let seen = &self.manifest.source;
        let release = self.release;
        let mut config = Config::new(self.machine().unwrap_or_default());
        config.configuration = self.machine().is_some();
        config.page_bits = self.manifest.says_target_page;
        config.footers = seen.footers;
        config.section = seen.ram_section;
        config.early_state = self.early_state.clone();
        config.preempt = args
            .preempt
            .then(|| release.map_or(Preempt::Late, Release::preempt));
        config.bandwidth = args.bandwidth;
        config.switchover_start =
            seen.switchover_start || release.is_some_and(Release::sends_switchover_start);
        // Every QEMU answers every PING, so the answer to this one tells whether it has loaded the
        // devices, whatever its release.
        config.ping_loaded = true;
        config
    }
}

impl PageSource for Stock {
    fn read(&self, block: BlockId, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self
            .lend(block, offset, out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn lend(&self, block: BlockId, offset: u64, len: usize) -> Option<&[u8]> {
        self.memory.get(block)?.page(offset, len)
    }

    fn check(&self, block: BlockId) -> io::Result<()> {
        match self.memory.get(block) {
            Some(memory) => memory.check().map_err(io::Error::other),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_hole(&self, block: BlockId, offset: u64, len: u64) -> bool {
        self.memory
            .get(block)
            .is_some_and(|memory| memory.is_hole(offset, len))
    }
}
