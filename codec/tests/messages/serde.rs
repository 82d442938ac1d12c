//! Messages in JSON and in a binary format.

use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf};
use retpath_codec::{Decoded, Message, Name, NameBuf, Qemu, V7, decode, v7};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{from_str, from_value, json, to_value};

use crate::samples::{Samples, hex, name, ranges};

type Draft = v7::Message<NameBuf>;
type Merged = Message<NameBuf>;
type Order = Command<NameBuf, RangeBuf>;

fn survives<D: Samples<Owned: Serialize + DeserializeOwned>>()
where
    for<'a> D::Message<'a>: Serialize,
{
    for sample in D::samples() {
        let Ok(Decoded::Message { message, .. }) = decode::<D>(&sample.bytes) else {
            panic!("{:?} is not decoded", sample.value);
        };
        let text = serde_json::to_string(&sample.value).expect("JSON takes it");
        assert_eq!(
            text,
            serde_json::to_string(&message).expect("JSON takes it")
        );
        assert_eq!(from_str::<D::Owned>(&text).expect(&text), sample.value);

        let bytes = postcard::to_allocvec(&sample.value).expect("postcard takes it");
        assert_eq!(
            bytes,
            postcard::to_allocvec(&message).expect("postcard takes it")
        );
        assert_eq!(
            postcard::from_bytes::<D::Owned>(&bytes).as_ref(),
            Ok(&sample.value)
        );
        for size in 0..bytes.len() {
            assert!(postcard::from_bytes::<D::Owned>(&bytes[..size]).is_err());
        }
    }
}

#[test]
fn round_trips_every_sample() {
    survives::<Qemu>();
    survives::<V7>();
    survives::<Commands>();
}

/// Asserts that writing and reading truncated JSON fails.
fn fails_with_its_format<T: Serialize + DeserializeOwned + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_vec(value).expect("JSON takes it");
    for size in 0..text.len() {
        let mut room = vec![0; size];
        let written = serde_json::to_writer(&mut room[..], value);
        assert!(written.is_err(), "{value:?} in {size} bytes");
        let read = serde_json::from_slice::<T>(&text[..size]);
        assert!(read.is_err(), "{read:?} from {size} bytes");
    }
}

#[test]
fn propagates_every_error_of_the_format() {
    for sample in Qemu::samples() {
        fails_with_its_format(&sample.value);
    }
    for sample in V7::samples() {
        fails_with_its_format(&sample.value);
    }
    for sample in Commands::samples() {
        fails_with_its_format(&sample.value);
    }
    fails_with_its_format(&name(b"\xff"));
    let borrowed = Name::new(b"\xff").expect("a name");
    assert!(serde_json::to_writer(&mut [0; 5][..], &borrowed).is_err());
}

#[test]
fn writes_the_documented_json() {
    let json = |value: &dyn erased::Json| value.json();
    assert_eq!(
        json(&Merged::ReqPagesId {
            start: 0x1000,
            len: 4096,
            block: name("pc.ram")
        }),
        r#"{"message":"REQ_PAGES_ID","start":4096,"len":4096,"block":"pc.ram"}"#
    );
    assert_eq!(
        json(&Merged::SwitchoverAck),
        r#"{"message":"SWITCHOVER_ACK"}"#
    );
    assert_eq!(
        json(&Draft::ReqPages {
            start: 0,
            len: 2,
            block: None
        }),
        r#"{"message":"REQ_PAGES","start":0,"len":2}"#
    );
    assert_eq!(
        json(&Order::PostcopyRamDiscard {
            block: name(b"\xffa"),
            ranges: ranges(&[(0, 1)])
        }),
        r#"{"message":"POSTCOPY_RAM_DISCARD","version":0,"block":{"hex":"ff61"},"terminator":0,"ranges":[{"start":0,"len":1}]}"#
    );
    assert_eq!(
        json(&Order::PostcopyAdvise {
            sizes: Some(PageSizes {
                summary: 1,
                target: 2
            })
        }),
        r#"{"message":"POSTCOPY_ADVISE","sizes":{"summary":1,"target":2}}"#
    );
}

mod erased {
    pub(crate) trait Json {
        fn json(&self) -> String;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> String {
            serde_json::to_string(self).expect("JSON takes it")
        }
    }
}

#[test]
fn round_trips_names_that_are_not_utf8() {
    for bytes in [
        &b"pc.ram"[..],
        b"\xff",
        "größe".as_bytes(),
        b"{\"hex\":\"00\"}",
        b"\\xff",
        b"ff",
        b"\x01",
    ] {
        let name = name(bytes);
        let value = to_value(&name).expect("JSON takes it");
        assert_eq!(value.is_string(), std::str::from_utf8(bytes).is_ok());
        assert_eq!(
            value,
            to_value(Name::new(bytes).expect("a name")).expect("JSON takes it")
        );
        assert_eq!(from_value::<NameBuf>(value).expect("is a name"), name);
        let binary = postcard::to_allocvec(&name).expect("postcard takes it");
        assert_eq!(binary[1..], *bytes);
    }
    assert_eq!(
        from_value::<NameBuf>(json!({"hex": "Ff0A"})).expect("is a name"),
        name(b"\xff\n")
    );
}

#[test]
fn deserializes_names_from_sequences_of_bytes() {
    use serde::de::value::{Error, SeqDeserializer};
    use serde::de::{Deserialize, IntoDeserializer};

    /// A binary format that yields single bytes.
    struct Sequence<I>(I);

    impl<'de, I: Iterator<Item = u8>> serde::Deserializer<'de> for Sequence<I> {
        type Error = Error;

        fn deserialize_any<V: serde::de::Visitor<'de>>(
            self,
            visitor: V,
        ) -> Result<V::Value, Error> {
            visitor.visit_seq(SeqDeserializer::new(self.0.map(u8::into_deserializer)))
        }

        fn is_human_readable(&self) -> bool {
            false
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
            identifier ignored_any
        }
    }

    let read = |bytes: &[u8]| NameBuf::deserialize(Sequence(bytes.iter().copied()));
    assert_eq!(read(b"pc.ram"), Ok(name("pc.ram")));
    assert_eq!(read(&[b'a'; 255]), Ok(name([b'a'; 255])));
    assert!(read(&[b'a'; 256]).is_err());
    assert!(read(b"").is_err());
    // An endless sequence is not read completely.
    assert!(NameBuf::deserialize(Sequence(std::iter::repeat(b'a'))).is_err());
}

/// Returns the error of deserializing `text` as a `T`.
fn refused<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
    match from_str::<T>(text) {
        Ok(value) => panic!("takes {value:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn refuses_names_that_the_wire_cannot_carry() {
    let long = format!("\"{}\"", "a".repeat(256));
    let long_hex = format!("{{\"hex\":\"{}\"}}", "ff".repeat(256));
    for (text, why) in [
        ("\"\"", "block name is empty"),
        ("\"a\\u0000\"", "NUL"),
        (&long, "longer than 255"),
        (&long_hex, "longer than 255"),
        ("{\"hex\":\"\"}", "empty"),
        ("{\"hex\":\"6100\"}", "NUL"),
        ("{\"hex\":\"f\"}", "hexadecimal"),
        ("{\"hex\":\"+f\"}", "hexadecimal"),
        ("{\"hex\":\"fg\"}", "hexadecimal"),
        ("{\"hex\":\"é\"}", "hexadecimal"),
        ("{}", "missing field `hex`"),
        ("{\"text\":\"a\"}", "unknown field `text`"),
        ("{\"hex\":\"61\",\"hex\":\"62\"}", "unknown field `hex`"),
        ("{\"hex\":7}", "expected a string"),
        ("{\"hex\":\"61\",7:8}", "key must be a string"),
        ("[112,300]", "expected u8"),
        ("[112,0]", "NUL"),
        ("7", "a RAM block name"),
    ] {
        let error = refused::<NameBuf>(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn refuses_values_that_no_receiver_would_accept() {
    for (error, why) in [
        (
            refused::<Merged>(r#"{"message":"REQ_PAGES","start":1,"len":0}"#),
            "[zero]",
        ),
        (
            refused::<Merged>(r#"{"message":"REQ_PAGES","start":18446744073709551615,"len":1}"#),
            "[overflow]",
        ),
        (
            refused::<Merged>(r#"{"message":"REQ_PAGES","start":1,"len":4294967296}"#),
            "u32",
        ),
        (
            refused::<Merged>(r#"{"message":"REQ_PAGES","start":1,"len":1,"block":"a"}"#),
            "unknown field",
        ),
        (
            refused::<Merged>(r#"{"message":"REQ_PAGES_ID","start":1,"len":1}"#),
            "missing field `block`",
        ),
        (
            refused::<Merged>(r#"{"message":"RECV_BITMAP","block":""}"#),
            "block name is empty",
        ),
        (
            refused::<Merged>(r#"{"message":"INVALID"}"#),
            "unknown variant",
        ),
        (refused::<Merged>(r#""PONG""#), "invalid type: string"),
        (
            refused::<Draft>(r#"{"message":"REQ_PAGES","start":0,"len":4097,"block":null}"#),
            "[odd]",
        ),
        (
            refused::<Draft>(r#"{"message":"REQ_PAGES","start":0,"len":0,"block":"a"}"#),
            "[zero]",
        ),
        (
            refused::<Draft>(r#"{"message":"RESUME_ACK"}"#),
            "unknown variant",
        ),
        (
            refused::<Merged>(r#"{"message":"RESUME_ACK","value":2}"#),
            "is 2, must be 1",
        ),
        (
            refused::<Merged>(r#"{"message":"RESUME_ACK","value":"1"}"#),
            "invalid type: string",
        ),
        (
            refused::<Merged>(r#"{"message":"SWITCHOVER_ACK","value":2}"#),
            "unknown field",
        ),
        (
            refused::<Merged>(r#"{"value":1}"#),
            "missing field `message`",
        ),
        (
            refused::<Order>(r#"{"message":"POSTCOPY_RAM_DISCARD","block":"a","ranges":[]}"#),
            "expected at least one range",
        ),
        (
            refused::<Order>(
                r#"{"message":"POSTCOPY_RAM_DISCARD","block":"a","ranges":[{"start":0,"len":0}]}"#,
            ),
            "length is 0",
        ),
        (
            refused::<Range>(r#"{"start":18446744073709551615,"len":1}"#),
            "exceeds 2^64 - 1",
        ),
        (
            refused::<PageSizes>(r#"{"summary":1}"#),
            "missing field `target`",
        ),
    ] {
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn refuses_more_ranges_than_a_command_holds() {
    let range = Range { start: 0, len: 1 };
    let order = Order::PostcopyRamDiscard {
        block: name("a"),
        ranges: RangeBuf::new(vec![range; 4096]).expect("ranges are valid"),
    };
    let text = serde_json::to_string(&order).expect("JSON takes it");
    assert!(refused::<Order>(&text).contains("[too-long]"));
}

#[test]
fn refuses_a_binary_message_that_breaks_a_rule() {
    let bytes = postcard::to_allocvec(&Draft::ReqPages {
        start: 0,
        len: 2,
        block: None,
    });
    let mut bytes = bytes.expect("postcard takes it");
    assert_eq!(bytes, hex("02 00 02 00"));
    bytes[2] = 3;
    assert!(postcard::from_bytes::<Draft>(&bytes).is_err());
}
