//! Forward streams: main channel, resumed channel, preempt channel.

use retpath_cli::decode::{self, Format, Options, decode_slice};

use crate::pipes::Trickle;
use crate::stream::{END, START, SWITCH, page, part};
use crate::{capture_bytes, decode};

/// A small postcopy migration with one of everything.
fn migration() -> Vec<u8> {
    let first = [
        &0x1008_u64.to_be_bytes()[..],
        b"\x06pc.ram",
        &[1; 4096],
        &0x2022_u64.to_be_bytes(),
        b"\0",
    ];
    let second = [&page(0x1000, 2)[..], &0x8_0022_u64.to_be_bytes(), b"\0"];
    [
        START.concat(),
        part(&first.concat()),
        SWITCH.concat(),
        part(&second.concat()),
        END.concat(),
    ]
    .concat()
}

const TEXT: &str = "\
0x0000000000  HEADER                version 3
0x0000000008  CONFIGURATION         machine pc
0x000000000f  OPEN_RETURN_PATH
0x0000000014  PING                  value 1
0x000000001d  POSTCOPY_ADVISE       sizes 4 KiB, target page 4 KiB
0x0000000032  SECTION_START         section 2  name ram  instance 0  version 4
0x0000000043  MEM_SIZE              total 1 MiB
0x000000004b  BLOCK                 block pc.ram  len 1 MiB
0x000000005a  EOS
0x0000000062  SECTION_FOOTER        section 2  name (ram)
0x0000000067  SECTION_PART          section 2  name (ram)
0x000000006c  PAGE                  start 0x1000       page 1         block pc.ram
0x000000107b  ZERO                  start 0x2000       page 2         block pc.ram
0x0000001084  EOS
0x000000108c  SECTION_FOOTER        section 2  name (ram)
0x0000001091  POSTCOPY_RAM_DISCARD  version 0  block pc.ram  terminator 0  ranges 0x1000+8 KiB, 0x80000+4 KiB
0x00000010bf  PING                  value 2
0x00000010c8  PACKAGED              size 46 B
0x00000010d1    POSTCOPY_LISTEN
0x00000010d6    SECTION_FULL        section 7  name timer  instance 0  version 2
0x00000010e9    DEVICE_STATE        section 7  len 3 B      name (timer)
0x00000010ec    SECTION_FOOTER      section 7  name (timer)
0x00000010f1    PING                value 3
0x00000010fa    POSTCOPY_RUN
0x00000010ff  PACKAGE_END
0x00000010ff  PING                  value 4
0x0000001108  SECTION_PART          section 2  name (ram)
0x000000110d  PAGE                  start 0x1000       page 1         block pc.ram
0x0000002115  ZERO                  start 0x80000      page 128       block pc.ram
0x000000211e  EOS
0x0000002126  SECTION_FOOTER        section 2  name (ram)
0x000000212b  SECTION_END           section 2  name (ram)
0x0000002130  EOS
0x0000002138  SECTION_FOOTER        section 2  name (ram)
0x000000213d  EOF
";

const JSON: &str = r#"{"offset":0,"message":"HEADER","version":3}
{"offset":8,"message":"CONFIGURATION","machine":"pc"}
{"offset":15,"message":"OPEN_RETURN_PATH"}
{"offset":20,"message":"PING","value":1}
{"offset":29,"message":"POSTCOPY_ADVISE","sizes":{"summary":4096,"target":4096}}
{"offset":50,"message":"SECTION_START","section":2,"name":"ram","instance":0,"version":4}
{"offset":67,"message":"MEM_SIZE","total":1048576}
{"offset":75,"message":"BLOCK","block":"pc.ram","len":1048576}
{"offset":90,"message":"EOS"}
{"offset":98,"message":"SECTION_FOOTER","section":2}
{"offset":103,"message":"SECTION_PART","section":2}
{"offset":108,"message":"PAGE","start":4096,"block":"pc.ram"}
{"offset":4219,"message":"ZERO","start":8192,"block":"pc.ram"}
{"offset":4228,"message":"EOS"}
{"offset":4236,"message":"SECTION_FOOTER","section":2}
{"offset":4241,"message":"POSTCOPY_RAM_DISCARD","version":0,"block":"pc.ram","terminator":0,"ranges":[{"start":4096,"len":8192},{"start":524288,"len":4096}]}
{"offset":4287,"message":"PING","value":2}
{"offset":4296,"message":"PACKAGED","size":46}
{"offset":4305,"message":"POSTCOPY_LISTEN"}
{"offset":4310,"message":"SECTION_FULL","section":7,"name":"timer","instance":0,"version":2}
{"offset":4329,"message":"DEVICE_STATE","section":7,"len":3}
{"offset":4332,"message":"SECTION_FOOTER","section":7}
{"offset":4337,"message":"PING","value":3}
{"offset":4346,"message":"POSTCOPY_RUN"}
{"offset":4351,"message":"PACKAGE_END"}
{"offset":4351,"message":"PING","value":4}
{"offset":4360,"message":"SECTION_PART","section":2}
{"offset":4365,"message":"PAGE","start":4096,"block":"pc.ram"}
{"offset":8469,"message":"ZERO","start":524288,"block":"pc.ram"}
{"offset":8478,"message":"EOS"}
{"offset":8486,"message":"SECTION_FOOTER","section":2}
{"offset":8491,"message":"SECTION_END","section":2}
{"offset":8496,"message":"EOS"}
{"offset":8504,"message":"SECTION_FOOTER","section":2}
{"offset":8509,"message":"EOF"}
"#;

#[test]
fn prints_a_migration_as_text() {
    assert_eq!(decode(&[], &migration()).decoded(), TEXT);
}

#[test]
fn prints_a_migration_as_json() {
    assert_eq!(decode(&["--format", "json"], &migration()).decoded(), JSON);
}

const COUNTS: &str = "\
bytes     8510
sections                 START      PART       END      FULL     state
  2    ram                   1         2         1         0
  7    timer                 0         0         0         1       3 B
commands
  OPEN_RETURN_PATH             1
  PING                         4
  POSTCOPY_ADVISE              1
  POSTCOPY_RAM_DISCARD         1
  PACKAGED                     1
  POSTCOPY_LISTEN              1
  POSTCOPY_RUN                 1
RAM records                    all  after LISTEN
  MEM_SIZE                       1             0
  BLOCK                          1             0
  EOS                            4             2
  PAGE                           2             1
  ZERO                           2             1
RAM blocks               length  page size
  pc.ram                  1 MiB      4 KiB
";

const JSON_COUNTS: &str = concat!(
    r#"{"bytes":8510,"sections":[{"section":2,"name":"ram","SECTION_START":1,"SECTION_PART":2,"SECTION_END":1},{"section":7,"name":"timer","SECTION_FULL":1,"state":3}],"#,
    r#""commands":{"OPEN_RETURN_PATH":1,"PING":4,"POSTCOPY_ADVISE":1,"POSTCOPY_RAM_DISCARD":1,"PACKAGED":1,"POSTCOPY_LISTEN":1,"POSTCOPY_RUN":1},"#,
    r#""records":{"MEM_SIZE":1,"BLOCK":1,"EOS":4,"PAGE":2,"ZERO":2},"records_after_listen":{"PAGE":1,"ZERO":1,"EOS":2},"blocks":[{"block":"pc.ram","len":1048576,"page_size":4096}]}"#,
    "\n"
);

#[test]
fn counts_a_migration() {
    assert_eq!(decode(&["--summary"], &migration()).decoded(), COUNTS);
    let json = decode(&["--summary", "--format", "json"], &migration());
    assert_eq!(json.decoded(), JSON_COUNTS);
}

/// The summary of a capture, which must be whole.
#[track_caller]
fn summary(name: &str, kind: &str) -> serde_json::Value {
    let bytes = capture_bytes(name);
    let ran = decode(&["--kind", kind, "--summary", "--format", "json"], &bytes);
    let summary: serde_json::Value = ran.decoded().parse().expect("one object");
    assert_eq!(
        summary["bytes"],
        bytes.len(),
        "no byte of {name} is unexplained"
    );
    summary
}

#[test]
fn decodes_every_byte_of_the_captures() {
    let pages = |name: &str, kind: &str| {
        let summary = summary(name, kind);
        let after = &summary["records_after_listen"];
        (
            after["PAGE"].as_u64().unwrap_or(0),
            after["ZERO"].as_u64().unwrap_or(0),
        )
    };
    // Pages after the switch: full ones, zero ones.
    assert_eq!(pages("qemu-7.2-plain.ch0.fwd", "auto"), (1359, 2611));
    assert_eq!(pages("qemu-7.2-preempt.ch0.fwd", "forward"), (1311, 2611));
    assert_eq!(pages("qemu-7.2-preempt.ch1.fwd", "preempt"), (48, 0));
    assert_eq!(pages("qemu-7.2-recover.ch1.fwd", "resumed"), (1133, 145));
    assert_eq!(pages("qemu-10.0-plain.ch0.fwd", "auto"), (1362, 2608));
    assert_eq!(pages("qemu-10.0-preempt.ch0.fwd", "auto"), (146, 2608));
    assert_eq!(pages("qemu-10.0-preempt.ch1.fwd", "preempt"), (1216, 0));
    assert_eq!(pages("qemu-10.0-recover.ch1.fwd", "resumed"), (1074, 2608));
}

#[test]
fn counts_sections_commands_records_and_blocks() {
    let summary = summary("qemu-7.2-plain.ch0.fwd", "auto");
    assert_eq!(
        summary["commands"],
        serde_json::json!({
            "OPEN_RETURN_PATH": 1, "PING": 4, "POSTCOPY_ADVISE": 1, "POSTCOPY_RAM_DISCARD": 6,
            "PACKAGED": 1, "POSTCOPY_LISTEN": 1, "POSTCOPY_RUN": 1,
        })
    );
    assert_eq!(
        summary["records"],
        serde_json::json!({ "MEM_SIZE": 1, "BLOCK": 6, "EOS": 68, "PAGE": 1479, "ZERO": 2834 })
    );
    assert_eq!(
        summary["records_after_listen"],
        serde_json::json!({ "PAGE": 1359, "ZERO": 2611, "EOS": 52 })
    );
    let block = |name, len| serde_json::json!({ "block": name, "len": len, "page_size": 4096 });
    assert_eq!(
        summary["blocks"],
        serde_json::json!([
            block("pc.ram", 16 << 20),
            block("/rom@etc/acpi/tables", 128 << 10),
            block("pc.bios", 256 << 10),
            block("pc.rom", 128 << 10),
            block("/rom@etc/table-loader", 4096),
            block("/rom@etc/acpi/rsdp", 4096),
        ])
    );
    let sections = summary["sections"].as_array().expect("a list");
    assert_eq!(
        sections[0],
        serde_json::json!({
            "section": 2, "name": "ram", "SECTION_START": 1, "SECTION_PART": 66, "SECTION_END": 1,
        })
    );
    let devices = &sections[1..];
    assert_eq!(devices.len(), 31);
    assert!(devices.iter().all(|device| device["SECTION_FULL"] == 1));
}

#[test]
fn prints_what_was_sent_before_a_link_broke() {
    for (name, records) in [
        (
            "qemu-7.2-recover.ch0.fwd",
            r#""records_after_listen":{"PAGE":226,"EOS":9,"ZERO":2466}"#,
        ),
        (
            "qemu-10.0-recover.ch0.fwd",
            r#""records_after_listen":{"PAGE":288,"EOS":9}"#,
        ),
    ] {
        let ran = decode(&["--summary", "--format", "json"], &capture_bytes(name));
        assert!(ran.stdout.contains(records), "{}", ran.stdout);
        let report = ran.stdout.clone();
        let line = ran.refused(1, &report);
        assert!(line.ends_with("[cut-short]"), "{line}");
    }
}

#[test]
fn prints_the_same_however_the_input_is_split() {
    let bytes = capture_bytes("qemu-7.2-plain.ch0.fwd");
    let bytes = &bytes[..600_000];
    for format in [Format::Json, Format::Text] {
        let options = Options {
            format,
            ..Options::default()
        };
        let (whole, verdict) = decode_slice(&options, bytes);
        for step in [1, 5, 4095, 4104, 65_536] {
            let mut out = Vec::new();
            let mut input = Trickle(bytes, step);
            let split = decode::decode(&options, &mut input, &mut out, &mut |_| {});
            assert!(out == whole, "in steps of {step}");
            assert_eq!(format!("{split:?}"), format!("{verdict:?}"));
        }
    }
}

#[test]
fn refuses_every_prefix_of_a_migration() {
    let migration = migration();
    let (whole, verdict) = decode_slice(&Options::default(), &migration);
    verdict.expect("the whole is whole");
    for cut in 1..migration.len() {
        let (report, verdict) = decode_slice(&Options::default(), &migration[..cut]);
        assert!(verdict.is_err(), "cut at {cut}");
        let lines = report.iter().filter(|byte| **byte == b'\n').count();
        let mut whole = whole.split_inclusive(|byte| *byte == b'\n');
        for (at, line) in report.split_inclusive(|byte| *byte == b'\n').enumerate() {
            // Device state that is cut short has its line, with what is there.
            let full = whole.next().expect("no line is invented");
            assert!(
                line == full
                    || at + 1 == lines && line.windows(12).any(|word| word == b"DEVICE_STATE")
            );
        }
    }
}

#[test]
fn refuses_recordings_that_are_not_forward_streams() {
    let cases: [(&str, &[u8]); 4] = [
        ("forward", b"\0\x02\0\x04\0\0\0\x01"),
        ("forward", b"\x08\0\x0a\0\x07\x06pc.ram"),
        ("resumed", b"QEVM\0\0\0\x03"),
        ("preempt", b"QEVM\0\0\0\x03"),
    ];
    let tries = ["return-path", "resumed", "forward", "forward"];
    for ((kind, input), other) in cases.into_iter().zip(tries) {
        let line = decode(&["--kind", kind], input).refused(1, "");
        assert!(line.ends_with(&format!("--kind {other}")), "{line}");
    }
    let line = decode(&[], b"QEVM").refused(1, "");
    assert!(line.ends_with("[cut-short]"), "{line}");
    let line = decode(&[], b"QEVM\0\0\0\x02").refused(1, "");
    assert_eq!(
        line,
        "retpath decode: standard input: offset 4 (0x4), HEADER, field `version`: is 2, must be 3 [value]"
    );
}
