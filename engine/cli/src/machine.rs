//! What the commands that make an image have in common: block page sizes on the
//! command line, and how an image is shown.

use std::fmt::Write;
use std::path::Path;

use retpath_codec::{NameBuf, forward};
use serde_json::Value;

use super::decode::PageSize;
use super::output;
use super::size::Human;
use retpath_engine::destination;
use retpath_image::{Finished, Image, Leftover, LeftoverState, Manifest, leftovers};

/// What an unproven end means.
pub(super) const UNPROVEN_END: &str =
    "the stream may have been cut inside the device state, and nothing would show it";

/// The page sizes that were given, the last one of each block.
pub(super) fn page_sizes(given: &[PageSize]) -> Vec<(NameBuf, u64)> {
    let mut sizes: Vec<(NameBuf, u64)> = Vec::new();
    for PageSize { name, size } in given {
        sizes.retain(|(known, _)| known != name);
        sizes.push((name.clone(), *size));
    }
    sizes
}

/// The settings of core and decoder for these page sizes.
pub(super) fn settings(sizes: Vec<(NameBuf, u64)>) -> (destination::Config, forward::Options) {
    let core = destination::Config {
        page_sizes: sizes.clone(),
        ..destination::Config::default()
    };
    let stream = forward::Options::default()
        .page_sizes(sizes)
        // What sources before QEMU 8.2 may send.
        .nonzero_fill(true);
    (core, stream)
}

/// Lists the leftover folders of killed runs on standard error.
pub(super) fn mention_leftovers(command: &str, out: &Path) {
    for Leftover { path, state } in leftovers(out) {
        let path = path.display();
        let what = match state {
            LeftoverState::Whole => {
                format!(
                    "{path} is a complete image that an earlier run did not rename: rename it, or \
                     delete it if the source runs the guest"
                )
            }
            LeftoverState::Postcopy => format!(
                "{path} holds a guest that an earlier run was receiving in postcopy: continue with \
                 `retpath receive --continue {path}`, or delete it if the source runs the guest"
            ),
            LeftoverState::Worthless => format!(
                "{path} was left by an earlier run; its source still has the guest: delete it"
            ),
        };
        output::note(format_args!("retpath {command}: {what}"));
    }
}

/// Checks that a whole image has the name that was asked for.
///
/// # Errors
///
/// It is whole, but elsewhere.
pub(super) fn check_name(command: &str, finished: &Finished) -> Result<(), String> {
    let path = finished.path.display();
    match &finished.trouble {
        Some(error) if !finished.has_name => {
            return Err(format!("the image is whole, but it is in {path}: {error}"));
        }
        Some(error) => output::note(format_args!(
            "retpath {command}: the image {path} is whole, but a crash of this system could still \
             take its name away: {error}"
        )),
        None => {}
    }
    Ok(())
}

/// An image in a few lines.
pub(super) fn text(out: &Path, manifest: &Manifest) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = render(&mut text, out, manifest);
    text
}

fn render(text: &mut String, out: &Path, manifest: &Manifest) -> std::fmt::Result {
    let machine = manifest.machine.as_deref().map(String::from_utf8_lossy);
    let machine = machine.as_deref().unwrap_or("not said by the stream");
    writeln!(text, "{:<18} {}", "image", out.display())?;
    writeln!(text, "{:<18} {}", "machine type", machine.escape_debug())?;
    if let Some(seal) = &manifest.seal {
        writeln!(text, "{:<18} {}", "id", seal.id)?;
    }
    // It was just made; if it is gone again, the sizes are all that is lost.
    let image = Image::open(out).ok();
    for (id, block) in manifest.blocks.iter().enumerate() {
        let stored = image.as_ref().map_or(String::new(), |image| {
            format!(", {} of it not zero", Human(image.stored(id)))
        });
        writeln!(
            text,
            "  {:<24} {}, pages of {}{stored}",
            block.name.to_string(),
            Human(block.len),
            Human(block.page)
        )?;
    }
    let description = match manifest.description {
        Some(_) => "with a description",
        None => "without a description",
    };
    writeln!(
        text,
        "{:<18} {} bytes, {description}",
        "device state",
        manifest.device_state + manifest.early_state
    )?;
    if manifest.unproven_end {
        writeln!(text, "{:<18} unproven: {UNPROVEN_END}", "end")?;
    }
    Ok(())
}

/// The same for programs: the path and the manifest.
pub(super) fn json(out: &Path, manifest: &Manifest) -> (String, Value) {
    (out.display().to_string(), manifest.to_json())
}
