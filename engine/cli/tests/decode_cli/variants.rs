//! Forward streams that are not among the captures: precopy, subsections, huge pages, old machine
//! types, records of old releases.

use crate::stream::{END, START, part};
use std::path::PathBuf;

use retpath_cli::decode::{self, Dialect, Kind, Options, decode_slice};

use crate::pipes::Trickle;
use crate::{corpus, decode, decode_file};

const HEADER: &[u8] = b"QEVM\0\0\0\x03";
const EOS: &[u8] = b"\0\0\0\0\0\0\0\x10";

/// The lines of a report, without their offsets.
#[track_caller]
fn lines(input: &[u8], args: &[&str]) -> Vec<String> {
    let report = decode(args, input).decoded();
    report.lines().map(|line| line[14..].to_owned()).collect()
}

#[test]
fn prints_a_precopy_migration_with_its_description() {
    let migration = [
        HEADER,
        b"\x07\0\0\0\x02pc",
        b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04",
        b"\0\0\0\0\0\0\x10\x04\x06pc.ram\0\0\0\0\0\0\x10\0",
        EOS,
        b"\x7e\0\0\0\x02",
        b"\x03\0\0\0\x02\0\0\0\0\0\0\0\x02\x06pc.ram\0",
        EOS,
        b"\x7e\0\0\0\x02",
        b"\x04\0\0\0\x07\x05timer\0\0\0\x01\0\0\0\x02\x01\x02\x03\x7e\0\0\0\x07",
        b"\0",
        b"\x06\0\0\0\x0e{\"devices\":[]}",
    ]
    .concat();
    let expected = [
        "HEADER                version 3",
        "CONFIGURATION         machine pc",
        "SECTION_START         section 2  name ram  instance 0  version 4",
        "MEM_SIZE              total 4 KiB",
        "BLOCK                 block pc.ram  len 4 KiB",
        "EOS",
        "SECTION_FOOTER        section 2  name (ram)",
        "SECTION_END           section 2  name (ram)",
        "ZERO                  start 0x0          page 0         block pc.ram",
        "EOS",
        "SECTION_FOOTER        section 2  name (ram)",
        "SECTION_FULL          section 7  name timer  instance 1  version 2",
        "DEVICE_STATE          section 7  len 3 B      name (timer)",
        "SECTION_FOOTER        section 7  name (timer)",
        "EOF",
        "VMDESCRIPTION         len 14 B",
    ];
    assert_eq!(lines(&migration, &[]), expected);
    let json = decode(&["--format", "json"], &migration).decoded();
    assert!(
        json.ends_with("\"message\":\"VMDESCRIPTION\",\"len\":14}\n"),
        "{json}"
    );
    // The description may be missing.
    let without = &migration[..migration.len() - 19];
    assert_eq!(lines(without, &[]), expected[..15]);
}

#[test]
fn prints_subsections_of_the_configuration() {
    let start = [
        HEADER,
        b"\x07\0\0\0\x04virt",
        b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c",
        b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0fx-ignore-shared",
        b"\x05\x12configuration/uuid\0\0\0\x010123456789abcdef",
    ]
    .concat();
    let report = decode(&["--format", "json"], &start).stdout;
    let expected = r#"{"offset":0,"message":"HEADER","version":3}
{"offset":8,"message":"CONFIGURATION","machine":"virt"}
{"offset":17,"message":"SUBSECTION","name":"configuration/target-page-bits","bits":12}
{"offset":57,"message":"SUBSECTION","name":"configuration/capabilities","capabilities":["x-ignore-shared"]}
{"offset":109,"message":"SUBSECTION","name":"configuration/uuid","uuid":"30313233343536373839616263646566"}
"#;
    assert_eq!(report, expected);
    let text = decode(&[], &start).stdout;
    assert!(
        text.contains("name configuration/target-page-bits  bits 12\n"),
        "{text}"
    );
    assert!(text.contains("capabilities x-ignore-shared\n"), "{text}");
}

/// The start of a postcopy migration with `pc.ram` on pages of 2 MiB.
fn huge() -> Vec<u8> {
    [
        HEADER,
        b"\x07\0\0\0\x02pc",
        b"\x08\0\x03\0\x10\0\0\0\0\0\x20\x10\0\0\0\0\0\0\0\x10\0",
        b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04",
        b"\0\0\0\0\0\x40\x10\x04",
        b"\x06pc.ram\0\0\0\0\0\x40\0\0\0\0\0\0\0\x20\0\0",
        b"\x07pc.bios\0\0\0\0\0\0\x10\0",
        EOS,
        b"\x7e\0\0\0\x02",
        &part(b"\0\0\0\0\0\x20\x10\x02\x06pc.ram\0"),
        &END.concat(),
    ]
    .concat()
}

#[test]
fn counts_pages_of_blocks_on_huge_pages() {
    for args in [&[][..], &["--block-page-size", "pc.ram=2M"]] {
        let lines = lines(&huge(), args);
        assert_eq!(
            lines[2],
            "POSTCOPY_ADVISE       sizes 4 KiB | 2 MiB, target page 4 KiB"
        );
        assert_eq!(
            lines[5],
            "BLOCK                 block pc.ram  len 4 MiB    page_size 2 MiB"
        );
        assert_eq!(lines[6], "BLOCK                 block pc.bios  len 4 KiB");
        assert_eq!(
            lines[10],
            "ZERO                  start 0x201000     page 1+0x1000  block pc.ram"
        );
    }
    let summary = decode(&["--summary", "--format", "json"], &huge()).decoded();
    let blocks = r#""blocks":[{"block":"pc.ram","len":4194304,"page_size":2097152},{"block":"pc.bios","len":4096,"page_size":4096}]}"#;
    assert!(summary.contains(blocks), "{summary}");
}

#[test]
fn refuses_a_stream_that_contradicts_the_page_size_given() {
    let ran = decode(&["--block-page-size", "pc.ram=1G"], &huge());
    let report = ran.stdout.clone();
    let line = ran.refused(1, &report);
    assert!(line.contains("BLOCK, field `page_size`"), "{line}");
    assert!(
        line.ends_with("--block-page-size gives another size"),
        "{line}"
    );
}

#[test]
fn prints_records_of_old_releases() {
    let records = [
        &b"\0\0\0\0\0\0\0\x40\x06pc.ram\x01\0\x03abc"[..],
        b"\0\0\0\0\0\0\x11\x20\0\0\0\x04zlib",
        b"\0\0\0\0\0\0\x02\0",
    ];
    let stream = [
        HEADER,
        b"\x07\0\0\0\x02pc",
        b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04",
        b"\0\0\0\0\0\0\x20\x04\x06pc.ram\0\0\0\0\0\0\x20\0",
        EOS,
        b"\x7e\0\0\0\x02",
        &part(&records.concat()),
        &END.concat(),
    ]
    .concat();
    let expected = [
        "XBZRLE                start 0x0          page 0         block pc.ram  len 3 B",
        "COMPRESS_PAGE         start 0x1000       page 1         block pc.ram  len 4 B",
        "MULTIFD_FLUSH",
    ];
    assert_eq!(lines(&stream, &[])[8..11], expected);
}

#[test]
fn prints_a_machine_type_without_configuration_and_footers() {
    let stream = [
        HEADER,
        b"\x08\0\x01\0\0",
        b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04",
        b"\0\0\0\0\0\0\x20\x04\x06pc.ram\0\0\0\0\0\0\x20\0",
        EOS,
        b"\x03\0\0\0\x02",
        EOS,
        b"\0",
    ]
    .concat();
    let expected = [
        "HEADER                version 3",
        "OPEN_RETURN_PATH",
        "SECTION_START         section 2  name ram  instance 0  version 4",
        "MEM_SIZE              total 8 KiB",
        "BLOCK                 block pc.ram  len 8 KiB",
        "EOS",
        "SECTION_END           section 2  name (ram)",
        "EOS",
        "EOF",
    ];
    assert_eq!(lines(&stream, &[]), expected);
}

#[test]
fn prints_a_resumed_channel_and_a_preempt_channel() {
    let resumed = [
        &b"\x08\0\x0a\0\x07\x06pc.ram"[..],
        b"\x08\0\x09\0\0",
        b"\x02\0\0\0\x02\0\0\0\0\0\0\x10\x02\x06pc.ram\0",
        EOS,
        b"\x7e\0\0\0\x02",
        &END.concat(),
    ]
    .concat();
    let expected = [
        "RECV_BITMAP           block pc.ram",
        "POSTCOPY_RESUME",
        "SECTION_PART          section 2",
        "ZERO                  start 0x1000       page 1         block pc.ram",
        "EOS",
        "SECTION_FOOTER        section 2",
        "SECTION_END           section 2",
        "EOS",
        "SECTION_FOOTER        section 2",
        "EOF",
    ];
    assert_eq!(lines(&resumed, &["--kind", "resumed"]), expected);
    let preempt = [
        &b"\0\0\0\0\0\x20\0\x02\x06pc.ram\0"[..],
        b"\0\0\0\0\0\x20\x10\x22\0",
    ]
    .concat();
    let expected = [
        "ZERO                  start 0x200000     page 1         block pc.ram",
        "ZERO                  start 0x201000     page 1+0x1000  block pc.ram",
    ];
    let args = ["--kind", "preempt", "--block-page-size", "pc.ram=2M"];
    assert_eq!(lines(&preempt, &args), expected);
}

#[test]
fn names_offset_message_field_and_rule() {
    let start = START.concat();
    let report = decode(&[], &start).stdout;
    let line = decode(&[], &[&start[..], b"\x08\0\x0c\0\0"].concat()).refused(1, &report);
    assert_eq!(
        line,
        "retpath decode: standard input: offset 104 (0x68): unknown message number 12 (0x000c) [unknown]"
    );
}

/// The whole recordings of the seed corpus, and how to decode them.
fn seeds() -> Vec<(PathBuf, Vec<&'static str>)> {
    let mut seeds = Vec::new();
    for (folder, args) in [
        ("qemu", &[][..]),
        ("v7", &["--dialect", "v7"]),
        ("forward", &[]),
        ("ram", &["--kind", "preempt"]),
    ] {
        let folder = corpus("seed").join(folder);
        for entry in std::fs::read_dir(folder).expect("the corpus has it") {
            let path = entry.expect("it can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.expect("names are ASCII");
            // Single records may mean a block that is named elsewhere.
            if name.ends_with(".ram") && !name.starts_with("preempt") {
                continue;
            }
            let is_resumed = name.starts_with("resumed");
            let args = if is_resumed {
                &["--kind", "resumed"]
            } else {
                args
            };
            seeds.push((path, args.to_vec()));
        }
    }
    assert!(seeds.len() > 30, "the corpus is there");
    seeds
}

#[test]
fn decodes_the_seed_corpus() {
    for (path, mut args) in seeds() {
        let bytes = std::fs::metadata(&path).expect("it is there").len();
        args.push("--summary");
        let summary = decode_file(&args, &path).decoded();
        assert!(
            summary.starts_with(&format!("bytes     {bytes}\n")),
            "{path:?}"
        );
    }
}

#[test]
fn prints_the_same_however_a_damaged_recording_is_split() {
    for (path, args) in seeds() {
        let mut options = Options::default();
        match args[..] {
            ["--dialect", _] => options.dialect = Dialect::V7,
            ["--kind", "resumed"] => options.kind = Kind::Resumed,
            ["--kind", _] => options.kind = Kind::Preempt,
            _ => {}
        }
        let sound = std::fs::read(&path).expect("it is there");
        // Beyond that there are only pages.
        for at in 0..sound.len().min(512) {
            for change in [0x01, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] ^= change;
                let (whole, verdict) = decode_slice(&options, &bytes);
                let mut out = Vec::new();
                let mut input = Trickle(&bytes, 13);
                let split = decode::decode(&options, &mut input, &mut out, &mut |_| {});
                assert!(out == whole, "{path:?}, byte {at} ^ {change:#x}");
                assert_eq!(
                    format!("{split:?}"),
                    format!("{verdict:?}"),
                    "{path:?}, byte {at}"
                );
            }
        }
    }
}
