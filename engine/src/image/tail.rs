//! The end of a stream without footers.
//!
//! ```text
//!  state of all devices   00             EOF
//!                         06 size        VMDESCRIPTION, if there is one
//!                         { ... }        JSON, `size` bytes
//! ```
//!
//! Nothing in front of it says where the state ends, but the end of the stream
//! does: JSON holds no zero bytes, so that the last EOF whose description ends
//! with the stream is the right one. Without a description EOF is the last byte.

use serde_json::Value;

use crate::destination::Tail;

/// Bytes in front of a description: EOF, VMDESCRIPTION and the size.
const HEAD: usize = 6;

/// Splits what came as device state into that, of which the length is given, and
/// the description; `None` if no end is there.
pub(super) fn split(all: &[u8]) -> Option<(usize, Option<&[u8]>)> {
    let last_zeros = all.iter().enumerate().rev().filter(|(_, byte)| **byte == 0);
    for (at, _) in last_zeros {
        if let Some(description) = described(&all[at..]) {
            return Some((at, Some(description)));
        }
        // No description reaches over the zeros of its own size and one more.
        if all.len() - at > HEAD && all[at + HEAD..].contains(&0) {
            break;
        }
    }
    let (last, rest) = all.split_last()?;
    (*last == 0).then_some((rest.len(), None))
}

/// What the end of what has come so far looks like. A description counts only if
/// it is JSON with a list of devices: then the source has nothing more to say.
pub(super) fn look(all: &[u8]) -> Tail {
    let whole = |json: &[u8]| {
        let json: Result<Value, _> = serde_json::from_slice(json);
        json.is_ok_and(|json| json["devices"].is_array())
    };
    match split(all) {
        None => Tail::Open,
        Some((_, Some(json))) if whole(json) => Tail::Whole,
        Some(_) => Tail::Unclear,
    }
}

/// The description behind an EOF, if that is what is here.
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
        let size = u32::try_from(json.len()).expect("short").to_be_bytes();
        [state, &[0, 6], &size, json].concat()
    }

    #[test]
    fn finds_the_description_at_the_end() {
        let json = br#"{"page_size": 4096}"#;
        for state in [&b"state"[..], b"", b"00\0\x06\0\0\0\x02{}\0\0", &[0; 40]] {
            let all = stream(state, json);
            assert_eq!(split(&all), Some((state.len(), Some(&json[..]))));
        }
    }

    #[test]
    fn takes_the_last_byte_for_the_end_without_a_description() {
        assert_eq!(split(b"state\0"), Some((5, None)));
        assert_eq!(split(b"state\0\0\0"), Some((7, None)));
        assert_eq!(split(b"\0"), Some((0, None)));
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
