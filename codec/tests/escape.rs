//! Escaped text is safe to print and can be read back.

use proptest::prelude::*;
use retpath_codec::escape::Escaped;

/// Returns whether a character may not reach a terminal or a log.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2066}'..='\u{2069}')
}

/// Reads escaped text back.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    let number = |digits: &str| u32::from_str_radix(digits, 16).expect("hexadecimal digits");
    while let Some(c) = rest.next() {
        let mut character = c;
        if c == '\\' {
            character = match rest.next().expect("a backslash begins an escape") {
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    bytes.push(number(&digits).try_into().expect("two digits"));
                    continue;
                }
                'u' => {
                    assert_eq!(rest.next(), Some('{'));
                    let digits: String = rest.by_ref().take_while(|c| *c != '}').collect();
                    char::from_u32(number(&digits)).expect("a character")
                }
                '0' => '\0',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                same @ ('\\' | '"') => same,
                other => panic!("unknown escape \\{other} in {text}"),
            };
        }
        bytes.extend(character.encode_utf8(&mut [0; 4]).bytes());
    }
    bytes
}

/// Asserts what holds for all bytes.
#[track_caller]
fn is_safe_and_reversible(bytes: &[u8]) {
    let shown = Escaped::new(bytes).to_string();
    assert!(!shown.contains(is_hostile), "{shown}");
    assert_eq!(unescape(&shown), bytes);

    let quoted = format!("{:?}", Escaped::new(bytes));
    assert!(!quoted.contains(is_hostile), "{quoted}");
    let inner = quoted
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    assert_eq!(unescape(inner.expect("quotes around the text")), bytes);
}

#[test]
fn escapes_each_character_safely_and_reversibly() {
    for c in '\0'..=char::MAX {
        is_safe_and_reversible(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[test]
fn escapes_each_pair_of_bytes_safely_and_reversibly() {
    for pair in 0..=u16::MAX {
        is_safe_and_reversible(&pair.to_be_bytes());
    }
}

#[test]
fn leaves_printable_text_alone() {
    for text in [
        "pc.ram",
        "größe 'a' \"b\"",
        "内存",
        "0000:00:03.0/virtio-net",
    ] {
        assert_eq!(Escaped::new(text).to_string(), text);
    }
    assert_eq!(Escaped::new("").to_string(), "");
}

proptest! {
    #[test]
    fn escapes_any_bytes_safely_and_reversibly(bytes: Vec<u8>) {
        is_safe_and_reversible(&bytes);
    }

    #[test]
    fn escapes_any_text_safely_and_reversibly(text in "\\PC{0,8}[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\\\\"]{0,8}\\PC{0,8}") {
        is_safe_and_reversible(text.as_bytes());
    }
}
