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

/// Bytes before the text of a description: EOF, VMDESCRIPTION and the size.
const HEAD: usize = 6;

/// The end of the device state in a stream without footers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split<'a> {
    /// Length of the device state in bytes.
    pub(super) len: usize,
    /// The description after it.
    pub(super) description: Option<&'a [u8]>,
    /// Whether the description proves that this is the end.
    pub(super) proven: bool,
}

impl Split<'_> {
    /// Classifies this end for a stream that may continue.
    pub(super) fn tail(&self) -> Tail {
        match self.proven {
            true => Tail::Whole,
            false => Tail::Unclear,
        }
    }
}

/// Finds the end mark in bytes received as device state; `None` if there is none.
///
/// A description is proof only if it is JSON with a list of devices: the source sends
/// nothing after it.
pub(super) fn split(all: &[u8]) -> Option<Split<'_>> {
    let last_zeros = all.iter().enumerate().rev().filter(|(_, byte)| **byte == 0);
    for (at, _) in last_zeros {
        if let Some(description) = described(&all[at..]) {
            return Some(Split {
                len: at,
                description: Some(description),
                proven: lists_devices(description),
            });
        }
        // No description spans the zeros of its own size field plus one more.
        if all.len() - at > HEAD && all[at + HEAD..].contains(&0) {
            break;
        }
    }
    let (last, rest) = all.split_last()?;
    (*last == 0).then_some(Split {
        len: rest.len(),
        description: None,
        proven: false,
    })
}

/// Classifies the end of the device state received so far.
pub(super) fn look(all: &[u8]) -> Tail {
    split(all).map_or(Tail::Open, |split| split.tail())
}

fn lists_devices(json: &[u8]) -> bool {
    let json: Result<Value, _> = serde_json::from_slice(json);
    json.is_ok_and(|json| json["devices"].is_array())
}

/// Returns the description after an EOF, if the bytes are one.
fn described(tail: &[u8]) -> Option<&[u8]> {
    let (head, json) = tail.split_first_chunk::<HEAD>()?;
    let [0, 6, a, b, c, d] = *head else {
        return None;
    };
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    (size == json.len() && json.first() == Some(&b'{')).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(state: &[u8], json: &[u8]) -> Vec<u8> {
        let size = u32::try_from(json.len())
            .expect("fits in u32")
            .to_be_bytes();
        [state, &[0, 6], &size, json].concat()
    }

    #[test]
    fn finds_the_description_at_the_end() {
        for (json, proven) in [
            (&br#"{"page_size": 4096}"#[..], false),
            (br#"{"devices": []}"#, true),
        ] {
            for state in [&b"state"[..], b"", b"00\0\x06\0\0\0\x02{}\0\0", &[0; 40]] {
                let all = stream(state, json);
                let (len, description) = (state.len(), Some(json));
                let want = Split {
                    len,
                    description,
                    proven,
                };
                assert_eq!(split(&all), Some(want));
            }
        }
    }

    #[test]
    fn takes_the_last_zero_byte_for_an_unproven_end() {
        for (all, len) in [(&b"state\0"[..], 5), (b"state\0\0\0", 7), (b"\0", 0)] {
            let want = Split {
                len,
                description: None,
                proven: false,
            };
            assert_eq!(split(all), Some(want));
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
}
