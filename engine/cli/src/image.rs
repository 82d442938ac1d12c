//! What the commands that make an image have in common: the options of the stream, and the image in
//! their report.

use std::fmt::Write;
use std::path::Path;

use retpath_codec::escape::Escaped;
use retpath_codec::forward;
use retpath_engine::destination;
use retpath_image::{Finished, Image, Leftover, LeftoverState, Manifest, leftovers, shown};
use serde_json::Value;

use crate::output;
use crate::size::{self, Human, PageSize};

/// The meaning of an unproven end.
pub(crate) const UNPROVEN_END: &str =
    "the stream may have been cut inside the device state without a trace";

/// The options of core and decoder for the page sizes on the command line.
pub(crate) fn settings(given: &[PageSize]) -> (destination::Config, forward::Options) {
    let sizes = size::last_of_each(given).into_iter();
    let page_sizes: Vec<_> = sizes.map(|one| (one.name, one.size)).collect();
    let core = destination::Config::default().page_sizes(page_sizes.clone());
    let stream = forward::Options::default()
        .page_sizes(page_sizes)
        // Sources before QEMU 8.2 may send it.
        .nonzero_fill(true);
    (core, stream)
}

/// Lists the leftover folders of killed runs on standard error.
pub(crate) fn mention_leftovers(command: &str, out: &Path) {
    for Leftover { path, state } in leftovers(out) {
        let path = shown(&path);
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

/// Checks that a complete image has the requested name.
///
/// # Errors
///
/// The image is complete, but has another name.
pub(crate) fn check_name(command: &str, finished: &Finished) -> Result<(), String> {
    let path = shown(&finished.path);
    match &finished.trouble {
        Some(error) if !finished.has_name => {
            return Err(format!("the image is complete, but in {path}: {error}"));
        }
        Some(error) => output::note(format_args!(
            "retpath {command}: the image {path} is complete, but may lose its name if this system \
             crashes: {error}"
        )),
        None => {}
    }
    Ok(())
}

/// The image in a report for people.
pub(crate) fn text(out: &Path, manifest: &Manifest) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = render(&mut text, out, manifest);
    text
}

fn render(text: &mut String, out: &Path, manifest: &Manifest) -> std::fmt::Result {
    let machine = manifest.machine.as_deref();
    let machine = Escaped::new(machine.unwrap_or(b"not in the stream"));
    writeln!(text, "{:<18} {}", "image", shown(out))?;
    writeln!(text, "{:<18} {machine}", "machine type")?;
    if let Some(seal) = &manifest.seal {
        writeln!(text, "{:<18} {}", "id", seal.id)?;
    }
    // It was just made; if it cannot be opened, only these sizes are missing.
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

/// The image in a report for programs: its path and its manifest.
pub(crate) fn json(out: &Path, manifest: &Manifest) -> (String, Value) {
    (out.display().to_string(), manifest.to_json())
}
