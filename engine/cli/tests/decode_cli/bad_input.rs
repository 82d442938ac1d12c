//! Recordings that are malformed, cut short, or of another kind.

use retpath_cli::decode::{Failure, Kind, Options, decode_slice};
use retpath_random::Random;

use crate::{capture, decode, decode_file, retpath};

const PONG: &[u8] = b"\0\x02\0\x04\0\0\0\x01";
const PONG_LINE: &str = "0x0000000000  PONG            value 1\n";

/// The error of `retpath decode -` about an input.
#[track_caller]
fn refused(args: &[&str], input: &[u8], report: &str) -> String {
    let line = decode(args, input).refused(1, report);
    let what = line.strip_prefix("retpath decode: standard input: ");
    what.expect("a line names the command and the input")
        .to_owned()
}

#[test]
fn refuses_an_empty_recording() {
    for args in [
        &[][..],
        &["--summary"],
        &["--format", "json"],
        &["--kind", "return-path"],
    ] {
        assert_eq!(refused(args, b"", ""), "the recording is empty");
    }
}

#[test]
fn refuses_four_bytes() {
    assert_eq!(
        refused(&[], b"\0\x02\0\x04", ""),
        "offset 0 (0x0): unexpected end inside a message: \
         4 bytes are present, at least 4 more are required [cut-short]"
    );
    assert_eq!(
        refused(&[], b"abcd", ""),
        "offset 0 (0x0): unknown message number 24930 (0x6162) [unknown]"
    );
}

#[test]
fn refuses_random_bytes_in_one_line() {
    let mut numbers = Random::new(1);
    for round in 0..200 {
        let random = numbers.bytes(512);
        if round == 0 {
            assert!(
                refused(&[], &random, "").starts_with("offset 0 (0x0): unknown message number")
            );
        }
        for kind in [
            Kind::Auto,
            Kind::ReturnPath,
            Kind::Forward,
            Kind::Resumed,
            Kind::Preempt,
        ] {
            let options = Options {
                kind,
                ..Options::default()
            };
            let (_, verdict) = decode_slice(&options, &random);
            let failure = verdict.expect_err("random bytes are not a recording");
            assert!(matches!(failure, Failure::Bytes { .. }));
            assert!(!failure.to_string().contains('\n'));
        }
    }
}

#[test]
fn prints_what_was_decoded_before_the_error() {
    let input = [PONG, b"\0\x04\0\x0b\0\0\0\0\0\0\x10\0\0\0\x10\0"].concat();
    let error = "offset 10 (0xa), REQ_PAGES: payload length is 11 bytes, must be 12 [length]";
    assert_eq!(refused(&[], &input, PONG_LINE), error);
    let json = "{\"offset\":0,\"message\":\"PONG\",\"value\":1}\n";
    assert_eq!(refused(&["--format", "json"], &input, json), error);
    let counts = "{\"bytes\":8,\"messages\":{\"PONG\":1}}\n";
    assert_eq!(
        refused(&["--format", "json", "--summary"], &input, counts),
        error
    );
}

#[test]
fn names_field_and_rule() {
    let no_name = b"\0\x03\0\x0e\0\0\0\0\0\0\x10\0\0\0\x10\0\0\0";
    assert_eq!(
        refused(&["--kind", "return-path"], no_name, ""),
        "offset 16 (0x10), REQ_PAGES_ID, field `block`: block name is empty [empty-name]; \
         if the recording follows the draft of 2015, try --dialect v7"
    );
    let nack = [PONG, b"\0\x06\0\x04\0\0\0\x02"].concat();
    assert_eq!(
        refused(&[], &nack, PONG_LINE),
        "offset 12 (0xc), RESUME_ACK, field `value`: is 2, must be 1 [value]"
    );
    let after = [b"\0\x01\0\x04\0\0\0\0", PONG].concat();
    assert_eq!(
        refused(&[], &after, "0x0000000000  SHUT            value 0\n"),
        "offset 8 (0x8): SHUT must be the last message, but bytes follow it [after-shut]"
    );
}

#[test]
fn refuses_every_prefix_that_ends_inside_a_message() {
    let path = std::fs::read(capture("qemu-10.0-recover.ch1.rp")).expect("the corpus has it");
    let (whole, verdict) = decode_slice(&Options::default(), &path);
    assert!(verdict.is_ok());
    let whole = String::from_utf8(whole).expect("reports are UTF-8");
    // Where each message ends is where the next one starts, or the end.
    let starts = whole
        .lines()
        .filter_map(|line| usize::from_str_radix(&line[2..12], 16).ok());
    let ends: Vec<usize> = starts.skip(1).chain([path.len()]).collect();
    assert_eq!(ends.len(), 42);
    for cut in 1..path.len() {
        let (report, verdict) = decode_slice(&Options::default(), &path[..cut]);
        let report = String::from_utf8(report).expect("reports are UTF-8");
        let lines = ends.iter().filter(|end| **end <= cut).count();
        let mut decoded = String::new();
        whole
            .split_inclusive('\n')
            .take(lines)
            .for_each(|line| decoded.push_str(line));
        assert_eq!(verdict.is_ok(), ends.contains(&cut), "cut at {cut}");
        // A RECV_BITMAP whose bitmap is missing says so.
        if report != decoded {
            let last = report
                .strip_prefix(&decoded)
                .expect("what came before stays");
            assert!(
                last.contains("RECV_BITMAP") && last.ends_with("  bitmap missing\n"),
                "{last}"
            );
        }
    }
}

#[test]
fn names_the_kind_of_a_recording_of_another_kind() {
    let cases: [(&str, &[u8], &str); 8] = [
        (
            "return-path",
            b"QEVM\0\0\0\x03",
            "offset 0 (0x0): unknown message number 20805 (0x5145) [unknown]; it begins with QEVM, \
             so it is a forward stream: decode it with --kind forward",
        ),
        (
            "auto",
            b"\x08\0\x0a\0\x07\x06pc.ram",
            "offset 0 (0x0): unknown message number 2048 (0x0800) [unknown]; \
             it begins like a forward stream after the link broke: try --kind resumed",
        ),
        (
            "auto",
            b"\0\0\0\0\0\x12\0\x08\x06pc.ram",
            "offset 0 (0x0): message number 0 is reserved [reserved]; \
             it begins like a preempt channel: try --kind preempt",
        ),
        (
            "auto",
            b"\x11\x22\x33\x44\0\0\0\x01",
            "offset 0 (0x0): unknown message number 4386 (0x1122) [unknown]; \
             it begins like a multifd channel, which this command does not decode",
        ),
        (
            "auto",
            b"\x16\x03\x01\x02\0\x01\0\x01",
            "offset 0 (0x0): unknown message number 5635 (0x1603) [unknown]; \
             it begins like a TLS session: record what is inside the session",
        ),
        (
            "auto",
            b"\x1f\x8b\x08\0",
            "offset 0 (0x0): unknown message number 8075 (0x1f8b) [unknown]; \
             it is compressed: unpack it first, as in zcat PATH | retpath decode -",
        ),
        (
            "auto",
            b"no migration at all",
            "offset 0 (0x0): unknown message number 28271 (0x6e6f) [unknown]",
        ),
        (
            "return-path",
            b"\0\x09\0\0",
            "offset 0 (0x0): unknown message number 9 (0x0009) [unknown]",
        ),
    ];
    for (kind, input, said) in cases {
        assert_eq!(refused(&["--kind", kind], input, ""), said);
    }
    let forward = decode_file(
        &["--kind", "return-path"],
        capture("qemu-7.2-recover.ch0.fwd"),
    );
    assert!(
        forward
            .refused(1, "")
            .ends_with("decode it with --kind forward")
    );
}

#[test]
fn limits_bitmaps() {
    let bitmap = [
        &b"\0\x05\0\x07\x06pc.ram\0\0\0\0\0\0\0\x10"[..],
        &[0xff; 16],
        b"\x01\x23\x45\x67\x89\xab\xcd\xef",
    ]
    .concat();
    let whole = "0x0000000000  RECV_BITMAP     block pc.ram  bits 128  received 128\n";
    for allowed in ["16", "1K", "0x10", "64M"] {
        assert_eq!(decode(&["--max-bitmap", allowed], &bitmap).decoded(), whole);
    }
    assert_eq!(
        refused(
            &["--max-bitmap", "15"],
            &bitmap,
            "0x0000000000  RECV_BITMAP     block pc.ram  bitmap missing\n"
        ),
        "offset 11 (0xb), RECV_BITMAP, field `bitmap`: bitmap size is 16 bytes, \
         but this reader accepts at most 15 [bitmap-limit]; --max-bitmap sets the limit"
    );
    let huge = b"\0\x05\0\x07\x06pc.ram\0\0\0\0\x04\0\0\x08";
    let line = refused(
        &[],
        huge,
        "0x0000000000  RECV_BITMAP     block pc.ram  bitmap missing\n",
    );
    assert!(
        line.contains("at most 67108864"),
        "the documented default: {line}"
    );
}

#[test]
fn refuses_wrong_usage_with_code_2() {
    let calls: [&[&str]; 9] = [
        &[],
        &["--dialect", "v8", "-"],
        &["--kind", "backward", "-"],
        &["--format", "xml", "-"],
        &["--max-bitmap", "1MB", "-"],
        &["--block-page-size", "pc.ram", "-"],
        &["--block-page-size", "=2M", "-"],
        &["--block-page-size", "pc.ram=3K", "-"],
        &["--block-page-size", "pc.ram=512", "-"],
    ];
    for args in calls {
        let output = retpath()
            .args(args)
            .output()
            .expect("the binary has been built");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(output.stderr.starts_with(b"error: "), "{args:?}");
    }
}
