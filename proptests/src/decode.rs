//! Properties of `retpath decode`, including its output.

use std::str;

use retpath_cli::Format;
use retpath_cli::decode::{Dialect, Failure, Kind, Options, decode_slice};

/// Decodes `bytes` as a recording of any kind.
///
/// The report is printable text, or JSON with one object per line. A defect is
/// reported in one line, which is the same for every output format.
pub fn decode_cli(bytes: &[u8]) {
    let options = Options {
        // More than an input of this length can use.
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

/// Prints the report as text, as JSON and as counts, and compares them.
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
    assert_eq!(
        objects(&out),
        lines,
        "text and JSON have the same number of lines"
    );
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

/// Returns the error message, which must be one printable line.
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

/// Asserts that the output is printable text in whole lines.
fn clean(out: &[u8]) {
    let text = str::from_utf8(out).expect("report is UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'));
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(control), "control characters in {text:?}");
}

/// Counts JSON objects, one per line.
fn objects(out: &[u8]) -> usize {
    let text = str::from_utf8(out).expect("report is UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'));
    let objects = text.lines().map(serde_json::from_str::<serde_json::Value>);
    let objects = objects.inspect(|line| {
        let object = line.as_ref().expect("every line is JSON");
        assert!(object.is_object(), "{object}");
    });
    objects.count()
}
