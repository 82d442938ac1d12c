//! What is served: the image's memory, lent from its mapping, and what the image says about how its
//! machine speaks on the wire.

use super::Args;
use crate::blocks::Blocks;
use crate::image::Image;
use crate::release::Release;
use crate::source::{Config, PageSource, Preempt};

/// The image, mapped once for all QEMUs.
pub(super) struct Stock {
    image: Image,
    release: Option<Release>,
}

impl Stock {
    /// Opens the image for reading only, and finds out how its machine speaks.
    ///
    /// # Errors
    ///
    /// It is no whole image; or `--preempt` is wanted and nothing tells its kind.
    pub(super) fn open(args: &Args) -> Result<Self, String> {
        let image = Image::open(&args.image).map_err(|error| error.to_string())?;
        let machine = image.manifest().machine.as_deref();
        let release = args.machine_release.or_else(|| match machine {
            Some(machine) => Release::of(machine),
            // Only machine types up to 2.3 do not say their name.
            None => Some(Release::OLD),
        });
        if args.preempt && release.is_none() {
            let machine = String::from_utf8_lossy(machine.unwrap_or_default());
            return Err(format!(
                "the machine type {machine} does not tell its QEMU release, on which the preempt \
                 channel depends: give it with --machine-release, such as 7.2"
            ));
        }
        Ok(Self { image, release })
    }

    /// The machine type, if the image says it.
    pub(super) fn machine(&self) -> Option<&[u8]> {
        self.image.manifest().machine.as_deref()
    }

    /// The RAM blocks.
    pub(super) fn blocks(&self) -> &Blocks {
        self.image.blocks()
    }

    /// The memory.
    pub(super) fn pages(&self) -> &dyn PageSource {
        &self.image
    }

    /// The devices' sections.
    pub(super) fn device_state(&self) -> &[u8] {
        self.image.device_state()
    }

    /// The kind of preempt channel that the machine type has, if that is known.
    pub(super) fn preempt(&self) -> Option<Preempt> {
        self.release.map(Release::preempt)
    }

    /// How a source of this machine speaks.
    pub(super) fn config(&self, args: &Args) -> Config {
        let manifest = self.image.manifest();
        let seen = manifest.source;
        let release = self.release;
        let mut config = Config::new(self.machine().unwrap_or_default());
        config.configuration = self.machine().is_some();
        config.page_bits = manifest.says_target_page;
        config.footers = seen.footers;
        config.section = seen.ram_section;
        config.early_state = self.image.early_state().to_vec();
        config.preempt = args
            .preempt
            .then(|| release.map_or(Preempt::Late, Release::preempt));
        config.bandwidth = args.bandwidth;
        config.switchover_start =
            seen.switchover_start || release.is_some_and(Release::sends_switchover_start);
        // Every QEMU answers every PING, so the answer to this one tells whether it has loaded the
        // devices, whatever its release.
        config.ping_loaded = true;
        config.probe = true;
        config
    }
}
