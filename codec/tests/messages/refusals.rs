//! One test for each error of a frame or a bitmap: offset, message, field, rule.

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::command::Commands;
use retpath_codec::{DecodeError, Dialect, Qemu, Rule, V7, decode};
use retpath_spec::model::{self, Field, Kind};
use retpath_spec::oracle;
use retpath_spec::sample::{Size, sample};
use retpath_spec::table::command::COMMAND;
use retpath_spec::table::return_path::{self, QEMU};

use crate::samples::hex;

/// An error: dialect, offset, message, field and rule.
type Refusal = (&'static str, DecodeError);

fn refusal<D: Dialect>(
    text: &str,
    offset: u64,
    message: &'static str,
    field: &'static str,
    rule: Rule,
) -> Refusal {
    let some = |text: &'static str| (!text.is_empty()).then_some(text);
    let (message, field) = (some(message), some(field));
    let expected = DecodeError::new(offset, message, field, rule);
    let bytes = hex(text);
    match decode::<D>(&bytes) {
        Err(found) => assert_eq!(found, expected),
        Ok(found) => panic!("takes {found:?}"),
    }
    retpath_codec::check::frame::<D>(&bytes);
    (D::NAME, expected)
}

/// Dialect, bytes => offset, message, field and rule of the error.
macro_rules! refusals {
    ($($name:ident: $dialect:ty, $text:expr => $offset:expr, $message:expr, $field:expr, $rule:expr;)*) => {
        $(#[test]
        fn $name() {
            refusal::<$dialect>($text, $offset, $message, $field, $rule);
        })*

        fn all() -> Vec<Refusal> {
            vec![$(refusal::<$dialect>($text, $offset, $message, $field, $rule)),*]
        }
    };
}

use Rule::*;

refusals! {
    // The number is checked first.
    refuses_number_0: Qemu, "0000 0000" => 0, "", "", Reserved;
    refuses_number_0_of_any_length: Qemu, "0000 ffff" => 0, "", "", Reserved;
    refuses_a_number_with_its_bytes_swapped: Qemu, "0100 0000" => 0, "", "", Unknown { number: 256 };
    refuses_the_last_number: Qemu, "ffff ffff" => 0, "", "", Unknown { number: 0xffff };
    refuses_number_0_of_the_draft: V7, "0000 0004" => 0, "", "", Reserved;
    refuses_number_4_of_the_draft: V7, "0004 000c" => 0, "", "", Unknown { number: 4 };
    refuses_command_0: Commands, "08 0000 0000" => 1, "", "", Reserved;
    refuses_a_command_with_its_bytes_swapped: Commands, "08 0100 0000" => 1, "", "", Unknown { number: 256 };
    refuses_a_command_without_its_section_byte: Commands, "04 0001 0000" => 0, "", "", Lead;

    // Then the limit, then the lengths of the message.
    refuses_513_bytes: Qemu, "0003 0201" => 2, "REQ_PAGES_ID", "", TooLong { len: 513, limit: 512 };
    refuses_513_bytes_of_a_fixed_message: Qemu, "0001 0201" => 2, "SHUT", "", TooLong { len: 513, limit: 512 };
    refuses_513_bytes_of_the_draft: V7, "0003 0201" => 2, "REQ_PAGES", "", TooLong { len: 513, limit: 512 };
    refuses_512_bytes_as_a_length: Qemu, "0003 0200" => 2, "REQ_PAGES_ID", "", Length { len: 512, min: 14, max: 268 };
    refuses_a_shorter_shut: Qemu, "0001 0003" => 2, "SHUT", "", Length { len: 3, min: 4, max: 4 };
    refuses_a_longer_pong: Qemu, "0002 0005" => 2, "PONG", "", Length { len: 5, min: 4, max: 4 };
    refuses_a_req_pages_id_without_a_name: Qemu, "0003 000d" => 2, "REQ_PAGES_ID", "", Length { len: 13, min: 14, max: 268 };
    refuses_a_longer_req_pages_id: Qemu, "0003 010d" => 2, "REQ_PAGES_ID", "", Length { len: 269, min: 14, max: 268 };
    refuses_a_shorter_req_pages: Qemu, "0004 000b" => 2, "REQ_PAGES", "", Length { len: 11, min: 12, max: 12 };
    refuses_a_req_pages_with_a_name: Qemu, "0004 0013" => 2, "REQ_PAGES", "", Length { len: 19, min: 12, max: 12 };
    refuses_a_recv_bitmap_without_a_name: Qemu, "0005 0001" => 2, "RECV_BITMAP", "", Length { len: 1, min: 2, max: 256 };
    refuses_a_longer_recv_bitmap: Qemu, "0005 0101" => 2, "RECV_BITMAP", "", Length { len: 257, min: 2, max: 256 };
    refuses_a_resume_ack_without_a_value: Qemu, "0006 0000" => 2, "RESUME_ACK", "", Length { len: 0, min: 4, max: 4 };
    refuses_a_switchover_ack_with_a_value: Qemu, "0007 0004" => 2, "SWITCHOVER_ACK", "", Length { len: 4, min: 0, max: 0 };
    refuses_a_shorter_request_of_the_draft: V7, "0003 000f" => 2, "REQ_PAGES", "", Length { len: 15, min: 16, max: 272 };
    refuses_a_longer_request_of_the_draft: V7, "0003 0111" => 2, "REQ_PAGES", "", Length { len: 273, min: 16, max: 272 };
    refuses_a_ping_without_a_value: Commands, "08 0002 0000" => 3, "PING", "", Length { len: 0, min: 4, max: 4 };
    refuses_a_longer_advise: Commands, "08 0003 0011" => 3, "POSTCOPY_ADVISE", "", Length { len: 17, min: 0, max: 16 };
    refuses_a_listen_with_a_payload: Commands, "08 0004 0001" => 3, "POSTCOPY_LISTEN", "", Length { len: 1, min: 0, max: 0 };
    refuses_a_discard_without_a_range: Commands, "08 0006 0013" => 3, "POSTCOPY_RAM_DISCARD", "", Length { len: 19, min: 20, max: 65535 };
    refuses_a_longer_packaged: Commands, "08 0007 0008" => 3, "PACKAGED", "", Length { len: 8, min: 4, max: 4 };
    refuses_a_command_to_send_a_bitmap_of_no_block: Commands, "08 000a 0000" => 3, "RECV_BITMAP", "", Length { len: 0, min: 2, max: 256 };

    // Then the fields in order.
    refuses_a_request_of_no_bytes: Qemu, "0004 000c  0000000000001000 00000000" => 12, "REQ_PAGES", "len", Zero;
    refuses_a_named_request_of_no_bytes: Qemu, "0003 000e  0000000000001000 00000000 01 'a'" => 12, "REQ_PAGES_ID", "len", Zero;
    refuses_a_request_that_wraps: Qemu, "0004 000c  fffffffffffff000 00001000" => 12, "REQ_PAGES", "len", Overflow { start: 0xffff_ffff_ffff_f000, len: 4096 };
    refuses_a_named_request_that_wraps: Qemu, "0003 000e  ffffffffffffffff 00000001 01 'a'" => 12, "REQ_PAGES_ID", "len", Overflow { start: u64::MAX, len: 1 };
    refuses_the_length_before_the_name: Qemu, "0003 000e  0000000000001000 00000000 00 'a'" => 12, "REQ_PAGES_ID", "len", Zero;
    refuses_an_empty_name: Qemu, "0003 000e  0000000000001000 00001000 00 'a'" => 16, "REQ_PAGES_ID", "block", EmptyName;
    refuses_a_nul_in_a_name: Qemu, "0003 0010  0000000000001000 00001000 03 'a' 00 'b'" => 16, "REQ_PAGES_ID", "block", NulInName;
    refuses_a_name_beyond_the_payload: Qemu, "0003 0010  0000000000001000 00001000 04 'abc'" => 16, "REQ_PAGES_ID", "block", Short;
    refuses_bytes_behind_a_name: Qemu, "0003 0010  0000000000001000 00001000 01 'abc'" => 18, "REQ_PAGES_ID", "", Leftover { count: 2 };
    refuses_a_bitmap_of_an_empty_name: Qemu, "0005 0002  00 'a'" => 4, "RECV_BITMAP", "block", EmptyName;
    refuses_a_bitmap_of_a_name_with_a_nul: Qemu, "0005 0002  01 00" => 4, "RECV_BITMAP", "block", NulInName;
    refuses_a_bitmap_of_a_name_beyond_the_payload: Qemu, "0005 0002  ff 'a'" => 4, "RECV_BITMAP", "block", Short;
    refuses_bytes_behind_the_name_of_a_bitmap: Qemu, "0005 0007  05 'pc.ram'" => 10, "RECV_BITMAP", "", Leftover { count: 1 };
    refuses_a_resume_ack_of_0: Qemu, "0006 0004  00000000" => 4, "RESUME_ACK", "value", Value { got: 0, want: 1 };
    refuses_a_resume_ack_of_2_to_the_24: Qemu, "0006 0004  01000000" => 4, "RESUME_ACK", "value", Value { got: 1 << 24, want: 1 };

    refuses_a_draft_request_of_no_bytes: V7, "0003 0010  0000000000001000 0000000000000000" => 12, "REQ_PAGES", "len", Zero;
    refuses_a_draft_request_of_a_flag_only: V7, "0003 0012  0000000000001000 0000000000000001 01 'a'" => 12, "REQ_PAGES", "len", Zero;
    refuses_a_draft_request_that_wraps: V7, "0003 0010  8000000000000000 8000000000000000" => 12, "REQ_PAGES", "len", Overflow { start: 1 << 63, len: 1 << 63 };
    refuses_a_flag_without_a_name: V7, "0003 0010  0000000000001000 0000000000001001" => 20, "REQ_PAGES", "block", Short;
    refuses_a_name_without_a_flag: V7, "0003 0012  0000000000001000 0000000000001000 01 'a'" => 20, "REQ_PAGES", "", Leftover { count: 2 };
    refuses_a_flagged_name_that_is_empty: V7, "0003 0011  0000000000001000 0000000000001001 00" => 20, "REQ_PAGES", "block", EmptyName;
    refuses_a_flagged_name_with_a_nul: V7, "0003 0013  0000000000001000 0000000000001001 02 'a' 00" => 20, "REQ_PAGES", "block", NulInName;
    refuses_a_flagged_name_beyond_the_payload: V7, "0003 0012  0000000000001000 0000000000001001 02 'a'" => 20, "REQ_PAGES", "block", Short;
    refuses_bytes_behind_a_flagged_name: V7, "0003 0013  0000000000001000 0000000000001001 01 'ab'" => 22, "REQ_PAGES", "", Leftover { count: 1 };

    refuses_half_of_the_page_sizes: Commands, "08 0003 0008  0000000000001000" => 5, "POSTCOPY_ADVISE", "sizes", Short;
    refuses_discard_version_1: Commands, "08 0006 0014  01 01 'a' 00  0000000000000000 0000000000001000" => 5, "POSTCOPY_RAM_DISCARD", "version", Value { got: 1, want: 0 };
    refuses_a_discard_of_an_empty_name: Commands, "08 0006 0014  00 00 'a' 00  0000000000000000 0000000000001000" => 6, "POSTCOPY_RAM_DISCARD", "block", EmptyName;
    refuses_a_discard_of_a_name_with_a_nul: Commands, "08 0006 0014  00 01 00 00  0000000000000000 0000000000001000" => 6, "POSTCOPY_RAM_DISCARD", "block", NulInName;
    refuses_a_discard_of_a_name_beyond_the_payload: Commands, "08 0006 0014  00 13 'a' 00  0000000000000000 0000000000001000" => 6, "POSTCOPY_RAM_DISCARD", "block", Short;
    refuses_a_discard_that_ends_with_its_name: Commands, "08 0006 0014  00 12 'abcdefghijklmnopqr'" => 25, "POSTCOPY_RAM_DISCARD", "terminator", Short;
    refuses_a_name_without_its_terminator: Commands, "08 0006 0014  00 01 'a' 20  0000000000000000 0000000000001000" => 8, "POSTCOPY_RAM_DISCARD", "terminator", Value { got: 0x20, want: 0 };
    refuses_a_discard_whose_name_leaves_no_range: Commands, "08 0006 0014  00 11 'abcdefghijklmnopq' 00" => 25, "POSTCOPY_RAM_DISCARD", "ranges", Short;
    refuses_a_range_cut_short: Commands, "08 0006 0014  00 02 'ab' 00  0000000000000000 00000000000010" => 10, "POSTCOPY_RAM_DISCARD", "ranges", Short;
    refuses_bytes_behind_the_last_range: Commands, "08 0006 0015  00 01 'a' 00  0000000000000000 0000000000001000 00" => 25, "POSTCOPY_RAM_DISCARD", "ranges", Short;
    refuses_a_range_of_no_bytes: Commands, "08 0006 0014  00 01 'a' 00  0000000000001000 0000000000000000" => 9, "POSTCOPY_RAM_DISCARD", "ranges", Zero;
    refuses_a_second_range_that_wraps: Commands, "08 0006 0024  00 01 'a' 00  0000000000000000 0000000000001000  ffffffffffffffff 0000000000000001" => 25, "POSTCOPY_RAM_DISCARD", "ranges", Overflow { start: u64::MAX, len: 1 };
    refuses_to_send_the_bitmap_of_an_empty_name: Commands, "08 000a 0002  00 'a'" => 5, "RECV_BITMAP", "block", EmptyName;
    refuses_bytes_behind_the_name_of_a_command: Commands, "08 000a 0003  01 'ab'" => 7, "RECV_BITMAP", "", Leftover { count: 1 };
}

#[test]
fn has_a_refusal_of_every_rule() {
    let all = all();
    for rule in oracle::RULES {
        assert!(
            all.iter().any(|(_, error)| error.rule.name() == *rule),
            "{rule}"
        );
    }
}

/// A value that the rules for a field forbid, if there are any: every 16 bytes are
/// page sizes.
fn forbidden(field: &Field) -> Option<oracle::Value> {
    match (field.rule, field.kind) {
        (model::Rule::Equals(want), _) => Some(oracle::Value::Number(want ^ 1)),
        (model::Rule::Span, _) => Some(oracle::Value::Number(0)),
        (_, Kind::Name | Kind::FlaggedName) => Some(oracle::Value::Name(vec![0])),
        (_, Kind::Ranges) => Some(oracle::Value::Ranges(vec![(0, 0)])),
        _ => None,
    }
}

fn refuses_forbidden_values<D: Dialect>(dialect: &model::Dialect) {
    for message in dialect.messages {
        for (at, field) in message.fields.iter().enumerate() {
            let Some(value) = forbidden(field) else {
                continue;
            };
            let mut values = sample(message, Size::Typical).values;
            values[at] = value;
            let frame = oracle::write(dialect, message, &values);
            let error = decode::<D>(&frame).expect_err("a value is forbidden");
            let blamed = (error.message, error.field);
            assert_eq!(
                blamed,
                (Some(message.label), Some(field.name)),
                "{frame:x?}"
            );
            retpath_codec::check::frame::<D>(&frame);
        }
    }
}

#[test]
fn refuses_a_forbidden_value_of_every_field() {
    refuses_forbidden_values::<Qemu>(&QEMU);
    refuses_forbidden_values::<V7>(&return_path::V7);
    refuses_forbidden_values::<Commands>(&COMMAND);
}

#[test]
fn prints_offset_message_field_and_rule() {
    let text = |bytes: &str| {
        decode::<Qemu>(&hex(bytes))
            .expect_err("is refused")
            .to_string()
    };
    assert_eq!(
        text("0004 000c  fffffffffffff000 00001000"),
        "offset 12 (0xc), REQ_PAGES, field `len`: \
         start 0xfffffffffffff000 + length 0x1000 exceeds 2^64 - 1 [overflow]"
    );
    assert_eq!(
        text("0100 0000"),
        "offset 0 (0x0): unknown message number 256 (0x0100) [unknown]"
    );
    assert_eq!(
        text("0003 000d"),
        "offset 2 (0x2), REQ_PAGES_ID: payload length is 13 bytes, must be 14 to 268 [length]"
    );
}

mod bitmaps {
    use super::*;

    fn refused(text: &str, limit: u64) -> (u64, Rule) {
        let bytes = hex(text);
        retpath_codec::check::trailer(&bytes, limit);
        let error = bitmap::decode(&bytes, limit).expect_err("is refused");
        assert_eq!(
            (error.message, error.field),
            (Some("RECV_BITMAP"), Some("bitmap"))
        );
        (error.offset, error.rule)
    }

    #[test]
    fn refuses_an_empty_bitmap() {
        assert_eq!(refused("0000000000000000", 8), (0, BitmapSize { size: 0 }));
    }

    #[test]
    fn refuses_a_bitmap_size_that_is_not_a_multiple_of_8() {
        assert_eq!(
            refused("000000000000000c", 64),
            (0, BitmapSize { size: 12 })
        );
    }

    #[test]
    fn refuses_a_bitmap_over_the_limit_at_its_size_field() {
        let limit = BitmapLimit {
            size: 16,
            limit: 15,
        };
        assert_eq!(refused("0000000000000010", 15), (0, limit));
        assert!(!limit.is_peer_fault());
        let size = u64::MAX - 7;
        assert_eq!(
            refused("fffffffffffffff8", 1 << 40),
            (
                0,
                BitmapLimit {
                    size,
                    limit: 1 << 40
                }
            )
        );
    }

    #[test]
    fn accepts_the_announcement_of_a_huge_bitmap_if_the_limit_allows_it() {
        let bytes = hex("fffffffffffffff8 ff");
        let found = bitmap::decode(&bytes, u64::MAX);
        assert_eq!(found, Ok(retpath_codec::Decoded::Need(usize::MAX - 9)));
    }

    #[test]
    fn refuses_a_wrong_end_mark() {
        let text = "0000000000000008 0000000000000000 0123456789abcdee";
        assert_eq!(
            refused(text, 8),
            (
                16,
                BitmapEnd {
                    got: 0x0123_4567_89ab_cdee
                }
            )
        );
    }

    #[test]
    fn refuses_to_encode_a_bitmap_size_that_is_not_a_multiple_of_8() {
        for size in [0, 1, 7, 9] {
            let mut out = vec![1];
            let refused = bitmap::encode(Bitmap::new(&[0; 16][..size]), &mut out);
            assert_eq!(
                refused,
                Err(BitmapSize {
                    size: u64::try_from(size).unwrap()
                })
            );
            assert_eq!(out, [1]);
        }
        let mut out = vec![1];
        let refused = bitmap::encode_words(&[], &mut out);
        assert_eq!(refused, Err(BitmapSize { size: 0 }));
        assert_eq!(out, [1]);
    }

    #[test]
    fn encodes_a_bitmap_of_words_like_one_of_bytes() {
        let words = [0x0123_4567_89ab_cdef_u64, 0, u64::MAX, 1 << 63];
        let bytes = words.map(u64::to_le_bytes).concat();
        let (mut one, mut other) = (vec![1], vec![1]);
        bitmap::encode(Bitmap::new(&bytes), &mut one).unwrap();
        bitmap::encode_words(&words, &mut other).unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn refuses_a_bitmap_of_another_block() {
        let bitmap = Bitmap::new(&[0xff; 8]);
        assert_eq!(bitmap.check(64), Ok(()));
        assert_eq!(bitmap.check(65), Err(BitmapMismatch { size: 8, want: 16 }));
        assert_eq!(bitmap.check(0), Err(BitmapMismatch { size: 8, want: 0 }));
        assert_eq!(
            bitmap.check(u64::MAX),
            Err(BitmapMismatch {
                size: 8,
                want: 1 << 61
            })
        );
    }

    #[test]
    fn refuses_a_bit_after_the_last_page() {
        for pages in 1..64 {
            let all = (!0_u64 >> (64 - pages)).to_le_bytes();
            let bitmap = Bitmap::new(&all);
            assert_eq!((bitmap.check(pages), bitmap.received()), (Ok(()), pages));
            assert!(bitmap.is_received(pages - 1) && !bitmap.is_received(pages));
            assert!(bitmap.check(pages - 1).is_err(), "{pages}");
        }
        assert_eq!(
            Bitmap::new(&[0, 0, 0, 0, 0, 0, 0, 0x80]).check(63),
            Err(BitmapTail)
        );
        assert!(!Bitmap::new(&[0xff; 8]).is_received(u64::MAX));
    }
}
