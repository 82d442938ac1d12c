//! A place in a stream at which a relay stops forwarding, so that a test can do something exactly
//! there.

use super::relay::Way;

/// Stops one direction in front of the first bytes that equal a pattern.
pub(super) struct Hold {
    pub(super) way: Way,
    pattern: &'static [u8],
    /// The bytes that wait, from the pattern on.
    pub(super) held: Vec<u8>,
}

/// How much of what has come goes through.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The pattern begins at this byte.
    At(usize),
    /// It may begin at this byte: what follows tells.
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

    /// Looks for the pattern.
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
