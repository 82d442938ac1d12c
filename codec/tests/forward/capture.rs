//! Recordings of real QEMU decode completely and encode to the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use retpath_codec::Rule;
use retpath_codec::forward::ram::Record;
use retpath_codec::forward::{Decoder, Event};

use crate::kit::{drain, fresh};

/// A recording; see corpus/README.md.
pub(crate) fn capture(name: &str) -> Vec<u8> {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/capture");
    let path = captures.join(name);
    let packed = captures.join(format!("{name}.gz"));
    let mut bytes = Vec::new();
    if packed.exists() {
        let file = fs::File::open(&packed).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_end(&mut bytes)
            .unwrap();
    } else {
        bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    bytes
}

/// Counts events by name; RAM records after LISTEN are counted separately.
fn counts(decoder: &mut Decoder, bytes: &[u8]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut written = Vec::new();
    let left = drain(decoder, bytes, |decoder, _, event| {
        let label = match event {
            Event::Record(_) if decoder.is_listening() => format!("late {}", event.label()),
            _ => event.label().into(),
        };
        *counts.entry(label).or_default() += 1;
        event.encode(decoder.blocks(), &mut written).unwrap();
    });
    assert_eq!(left.unwrap(), b"", "unexplained bytes");
    assert!(written == bytes, "other bytes than were read");
    counts
}

fn expect(counts: &BTreeMap<String, u64>, wanted: &[(&str, u64)]) {
    let wanted: BTreeMap<String, u64> = wanted.iter().map(|&(k, v)| (k.into(), v)).collect();
    assert_eq!(counts, &wanted);
}

#[test]
fn qemu_7_2_plain() {
    let mut decoder = fresh();
    let counts = counts(&mut decoder, &capture("qemu-7.2-plain.ch0.fwd"));
    decoder.finish(&[]).unwrap();
    expect(
        &counts,
        &[
            ("HEADER", 1),
            ("CONFIGURATION", 1),
            ("OPEN_RETURN_PATH", 1),
            ("PING", 4),
            ("POSTCOPY_ADVISE", 1),
            ("SECTION_START", 1),
            ("MEM_SIZE", 1),
            ("BLOCK", 6),
            ("PAGE", 120),
            ("ZERO", 223),
            ("EOS", 16),
            ("POSTCOPY_RAM_DISCARD", 6),
            ("PACKAGED", 1),
            ("POSTCOPY_LISTEN", 1),
            ("SECTION_FULL", 31),
            ("DEVICE_STATE", 31),
            ("POSTCOPY_RUN", 1),
            ("PACKAGE_END", 1),
            ("SECTION_PART", 66),
            ("late PAGE", 1359),
            ("late ZERO", 2611),
            ("late EOS", 52),
            ("SECTION_END", 1),
            ("SECTION_FOOTER", 99),
            ("EOF", 1),
        ],
    );
    assert_eq!(1359 + 2611, 3970);
}

#[test]
fn qemu_10_0_plain() {
    let mut decoder = fresh();
    let counts = counts(&mut decoder, &capture("qemu-10.0-plain.ch0.fwd"));
    decoder.finish(&[]).unwrap();
    expect(
        &counts,
        &[
            ("HEADER", 1),
            ("CONFIGURATION", 1),
            ("OPEN_RETURN_PATH", 1),
            ("PING", 4),
            ("POSTCOPY_ADVISE", 1),
            ("SECTION_START", 1),
            ("MEM_SIZE", 1),
            ("BLOCK", 6),
            ("PAGE", 480),
            ("ZERO", 223),
            ("EOS", 16),
            ("SWITCHOVER_START", 1),
            ("POSTCOPY_RAM_DISCARD", 6),
            ("PACKAGED", 1),
            ("POSTCOPY_LISTEN", 1),
            ("SECTION_FULL", 31),
            ("DEVICE_STATE", 31),
            ("POSTCOPY_RUN", 1),
            ("PACKAGE_END", 1),
            ("SECTION_PART", 57),
            ("late PAGE", 1362),
            ("late ZERO", 2608),
            ("late EOS", 43),
            ("SECTION_END", 1),
            ("SECTION_FOOTER", 90),
            ("EOF", 1),
        ],
    );
}

/// Checks both channels of a recording with a preempt channel. `main` counts late pages, late zero
/// pages and footers of the main channel; `urgent` the items of the other one, and `named` those of
/// them that name their block.
fn preempt(version: &str, main: [u64; 3], urgent: &[(&str, u64)], named: u64) {
    let mut decoder = fresh();
    let file = |channel| capture(&format!("{version}-preempt.ch{channel}.fwd"));
    let counted = counts(&mut decoder, &file(0));
    decoder.finish(&[]).unwrap();
    let kinds = ["late PAGE", "late ZERO", "SECTION_FOOTER"];
    assert_eq!(kinds.map(|kind| counted[kind]), main);

    let bytes = file(1);
    for mut decoder in [
        decoder.preempt(),
        Decoder::blind_preempt(Default::default()),
    ] {
        let counted = counts(&mut decoder, &bytes);
        decoder.finish(&[]).unwrap();
        expect(&counted, urgent);
        let mut count = 0;
        drain(&mut decoder.preempt(), &bytes, |_, _, event| {
            count += u64::from(is_named(event));
        })
        .unwrap();
        assert_eq!(count, named);
    }
}

#[test]
fn qemu_7_2_preempt() {
    // The preempt channel names the block in every record, and ends with EOS.
    let urgent = [("late PAGE", 48), ("late EOS", 1)];
    preempt("qemu-7.2", [1311, 2611, 97], &urgent, 48);
    assert_eq!(1311 + 48, 1359);
}

#[test]
fn qemu_10_0_preempt() {
    // Only the first record of the preempt channel contains the block name; the channel ends
    // without EOS.
    preempt("qemu-10.0", [146, 2608, 52], &[("late PAGE", 1216)], 1);
    assert_eq!(146 + 1216, 1362);
}

fn is_named(event: Event<'_>) -> bool {
    matches!(
        event,
        Event::Record(Record::Page { named: true, .. } | Record::Zero { named: true, .. })
    )
}

#[test]
fn qemu_7_2_recover() {
    recover("qemu-7.2-recover", 226, 2466, 1133, 145);
    // Each discarded page was sent; pages in flight at the cut were sent twice.
    assert_eq!(226 + 1133, 1359);
    assert_eq!(2466 + 145, 2611);
}

#[test]
fn qemu_10_0_recover() {
    recover("qemu-10.0-recover", 288, 0, 1074, 2608);
    assert_eq!(288 + 1074, 1362);
}

fn recover(name: &str, pages: u64, zeros: u64, later_pages: u64, later_zeros: u64) {
    let bytes = capture(&format!("{name}.ch0.fwd"));
    let mut first = fresh();
    let cut = counts(&mut first, &bytes);
    assert_eq!(cut["late PAGE"], pages);
    assert_eq!(cut.get("late ZERO").copied().unwrap_or(0), zeros);
    // The connection was cut between the last record of a section and its footer.
    let error = first.finish(&[]).unwrap_err();
    assert_eq!(error.rule, Rule::CutShort { have: 0, need: 1 });
    assert_eq!(error.message, Some("SECTION_FOOTER"));

    let bytes = capture(&format!("{name}.ch1.fwd"));
    let known = first.resume_state().expect("it was cut after the switch");
    for mut second in [
        first.resume(),
        Decoder::resume_from(Default::default(), known),
        Decoder::blind_resumed(Default::default()),
    ] {
        let rest = counts(&mut second, &bytes);
        second.finish(&[]).unwrap();
        assert_eq!(rest["RECV_BITMAP"], 6);
        assert_eq!(rest["POSTCOPY_RESUME"], 1);
        assert_eq!(rest["late PAGE"], later_pages);
        assert_eq!(rest["late ZERO"], later_zeros);
        let names = |decoder: &Decoder| -> Vec<_> {
            decoder.blocks().iter().map(|b| b.name.clone()).collect()
        };
        assert_eq!(names(&first), names(&second));
    }
}

#[test]
fn qemu_repeats_the_block_name_after_the_switch() {
    for name in ["qemu-7.2-plain", "qemu-10.0-plain", "qemu-7.2-preempt"] {
        let bytes = capture(&format!("{name}.ch0.fwd"));
        let mut first = None;
        drain(&mut fresh(), &bytes, |decoder, _, event| {
            let page = matches!(
                event,
                Event::Record(Record::Page { .. } | Record::Zero { .. })
            );
            if decoder.is_listening() && page {
                first = first.or(Some(is_named(event)));
            }
        })
        .unwrap();
        assert_eq!(first, Some(true), "{name}");
    }
}

#[test]
fn finds_the_ram_blocks_of_a_pc() {
    let mut decoder = fresh();
    drain(
        &mut decoder,
        &capture("qemu-10.0-plain.ch0.fwd"),
        |_, _, _| {},
    )
    .unwrap();
    let blocks: Vec<(String, Option<u64>, u64)> = decoder
        .blocks()
        .iter()
        .map(|b| (b.name.to_string(), b.len, b.page_size))
        .collect();
    let want = [
        ("pc.ram", 0x100_0000),
        ("/rom@etc/acpi/tables", 0x2_0000),
        ("pc.bios", 0x4_0000),
        ("pc.rom", 0x2_0000),
        ("/rom@etc/table-loader", 0x1000),
        ("/rom@etc/acpi/rsdp", 0x1000),
    ];
    assert_eq!(
        blocks,
        want.map(|(name, len)| (name.into(), Some(len), 4096))
    );
    assert_eq!(decoder.has_footers(), Some(true));
    assert_eq!(decoder.section(1), Some(&b"ram"[..]));
}
