//! Defects of the header, the configuration and the sections.

use retpath_codec::Rule;
use retpath_codec::command::Command;
use retpath_codec::forward::{Decoder, Options, SectionKind};

use crate::kit::{Stream, error, fresh, refuse, refuse_with};

const FULL: SectionKind = SectionKind::Full;
const START: SectionKind = SectionKind::Start;

fn subsection(name: &[u8], version: u32, fields: &[u8]) -> Vec<u8> {
    let mut out = vec![5, u8::try_from(name.len()).unwrap()];
    out.extend(name);
    out.extend(version.to_be_bytes());
    out.extend(fields);
    out
}

#[test]
fn refuses_a_wrong_magic() {
    let got = u32::from_be_bytes(*b"RIFF");
    refuse(&Stream::default(), b"RIFF", Rule::Magic { got }, 0);
}

#[test]
fn refuses_a_wrong_version() {
    let rule = Rule::Value { got: 2, want: 3 };
    refuse(&Stream::default(), b"QEVM\0\0\0\x02", rule, 4);
}

#[test]
fn refuses_an_empty_or_too_long_machine_type() {
    let header = Stream(b"QEVM\0\0\0\x03".to_vec());
    refuse(&header, [7, 0, 0, 0, 0], Rule::Zero, 1);
    let (got, limit) = (256, 255);
    refuse(&header, [7, 0, 0, 1, 0], Rule::Limit { got, limit }, 1);
}

#[test]
fn refuses_a_second_configuration() {
    let rule = Rule::SectionType { byte: 7 };
    refuse(&Stream::configured(), [7], rule, 0);
}

#[test]
fn refuses_defects_in_subsections() {
    let start = Stream::configured();
    let unknown = subsection(b"configuration/new", 1, &[]);
    refuse(&start, &unknown, Rule::UnknownSubsection, 2);

    let uuid = b"configuration/uuid";
    let (got, want) = (2, 1);
    let version = subsection(uuid, 2, &[0; 16]);
    refuse(&start, &version, Rule::Value { got, want }, 20);
    let once = start.clone().raw(subsection(uuid, 1, &[0; 16]));
    refuse(&once, subsection(uuid, 1, &[0; 16]), Rule::Repeated, 2);

    let bits = b"configuration/target-page-bits";
    for (bits_value, size) in [(9, 512), (17, 1 << 17), (64, 0), (u32::MAX, 0)] {
        let wrong = subsection(bits, 1, &bits_value.to_be_bytes());
        refuse(&start, &wrong, Rule::TargetPage { size }, 36);
    }

    let names = b"configuration/capabilities";
    let (got, limit) = (65, 64);
    let many = subsection(names, 1, &65_u32.to_be_bytes());
    refuse(&start, &many, Rule::Limit { got, limit }, 32);
    let new = subsection(names, 1, b"\0\0\0\x01\x03new");
    refuse(&start, &new, Rule::UnknownCapability, 37);
}

#[test]
fn refuses_a_subsection_elsewhere() {
    let start = Stream::advised();
    let rule = Rule::SectionType { byte: 5 };
    refuse(
        &start,
        subsection(b"configuration/uuid", 1, &[0; 16]),
        rule,
        0,
    );
}

#[test]
fn refuses_unknown_section_types() {
    for byte in [0x06, 0x09, 0x7e, 0x7f, 0xff] {
        refuse(&Stream::listed(), [byte], Rule::SectionType { byte }, 0);
    }
}

#[test]
fn refuses_parts_of_unknown_sections() {
    let id = 2;
    refuse(
        &Stream::listed(),
        Stream::default().part(id),
        Rule::UnknownSection { id },
        1,
    );
    refuse(
        &Stream::listed(),
        Stream::default().end(id),
        Rule::UnknownSection { id },
        1,
    );
    // Nor before the first section.
    refuse(
        &Stream::advised(),
        Stream::default().part(id),
        Rule::UnknownSection { id },
        1,
    );
    // The section of a device has one part.
    let device = Stream::listed().device(id, b"cpu", []).part(1).eos(1);
    let rule = Rule::UnknownSection { id };
    refuse(&device, Stream::default().part(id), rule, 1);
}

#[test]
fn refuses_a_section_id_that_is_in_use() {
    let id = 1;
    let rule = Rule::SectionTwice { id };
    refuse(
        &Stream::listed(),
        Stream::default().head(FULL, id, b"cpu"),
        rule,
        1,
    );
    refuse(
        &Stream::listed(),
        Stream::default().head(START, id, b"ram"),
        rule,
        1,
    );
}

#[test]
fn refuses_ram_twice_or_in_section_full() {
    let again = Stream::default().head(START, 2, b"ram");
    refuse(&Stream::listed(), again, Rule::Repeated, 6);
    let state = "in SECTION_FULL";
    let full = Stream::default().head(FULL, 2, b"ram");
    refuse(&Stream::advised(), full, Rule::Illegal { state }, 6);
}

#[test]
fn refuses_a_section_without_a_name() {
    refuse(&Stream::listed(), [4, 0, 0, 0, 9, 0], Rule::Zero, 5);
}

#[test]
fn refuses_a_wrong_version_or_instance_of_ram() {
    let (got, want) = (3, 4);
    let version = b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x03";
    refuse(&Stream::advised(), version, Rule::Value { got, want }, 13);
    let (got, want) = (1, 0);
    let instance = b"\x01\0\0\0\x01\x03ram\0\0\0\x01\0\0\0\x04";
    refuse(&Stream::advised(), instance, Rule::Value { got, want }, 9);
}

#[test]
fn refuses_a_second_end_of_a_section() {
    let ended = Stream::listed().end(1).eos(1);
    let rule = Rule::SectionEnded { id: 1 };
    refuse(&ended, Stream::default().part(1), rule, 1);
    refuse(&ended, Stream::default().end(1), rule, 1);
}

#[test]
fn refuses_a_footer_of_another_section() {
    let start = Stream::listed().part(1).word(0x10);
    let (got, want) = (2, 1);
    refuse(
        &start,
        Stream::default().footer(2),
        Rule::Value { got, want },
        1,
    );
}

#[test]
fn refuses_a_missing_footer_after_the_first() {
    let start = Stream::listed().part(1).word(0x10);
    let rule = Rule::NoFooter { got: 3 };
    refuse(&start, Stream::default().end(1), rule, 0);
}

#[test]
fn refuses_a_footer_after_a_section_without_one() {
    let start = old_machine().part(1).word(0x10);
    let rule = Rule::SectionType { byte: 0x7e };
    refuse(&start, Stream::default().footer(1), rule, 0);
}

/// A stream without configuration and footers, up to the block list.
fn old_machine() -> Stream {
    let header = Stream(b"QEVM\0\0\0\x03".to_vec());
    let list = header.list();
    let size = list.0.len() - 5;
    Stream(list.0[..size].to_vec())
}

#[test]
fn refuses_sections_that_cannot_be_skipped() {
    let id = 2;
    let rule = Rule::Unskippable { id };
    for name in [
        &b"block"[..],
        b"0000:00:02.0/vfio",
        b"spapr/htab",
        b"s390-stattrib",
    ] {
        let head = Stream::default().head(START, id, name);
        let at = u64::try_from(head.0.len()).unwrap();
        let mut decoder = fresh();
        refuse(&Stream::listed(), &head, rule, at);
        let all = Stream::listed().raw(&head);
        let _ = error(&mut decoder, &all.0);
        assert_eq!(decoder.section(id), Some(name));
    }
    let bitmap = Stream::listed().head(START, id, b"dirty-bitmap");
    refuse(&bitmap, [0x02], rule, 0);
}

#[test]
fn refuses_sections_out_of_turn() {
    let after = |state| Rule::OutOfTurn { state };
    let late = after("after POSTCOPY_RUN");
    for kind in [START, FULL] {
        let new = Stream::default().head(kind, 9, b"cpu");
        refuse(&Stream::switched(), new, late, 0);
    }
    let open = |package: &Stream| {
        Stream::discarded()
            .command(Command::Packaged { size: 99 })
            .raw(package)
    };
    let early = after("after POSTCOPY_RAM_DISCARD");
    refuse(
        &open(&Stream::default()),
        Stream::default().head(FULL, 9, b"cpu"),
        early,
        0,
    );
    let listening = Stream::default().listen();
    for piece in [
        Stream::default().head(START, 9, b"cpu"),
        Stream::default().part(1),
        Stream::default().end(1),
        Stream::default().eof(),
    ] {
        refuse(&open(&listening), piece, Rule::InPackage, 0);
    }
}

#[test]
fn refuses_eof_during_the_switch() {
    let state = "after POSTCOPY_RAM_DISCARD";
    refuse(&Stream::discarded(), [0], Rule::OutOfTurn { state }, 0);
}

#[test]
fn refuses_bytes_after_the_end() {
    let precopy = Stream::listed().end(1).eos(1).eof();
    refuse(&precopy, [0], Rule::AfterEnd, 0);
    refuse(&precopy.description(b"{}"), [6], Rule::AfterEnd, 0);
    let postcopy = Stream::switched().end(1).eos(1).eof();
    refuse(&postcopy, [6], Rule::AfterEnd, 0);
}

#[test]
fn refuses_numbers_over_the_limits_of_the_options() {
    let with = |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        Decoder::new(options)
    };
    let precopy = Stream::listed().end(1).eos(1).eof();
    let (got, limit) = (9, 8);
    refuse_with(
        with(|o| o.max_description = 8),
        &precopy,
        [6, 0, 0, 0, 9],
        Rule::Limit { got, limit },
        1,
    );
    let (got, limit) = (2, 1);
    let device = Stream::default().head(FULL, 9, b"cpu");
    refuse_with(
        with(|o| o.max_sections = 1),
        &Stream::listed(),
        device,
        Rule::Limit { got, limit },
        1,
    );
    let (got, limit) = (19, 18);
    let package = Stream::default().command(Command::Packaged { size: 19 });
    refuse_with(
        with(|o| o.max_package = 18),
        &Stream::discarded(),
        package,
        Rule::Limit { got, limit },
        5,
    );
    assert!(!Rule::Limit { got, limit }.is_peer_fault());
}

#[test]
fn refuses_invalid_options() {
    let with = |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        Decoder::new(options).next(&[]).unwrap_err().rule
    };
    for size in [0, 512, 4097, 1 << 17] {
        assert_eq!(
            Decoder::new(Options::default().target_page(size))
                .next(&[])
                .unwrap_err()
                .rule,
            Rule::TargetPage { size }
        );
    }
    assert_eq!(with(|o| o.host_page = 0), Rule::HostPage { size: 0 });
    let name = |o: &mut Options| {
        let name = retpath_codec::NameBuf::new("pc.ram").unwrap();
        o.page_sizes = vec![(name, 3)];
    };
    assert_eq!(with(name), Rule::HostPage { size: 3 });
}
