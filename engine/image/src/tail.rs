//! Finds the end of device state in a stream without footers.
//!
//! ```text
//!  state of all devices   00             EOF
//!                         06 size        VMDESCRIPTION, if present
//!                         { ... }        JSON, `size` bytes
//! ```
//!
//! Nothing before the end mark tells where the state ends, but the end of the stream
//! does: JSON contains no zero bytes, so the last EOF whose description ends with the
//! stream is the end mark.
//!
//! Only such a description proves that the stream is complete. Without one (machine types
//! up to 2.2 send none), EOF is the last byte, but device state contains many zero bytes:
//! a stream truncated after any of them looks the same.

use serde_json::Value;

use retpath_engine::destination::Tail;
use retpath_engine::protocol::wide;

/// Bytes before the text of a description: EOF, VMDESCRIPTION and the size.
pub(super) const HEAD: usize = 6;

/// Maximum length of the text in bytes; QEMU's descriptions have a few hundred KiB.
const MAX_DESCRIPTION: u64 = 64 << 20;

/// The end of the device state in a stream without footers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// Length of the device state in bytes.
    pub(super) len: u64,
    /// The description after it.
    pub(super) description: Option<Vec<u8>>,
}

impl Split {
    /// Classifies this end for a stream that may continue.
    ///
    /// A description is proof only if it is JSON with a list of devices: the source sends
    /// nothing after it.
    pub(super) fn tail(&self) -> Tail {
        match &self.description {
            Some(json) if lists_devices(json) => Tail::Whole,
            _ => Tail::Unclear,
        }
    }
}

/// Finds the head of a description whose text ends with the stream. `around` are the bytes
/// around the last zero byte, from [`HEAD`] - 1 bytes before it, as far as there are any;
/// `left` is the number of bytes from there to the end. The text contains no zero byte, so
/// the last one is in the head.
pub(super) fn find(around: &[u8], left: u64) -> Option<usize> {
    let heads = around.windows(HEAD + 1).enumerate();
    let described = heads.filter_map(|(at, bytes)| {
        let [0, 6, a, b, c, d, b'{'] = *bytes else {
            return None;
        };
        let size = u64::from(u32::from_be_bytes([a, b, c, d]));
        let ends = wide(at + HEAD).saturating_add(size) == left;
        (ends && size <= MAX_DESCRIPTION).then_some(at)
    });
    described.max()
}

fn lists_devices(json: &[u8]) -> bool {
    let json: Result<Value, _> = serde_json::from_slice(json);
    json.is_ok_and(|json| json["devices"].is_array())
}

#[cfg(test)]
mod tests {
    use super::super::folder::Folder;
    use super::super::state_file::StateFile;
    use super::*;

    fn stream(state: &[u8], json: &[u8]) -> Vec<u8> {
        let size = u32::try_from(json.len())
            .expect("fits in u32")
            .to_be_bytes();
        [state, &[0, 6], &size, json].concat()
    }

    /// Asks after each piece where the state ends.
    fn split_in(all: &[u8], piece: usize) -> Option<Split> {
        let temporary = tempfile::tempdir().expect("temporary folder can be created");
        let folder = Folder::open(temporary.path()).expect("folder exists");
        let mut file = StateFile::new(&folder, "state").expect("folder is writable");
        let mut last = None;
        for piece in all.chunks(piece) {
            file.append(piece).expect("folder is writable");
            last = file.split().expect("file is readable");
        }
        last
    }

    fn split(all: &[u8]) -> Option<Split> {
        split_in(all, usize::MAX)
    }

    fn look(all: &[u8]) -> Tail {
        split(all).map_or(Tail::Open, |split| split.tail())
    }

    #[test]
    fn finds_the_description_at_the_end() {
        for (json, proven) in [
            (&br#"{"page_size": 4096}"#[..], Tail::Unclear),
            (br#"{"devices": []}"#, Tail::Whole),
            (&[&b"{"[..], &[b' '; 0xff]].concat(), Tail::Unclear),
        ] {
            for state in [&b"state"[..], b"", b"00\0\x06\0\0\0\x02{}\0\0", &[0; 40]] {
                let all = stream(state, json);
                for piece in [1, 7, 4096] {
                    let split = split_in(&all, piece).expect("an end");
                    assert_eq!(split.len, wide(state.len()));
                    assert!(split.description.as_deref() == Some(json));
                    assert_eq!(split.tail(), proven);
                }
            }
        }
    }

    #[test]
    fn takes_the_last_zero_byte_for_an_unproven_end() {
        for (all, len) in [(&b"state\0"[..], 5), (b"state\0\0\0", 7), (b"\0", 0)] {
            let split = split(all).expect("an end");
            assert_eq!((split.len, &split.description), (len, &None));
            assert_eq!(split.tail(), Tail::Unclear);
        }
    }

    #[test]
    fn knows_the_end_by_a_description_of_devices() {
        let json = br#"{"page_size": 4096, "devices": [{"name": "timer"}]}"#;
        let all = stream(b"state", json);
        assert_eq!(look(&all), Tail::Whole);
        for len in 0..all.len() {
            assert_ne!(look(&all[..len]), Tail::Whole, "{len} bytes");
        }
        assert_eq!(look(&all[..all.len() - 1]), Tail::Open);
        assert_eq!(look(&[&all[..], b"more"].concat()), Tail::Open);
        for other in [&br#"{"devices": 1}"#[..], b"{}", b"{ no JSON }"] {
            assert_eq!(look(&stream(b"state", other)), Tail::Unclear);
        }
        assert_eq!(look(b"state\0"), Tail::Unclear);
    }

    #[test]
    fn refuses_a_stream_that_breaks_off() {
        assert_eq!(split(b""), None);
        assert_eq!(split(b"state"), None);
        let all = stream(b"state", br#"{"page_size": 4096}"#);
        assert_eq!(split(&all[..all.len() - 1]), None);
    }

    /// It is asked ten times a second while a source is silent.
    #[test]
    fn reads_nothing_of_the_state_again() {
        let temporary = tempfile::tempdir().expect("temporary folder can be created");
        let folder = Folder::open(temporary.path()).expect("folder exists");
        let mut file = StateFile::new(&folder, "state").expect("folder is writable");
        // A hole of a terabyte, which could not be read into memory.
        file.truncate(1 << 40).expect("a large sparse file");
        file.limit = u64::MAX;
        file.append(b"state\0more").expect("folder is writable");
        assert_eq!(file.split().expect("file is readable"), None);
        let rest = stream(b"", br#"{"devices": []}"#);
        file.append(&rest).expect("folder is writable");
        let split = file.split().expect("file is readable").expect("an end");
        assert_eq!((split.len, split.tail()), ((1 << 40) + 10, Tail::Whole));
    }
}
