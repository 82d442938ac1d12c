//! Return paths: text, JSON, counts, both dialects.

use crate::{capture, decode, decode_file};

/// One of each message of the merged dialect.
const ALL: &[&[u8]] = &[
    b"\0\x07\0\0",
    b"\0\x02\0\x04\0\0\0\x42",
    b"\0\x03\0\x13\0\0\0\0\x03\x31\x60\0\0\0\x10\0\x06pc.ram",
    b"\0\x04\0\x0c\0\0\0\0\0\0\x20\0\0\x20\0\0",
    b"\0\x04\0\x0c\0\0\0\0\0\0\x02\0\0\0\x10\0",
    b"\0\x05\0\x07\x06pc.ram",
    b"\0\0\0\0\0\0\0\x08\xff\x01\0\0\0\0\0\x80\x01\x23\x45\x67\x89\xab\xcd\xef",
    b"\0\x06\0\x04\0\0\0\x01",
    b"\0\x01\0\x04\0\0\0\0",
];

const ALL_TEXT: &str = "\
0x0000000000  SWITCHOVER_ACK
0x0000000004  PONG            value 66
0x000000000c  REQ_PAGES_ID    start 0x3316000    len 4 KiB    page 13078     block pc.ram
0x0000000023  REQ_PAGES       start 0x2000       len 2 MiB    page 0+0x2000  block (pc.ram)
0x0000000033  REQ_PAGES       start 0x200        len 4 KiB    page 0+0x200   block (pc.ram)
0x0000000043  RECV_BITMAP     block pc.ram  bits 64  received 10
0x0000000066  RESUME_ACK      value 1
0x000000006e  SHUT            value 0
";

const ALL_JSON: &str = r#"{"offset":0,"message":"SWITCHOVER_ACK"}
{"offset":4,"message":"PONG","value":66}
{"offset":12,"message":"REQ_PAGES_ID","start":53567488,"len":4096,"block":"pc.ram"}
{"offset":35,"message":"REQ_PAGES","start":8192,"len":2097152}
{"offset":51,"message":"REQ_PAGES","start":512,"len":4096}
{"offset":67,"message":"RECV_BITMAP","block":"pc.ram","bits":64,"received":10}
{"offset":102,"message":"RESUME_ACK","value":1}
{"offset":110,"message":"SHUT","value":0}
"#;

#[test]
fn prints_every_message_as_text() {
    assert_eq!(decode(&[], &ALL.concat()).decoded(), ALL_TEXT);
}

#[test]
fn prints_every_message_as_json() {
    assert_eq!(
        decode(&["--format", "json"], &ALL.concat()).decoded(),
        ALL_JSON
    );
}

#[test]
fn counts_messages() {
    let counted = decode(&["--summary"], &ALL.concat()).decoded();
    let expected = "\
bytes     118
messages
  SWITCHOVER_ACK             1
  PONG                       1
  REQ_PAGES_ID               1
  REQ_PAGES                  2
  RECV_BITMAP                1
  RESUME_ACK                 1
  SHUT                       1
";
    assert_eq!(counted, expected);
    let counted = decode(&["--summary", "--format", "json"], &ALL.concat()).decoded();
    let expected = concat!(
        r#"{"bytes":118,"messages":{"SWITCHOVER_ACK":1,"PONG":1,"REQ_PAGES_ID":1,"REQ_PAGES":2,"#,
        r#""RECV_BITMAP":1,"RESUME_ACK":1,"SHUT":1}}"#,
        "\n"
    );
    assert_eq!(counted, expected);
}

#[test]
fn prints_the_draft_dialect() {
    let draft = [
        &b"\0\x02\0\x04\0\0\0\x01"[..],
        b"\0\x03\0\x17\0\0\0\0\x03\x31\x60\0\0\0\0\0\0\0\x10\x01\x06pc.ram",
        b"\0\x03\0\x10\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x10\0",
        b"\0\x01\0\x04\0\0\0\x01",
    ]
    .concat();
    let text = "\
0x0000000000  PONG            value 1
0x0000000008  REQ_PAGES       start 0x3316000    len 4 KiB    page 13078     block pc.ram
0x0000000023  REQ_PAGES       start 0x1000       len 4 KiB    page 1         block (pc.ram)
0x0000000037  SHUT            value 1
";
    assert_eq!(decode(&["--dialect", "v7"], &draft).decoded(), text);
    let json = r#"{"offset":0,"message":"PONG","value":1}
{"offset":8,"message":"REQ_PAGES","start":53567488,"len":4096,"block":"pc.ram"}
{"offset":35,"message":"REQ_PAGES","start":4096,"len":4096}
{"offset":55,"message":"SHUT","value":1}
"#;
    assert_eq!(
        decode(&["--dialect", "v7", "--format", "json"], &draft).decoded(),
        json
    );
    assert_eq!(
        decode(&[], &draft).refused(1, "0x0000000000  PONG            value 1\n"),
        "retpath decode: standard input: offset 20 (0x14), REQ_PAGES_ID, field `len`: length is 0 [zero]; \
         if the recording follows the draft of 2015, try --dialect v7"
    );
}

#[test]
fn counts_pages_by_the_page_size_of_the_block() {
    let request = b"\0\x03\0\x13\0\0\0\0\0\x40\0\0\0\0\x10\0\x06pc.ram";
    let by_length = "0x0000000000  REQ_PAGES_ID    start 0x400000     len 4 KiB    page 1024      block pc.ram\n";
    let by_block = "0x0000000000  REQ_PAGES_ID    start 0x400000     len 4 KiB    page 2         block pc.ram\n";
    assert_eq!(decode(&[], request).decoded(), by_length);
    for size in ["pc.ram=2M", "pc.ram=2MiB", "pc.ram=2097152"] {
        let args = ["--block-page-size", "pc.bios=4K", "--block-page-size", size];
        assert_eq!(decode(&args, request).decoded(), by_block);
    }
    let twice = [
        "--block-page-size",
        "pc.ram=1G",
        "--block-page-size",
        "pc.ram=2M",
    ];
    assert_eq!(
        decode(&twice, request).decoded(),
        by_block,
        "the last one counts"
    );
}

#[test]
fn keeps_names_that_are_not_utf_8_or_not_printable() {
    let names = [
        &b"\0\x05\0\x06\x05pc\xff\xc3."[..],
        b"\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\x01\x23\x45\x67\x89\xab\xcd\xef",
        b"\0\x03\0\x14\0\0\0\0\0\0\0\0\0\0\x10\0\x07a\"\\\n\x1b\xc3\xa9",
    ]
    .concat();
    let json = r#"{"offset":0,"message":"RECV_BITMAP","block":{"hex":"7063ffc32e"},"bits":64,"received":0}
{"offset":34,"message":"REQ_PAGES_ID","start":0,"len":4096,"block":"a\"\\\n\u001bé"}
"#;
    assert_eq!(decode(&["--format", "json"], &names).decoded(), json);
    let text = "\
0x0000000000  RECV_BITMAP     block pc\\xff\\xc3.  bits 64  received 0
0x0000000022  REQ_PAGES_ID    start 0x0          len 4 KiB    page 0         block a\"\\\\\\n\\u{1b}é
";
    assert_eq!(decode(&[], &names).decoded(), text);
}

#[test]
fn decodes_every_byte_of_the_captures() {
    let plain = |pages: u32| {
        format!(r#""messages":{{"PONG":4,"REQ_PAGES_ID":1,"REQ_PAGES":{pages},"SHUT":1}}}}"#)
    };
    let cut = r#""messages":{"PONG":4,"REQ_PAGES_ID":1,"REQ_PAGES":10}}"#.to_owned();
    let resumed = |pages: u32| {
        format!(
            r#""messages":{{"RECV_BITMAP":6,"RESUME_ACK":1,"REQ_PAGES_ID":1,"REQ_PAGES":{pages},"SHUT":1}}}}"#
        )
    };
    let captures = [
        ("qemu-7.2-plain.ch0.rp", plain(56)),
        ("qemu-7.2-preempt.ch0.rp", plain(74)),
        ("qemu-7.2-recover.ch0.rp", cut.clone()),
        ("qemu-7.2-recover.ch1.rp", resumed(43)),
        ("qemu-10.0-plain.ch0.rp", plain(41)),
        ("qemu-10.0-preempt.ch0.rp", plain(1217)),
        ("qemu-10.0-recover.ch0.rp", cut),
        ("qemu-10.0-recover.ch1.rp", resumed(33)),
    ];
    for (name, messages) in captures {
        let path = capture(name);
        let bytes = std::fs::metadata(&path)
            .expect("the corpus has the capture")
            .len();
        let counted = decode_file(&["--summary", "--format", "json"], path).decoded();
        assert_eq!(
            counted,
            format!("{{\"bytes\":{bytes},{messages}\n"),
            "{name}"
        );
    }
}

#[test]
fn prints_a_recovery() {
    let text = decode_file(&[], capture("qemu-10.0-recover.ch1.rp")).decoded();
    let expected = "\
0x0000000000  RECV_BITMAP     block pc.ram  bits 4096  received 544
0x000000021b  RECV_BITMAP     block /rom@etc/acpi/tables  bits 64  received 0
0x000000024c  RECV_BITMAP     block pc.bios  bits 64  received 0
0x0000000270  RECV_BITMAP     block pc.rom  bits 64  received 0
0x0000000293  RECV_BITMAP     block /rom@etc/table-loader  bits 64  received 0
0x00000002c5  RECV_BITMAP     block /rom@etc/acpi/rsdp  bits 64  received 0
0x00000002f4  RESUME_ACK      value 1
0x00000002fc  REQ_PAGES_ID    start 0x2be000     len 4 KiB    page 702       block pc.ram
0x0000000313  REQ_PAGES       start 0x2da000     len 4 KiB    page 730       block (pc.ram)
";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.ends_with("\n0x0000000523  SHUT            value 0\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 42);
}
