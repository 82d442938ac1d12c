//! Stops a relay's forwarding at a byte pattern, so that a test can act at that exact position.

use super::relay::Way;

/// Holds back one direction from the first match of a pattern.
pub(super) struct Hold {
    pub(super) way: Way,
    pattern: &'static [u8],
    /// The bytes held back, from the pattern on.
    pub(super) held: Vec<u8>,
}

/// The result of a search for the pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The pattern starts at this byte.
    At(usize),
    /// The pattern may start at this byte; more bytes are needed.
    Perhaps(usize),
}

impl Hold {
    pub(super) fn new(way: Way, pattern: &'static [u8]) -> Self {
        Self {
            way,
            pattern,
            held: Vec::new(),
        }
    }

    /// Searches for the pattern.
    pub(super) fn find(&self, bytes: &[u8]) -> Found {
        let len = self.pattern.len();
        if let Some(at) = bytes.windows(len).position(|part| part == self.pattern) {
            return Found::At(at);
        }
        let first = bytes.len().saturating_sub(len - 1);
        let begins = |&at: &usize| self.pattern.starts_with(&bytes[at..]);
        Found::Perhaps((first..bytes.len()).find(begins).unwrap_or(bytes.len()))
    }
}

#[test]
fn finds_a_pattern_and_its_beginning() {
    let hold = Hold::new(Way::Forward, b"abc");
    for (bytes, found) in [
        (&b""[..], Found::Perhaps(0)),
        (b"xy", Found::Perhaps(2)),
        (b"xab", Found::Perhaps(1)),
        (b"aab", Found::Perhaps(1)),
        (b"xabcab", Found::At(1)),
    ] {
        assert_eq!(hold.find(bytes), found, "{bytes:?}");
    }
}
