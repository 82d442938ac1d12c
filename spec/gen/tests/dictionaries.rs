//! libFuzzer accepts the dictionaries.

use retpath_gen::dict;
use retpath_spec::oracle::header_size;
use retpath_spec::table::DIALECTS;

/// libFuzzer ignores longer entries.
const LONGEST: usize = 64;

/// The bytes of an entry, parsed as libFuzzer does.
fn entry(line: &str) -> Option<Vec<u8>> {
    let (name, value) = line.split_once("=\"")?;
    assert!(!name.is_empty() && !name.contains('"'), "{line}");
    let mut rest = value.strip_suffix('"')?;
    let mut bytes = Vec::new();
    while let Some(c) = rest.chars().next() {
        let taken = match rest.strip_prefix('\\') {
            None => {
                assert!(c != '"' && (' '..='~').contains(&c), "{line}");
                bytes.push(u8::try_from(c).ok()?);
                1
            }
            Some(escaped) => match escaped.strip_prefix('x') {
                None => {
                    bytes.push(*escaped.as_bytes().first().filter(|b| b"\\\"".contains(b))?);
                    2
                }
                Some(hex) => {
                    bytes.push(u8::from_str_radix(hex.get(..2)?, 16).ok()?);
                    4
                }
            },
        };
        rest = rest.get(taken..)?;
    }
    Some(bytes)
}

#[test]
fn every_line_is_an_entry_that_libfuzzer_accepts() {
    for output in dict::outputs() {
        let text = String::from_utf8(output.bytes).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let bytes = entry(line).unwrap_or_else(|| panic!("{line}"));
            assert!((1..=LONGEST).contains(&bytes.len()), "{line}");
        }
    }
}

#[test]
fn every_message_has_its_header_in_a_dictionary() {
    let mut entries = Vec::new();
    for output in dict::outputs() {
        let text = String::from_utf8(output.bytes).unwrap();
        entries.extend(text.lines().filter_map(entry));
    }
    for dialect in DIALECTS {
        for message in dialect.messages {
            let mut start = Vec::from(dialect.lead);
            start.extend(message.number.to_be_bytes());
            let header = |e: &&Vec<u8>| e.len() == header_size(dialect) && e.starts_with(&start);
            assert!(entries.iter().any(|e| header(&e)), "{}", message.label);
        }
    }
}
