//! `retpath verify`: compares an image with its digests.

use std::path::PathBuf;

use retpath_image::{Difference, Error as ImageError, Verified, shown, verify};
use serde_json::{Value, json};
use tracing::info;

use crate::exit::{self, Error, Exit};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::size::Human;
use crate::{Format, output};

fn after_help() -> String {
    exit::help(
        "  retpath verify vm\n  retpath verify --format json vm",
        "the image is intact",
        "the image differs, or cannot be checked; each line says which file, where and why",
    )
}

/// Command line of `retpath verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub(crate) struct Args {
    /// Folder of the image
    #[arg(value_name = "DIR")]
    image: PathBuf,
    /// Format of the report; json is one object
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Compares the image and prints the differences.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let found = check(args)?;
    let text = args
        .format
        .render(|| text(args, &found), || json(args, &found));
    let (done, exit) = match found.is_whole() {
        true => ("the image is intact", Exit::Success),
        false => ("the image is not intact", Exit::Failure),
    };
    output::print_report("verify", done, &text);
    Ok(exit)
}

fn check(args: &Args) -> Result<Verified, String> {
    let signals = Signals::new().map_err(|error| format!("cannot handle signals: {error}"))?;
    let mut bar = Progress::new(None, true);
    info!(image = %shown(&args.image), "comparing");
    let mut progress = |done, all| {
        bar.set_of(done, all);
        !signals.came()
    };
    let found = verify(&args.image, &mut progress);
    bar.clear();
    found.map_err(|error| match error {
        ImageError::Stopped => "stopped by a signal; not all of the image was checked".to_owned(),
        error => error.to_string(),
    })
}

fn text(args: &Args, found: &Verified) -> String {
    let (image, id) = (shown(&args.image), found.id);
    if found.is_whole() {
        return format!("{image} is intact; its id is {id}\n");
    }
    let lines = found.differences.iter();
    let mut text: String = lines.map(|difference| format!("{difference}\n")).collect();
    if found.different > 0 {
        text += &format!("{} of RAM differ\n", Human(found.different));
    }
    text + &format!(
        "{image} differs from the image that was made, whose id is {id}: restore these files from a \
         copy\n"
    )
}

fn json(args: &Args, found: &Verified) -> Value {
    let differences = found.differences.iter().map(|difference| {
        let (Difference::Bytes { path, .. } | Difference::File { path, .. }) = difference;
        let range = match difference {
            Difference::Bytes { range, .. } => Some(range),
            Difference::File { .. } => None,
        };
        json!({
            "file": path.display().to_string(),
            "offset": range.map(|range| range.start),
            "length": range.map(|range| range.end - range.start),
            "why": difference.to_string(),
        })
    });
    json!({
        "ok": found.is_whole(),
        "image": args.image.display().to_string(),
        "id": found.id.to_string(),
        "different_bytes": found.different,
        "differences": differences.collect::<Value>(),
    })
}
