//! Properties of `retpath decode`, printing included.

use std::str;

use retpath_cli::Format;
use retpath_cli::decode::{Dialect, Failure, Kind, Options, decode_slice};

/// The bytes are a recording of any kind. Whatever is in them, the report is
/// clean text, or JSON line by line, and what is wrong with them is said in one
/// line, the same one however the report is printed.
pub fn decode_cli(bytes: &[u8]) {
    let options = Options {
        // Nothing that few bytes could need.
        max_bitmap: 1 << 20,
        ..Options::default()
    };
    for kind in [Kind::Auto, Kind::Resumed, Kind::Preempt] {
        every_way(
            bytes,
            &Options {
                kind,
                ..options.clone()
            },
        );
    }
    let dialect = Dialect::V7;
    every_way(bytes, &Options { dialect, ..options });
}

/// Prints it as text, as JSON and as counts.
fn every_way(bytes: &[u8], options: &Options) {
    let (text, verdict) = decode_slice(options, bytes);
    clean(&text);
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    let said = says(&verdict);

    let json = Options {
        format: Format::Json,
        ..options.clone()
    };
    let (out, verdict) = decode_slice(&json, bytes);
    assert_eq!(objects(&out), lines, "as text and as JSON");
    assert_eq!(says(&verdict), said);

    for format in [Format::Text, Format::Json] {
        let summary = Options {
            format,
            summary: true,
            ..options.clone()
        };
        let (out, verdict) = decode_slice(&summary, bytes);
        match format {
            Format::Text => clean(&out),
            Format::Json => {
                let empty = matches!(verdict, Err(Failure::Empty));
                assert_eq!(objects(&out), usize::from(!empty));
            }
        }
        assert_eq!(says(&verdict), said);
    }
}

/// What is wrong, if anything: one line that a terminal can show.
fn says(verdict: &Result<(), Failure>) -> Option<String> {
    let failure = verdict.as_ref().err()?;
    assert!(
        matches!(failure, Failure::Empty | Failure::Bytes { .. }),
        "{failure}"
    );
    let line = failure.to_string();
    assert!(
        !line.is_empty() && !line.contains(char::is_control),
        "{line}"
    );
    Some(line)
}

/// Text that a terminal can show, in whole lines.
fn clean(out: &[u8]) {
    let text = str::from_utf8(out).expect("the report is text");
    assert!(text.is_empty() || text.ends_with('\n'));
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(control), "control characters in {text:?}");
}

/// How many objects there are, one on each line.
fn objects(out: &[u8]) -> usize {
    let text = str::from_utf8(out).expect("the report is text");
    assert!(text.is_empty() || text.ends_with('\n'));
    let objects = text.lines().map(serde_json::from_str::<serde_json::Value>);
    let objects = objects.inspect(|line| {
        let object = line.as_ref().expect("JSON on every line");
        assert!(object.is_object(), "{object}");
    });
    objects.count()
}
