//! `retpath verify`: compares an image with its digests.
//!
//! Exit code 0 if the image is whole, 1 if it is not or cannot be checked, 2 for wrong usage.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::signals::Signals;
use super::size::Human;
use super::{Format, output};
use retpath_image::{Difference, Error, Verified, verify};

const HELP: &str = "\
Every byte is read and compared with the digests that were made with the image. The image
is only read, and may be served at the same time.

Exit codes:
  0  the image is whole
  1  it is not, or it cannot be checked; each line says which file, where and why
  2  the command was called wrongly";

/// Command line of `retpath verify`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// The image's folder.
    #[arg(value_name = "DIR")]
    image: PathBuf,
    /// How to print the result; json is one object.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Compares the image and says what differs.
pub fn run(args: &Args) -> ExitCode {
    let found = match check(args) {
        Ok(found) => found,
        Err(why) => {
            output::note(format_args!("retpath verify: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let text = match args.format {
        Format::Text => text(args, &found),
        Format::Json => format!("{}\n", json(args, &found)),
    };
    let (done, code) = match found.is_whole() {
        true => ("the image is whole", ExitCode::SUCCESS),
        false => ("the image is not whole", ExitCode::FAILURE),
    };
    output::print_report("verify", done, &text);
    code
}

fn check(args: &Args) -> Result<Verified, String> {
    let signals = Signals::new().map_err(|error| format!("listening for signals: {error}"))?;
    let bar = bar();
    let mut progress = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        !signals.came()
    };
    let found = verify(&args.image, &mut progress);
    bar.finish_and_clear();
    found.map_err(|error| match error {
        Error::Stopped => "stopped by a signal; not all of the image was checked".to_owned(),
        error => error.to_string(),
    })
}

fn text(args: &Args, found: &Verified) -> String {
    let image = args.image.display();
    if found.is_whole() {
        return format!("{image} is whole; its id is {}\n", found.id);
    }
    let lines = found.differences.iter();
    let mut text: String = lines.map(|difference| format!("{difference}\n")).collect();
    if found.different > 0 {
        text += &format!("{} of RAM differ\n", Human(found.different));
    }
    text + &format!(
        "{image} is not the image that was made, whose id is {}: restore these files from a copy\n",
        found.id
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

/// Shown on a terminal.
fn bar() -> ProgressBar {
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let template = "{wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
    let bar = ProgressBar::with_draw_target(Some(0), target);
    // A template that does not parse would cost the looks, nothing else.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
