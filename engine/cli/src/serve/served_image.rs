//! The image that is served: its identity, and what its machine type tells about the protocol.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::Args;
use crate::output;
use retpath_codec::escape::Escaped;
use retpath_engine::blocks::Blocks;
use retpath_engine::release::Release;
use retpath_engine::source::{Config, PageSource, Preempt};
use retpath_image::{Digest, Image, shown};

/// The image of a migration that `--resume` continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    /// The one with this id.
    Id(Digest),
    /// An image without an id, which cannot be identified.
    None,
}

impl Resumed {
    fn of(image: &Image) -> Self {
        image.id().map_or(Self::None, Self::Id)
    }
}

impl FromStr for Resumed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::None);
        }
        let id = text.parse().map(Self::Id);
        id.map_err(|_| {
            "the id of the image that was served, 32 hexadecimal digits, or none".to_owned()
        })
    }
}

impl fmt::Display for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::None => f.write_str("none"),
        }
    }
}

/// The image, opened once for all QEMUs.
pub(super) struct ServedImage {
    image: Image,
    release: Option<Release>,
}

impl ServedImage {
    /// Opens the image read-only, and determines the QEMU release of its machine type.
    ///
    /// # Errors
    ///
    /// The image is incomplete, or not the one to resume from; or `--preempt` is given and the machine
    /// type does not tell its kind of preempt channel.
    pub(super) fn open(args: &Args) -> Result<Self, String> {
        let image = match args.no_verify {
            true => Image::open_unverified(&args.image),
            false => Image::open(&args.image),
        };
        let image = image.map_err(|error| error.to_string())?;
        if let Some(wanted) = args.resume {
            let found = Resumed::of(&image);
            if wanted != found {
                return Err(other_image(args, wanted, found));
            }
        }
        let machine = image.manifest().machine.as_deref();
        let release = args.machine_release.or_else(|| match machine {
            Some(machine) => Release::of(machine),
            // Only machine types up to 2.3 are not named in the stream.
            None => Some(Release::OLD),
        });
        if args.preempt && release.is_none() {
            let machine = Escaped::new(machine.unwrap_or_default());
            return Err(format!(
                "the machine type {machine} does not tell its QEMU release, on which the preempt \
                 channel depends: add --machine-release, such as --machine-release 7.2"
            ));
        }
        Ok(Self { image, release })
    }

    /// Prints the id of the image to standard error: `--resume` needs it.
    pub(super) fn announce(&self, args: &Args) {
        let name = shown(&args.image);
        let line = match self.image.id() {
            Some(id) => format!("image {name} has the id {id}"),
            None => format!(
                "image {name} has no digests, because an earlier version made it: only changes \
                 while it is served are detected"
            ),
        };
        output::note(format_args!("retpath serve: {line}"));
    }

    /// The image's id.
    pub(super) fn id(&self) -> Option<Digest> {
        self.image.id()
    }

    /// The argument of `--resume` for this image.
    pub(super) fn resumed(&self) -> Resumed {
        Resumed::of(&self.image)
    }

    /// The machine type, if the image names it.
    pub(super) fn machine(&self) -> Option<&[u8]> {
        self.image.manifest().machine.as_deref()
    }

    /// Whether the end of the image's stream is unproven.
    pub(super) fn has_unproven_end(&self) -> bool {
        self.image.manifest().unproven_end
    }

    /// The RAM blocks.
    pub(super) fn blocks(&self) -> &Blocks {
        self.image.blocks()
    }

    /// The image's folder.
    pub(super) fn path(&self) -> &Path {
        self.image.path()
    }

    /// The memory.
    pub(super) fn pages(&self) -> &dyn PageSource {
        &self.image
    }

    /// The sections of the devices.
    pub(super) fn device_state(&self) -> &[u8] {
        self.image.device_state()
    }

    /// The kind of preempt channel of the machine type, if it is known.
    pub(super) fn preempt(&self) -> Option<Preempt> {
        self.release.map(Release::preempt)
    }

    /// The configuration of a source with this machine type.
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
        config.unplugged = self.image.unplugged();
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

/// The message about an image that a migration cannot be resumed from.
fn other_image(args: &Args, wanted: Resumed, found: Resumed) -> String {
    let name = shown(&args.image);
    let has = match found {
        Resumed::Id(id) => format!("image {name} has the id {id}"),
        Resumed::None => format!("image {name} has no id"),
    };
    let advice = match wanted {
        Resumed::Id(id) => format!("resume from the image with the id {id}, or a copy of it"),
        Resumed::None => "resume from the image without an id that was served".to_owned(),
    };
    format!(
        "{has}, and is not the one that was served: the guest's memory would become a mixture of \
         two images; {advice}"
    )
}
