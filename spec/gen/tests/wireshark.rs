//! The Wireshark dissector, run by tshark, agrees with the oracle.

mod support;

use std::ops::Range;

use retpath_spec::model::Dialect;
use retpath_spec::oracle::{self, Outcome};
use retpath_spec::sample::samples;
use retpath_spec::table::return_path::{QEMU, V7};
use support::pcap::{self, End, OVERHEAD, Pcap, ROOM};
use support::reading::{read_with_codec, read_with_oracle};
use support::tshark::{self, Flow, dissect};
use support::{recordings, return_paths};

/// Start of a forward stream.
const FORWARD: &[u8] = b"QEVM\0\0\0\x03\x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01";

/// Ways to split a return path into packets.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    EachMessage,
    MidMessage,
    OneToSevenBytes,
}

const CUTS: [Cut; 4] = [
    Cut::Whole,
    Cut::EachMessage,
    Cut::MidMessage,
    Cut::OneToSevenBytes,
];

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn dissects_every_recorded_message_in_any_segmentation() {
    compare("recorded", &QEMU, &recordings());
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn dissects_every_seed_in_any_segmentation() {
    for dialect in [&QEMU, &V7] {
        let seeds = return_paths(&format!("corpus/seed/{}", dialect.name));
        compare(&format!("seed-{}", dialect.name), dialect, &seeds);
    }
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn reports_the_same_defect_as_the_oracle() {
    for dialect in [&QEMU, &V7] {
        let inputs = defects(dialect);
        let mut pcap = Pcap::new();
        for input in &inputs {
            let mut connection = pcap.connect();
            pcap.send(&mut connection, End::Destination, input);
        }
        let name = format!("defects-{}", dialect.name);
        let flows = dissect(&name, &pcap.finish(), &[&option(dialect)]);
        assert_eq!(flows.len(), inputs.len());
        for (input, flow) in inputs.iter().zip(flows) {
            let (seen, refused) = read_with_oracle(dialect, input);
            let refused = refused.expect("a defect");
            let defect = flow
                .defect
                .unwrap_or_else(|| panic!("{refused:?} {input:x?}"));
            assert_eq!(flow.seen, seen, "{input:x?}");
            assert_eq!(defect.rule, refused.rule.replace('-', "_"), "{input:x?}");
            assert_eq!(defect.field.as_deref(), refused.field, "{input:x?}");
            assert_eq!(defect.pos - OVERHEAD, refused.offset, "{input:x?}");
            assert_eq!(flow.experts[0], format!("malformed.{}", defect.rule));
        }
    }
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn reports_a_bitmap_with_a_wrong_size_or_end_mark() {
    let sound = recv_bitmap();
    let trailer = sound.len() - 40;
    let mut odd = sound.clone();
    odd[trailer + 7] = 12;
    let mut empty = sound.clone();
    empty[trailer + 7] = 0;
    let mut unmarked = sound.clone();
    *unmarked.last_mut().unwrap() ^= 1;
    let mut pcap = Pcap::new();
    for input in [&odd, &empty, &unmarked] {
        let mut connection = pcap.connect();
        pcap.send(&mut connection, End::Destination, input);
    }
    let flows = dissect("bitmaps", &pcap.finish(), &[]);
    let rules: Vec<_> = flows
        .iter()
        .map(|f| &f.defect.as_ref().unwrap().rule)
        .collect();
    assert_eq!(rules, ["bitmap_size", "bitmap_size", "bitmap_end"]);
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn does_not_dissect_bytes_behind_a_defect_or_shut() {
    let pong = [0, 2, 0, 4, 0, 0, 0, 1];
    let shut = [0, 1, 0, 4, 0, 0, 0, 0];
    let unknown = [0, 9, 0, 0];
    let mut pcap = Pcap::new();
    for (first, second) in [
        (&unknown[..], &pong[..]),
        (&shut, &pong),
        (&[shut, pong].concat(), &[]),
    ] {
        let mut connection = pcap.connect();
        for piece in [&pong, first, second, &pong] {
            pcap.send(&mut connection, End::Destination, piece);
        }
    }
    let flows = dissect("after", &pcap.finish(), &[]);
    let labels = |flow: &Flow| -> Vec<_> { flow.seen.iter().map(|s| s.label.clone()).collect() };
    let [after_defect, after_shut, at_once] = &flows[..] else {
        panic!("three connections, not {}", flows.len());
    };
    assert_eq!(labels(after_defect), ["PONG"]);
    assert_eq!(
        after_defect.experts,
        ["malformed.unknown", "out_of_step", "out_of_step"]
    );
    assert_eq!(labels(after_shut), ["PONG", "SHUT"]);
    assert_eq!(
        after_shut.experts,
        ["malformed.after_shut", "malformed.after_shut"]
    );
    assert_eq!(labels(at_once), ["PONG", "SHUT"]);
    assert_eq!(
        at_once.experts,
        ["malformed.after_shut", "malformed.after_shut"]
    );
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn does_not_dissect_bytes_behind_a_message_it_cannot_reassemble() {
    let pongs = [[0, 2, 0, 4, 0, 0, 0, 1]; 2].concat();
    let mut pcap = Pcap::new();
    let mut connection = pcap.connect();
    for piece in [&pongs[..12], &pongs[12..], &pongs] {
        pcap.send(&mut connection, End::Destination, piece);
    }
    let option = "tcp.desegment_tcp_streams:FALSE";
    let flow = &dissect("apart", &pcap.finish(), &["-o", option])[0];
    assert_eq!(flow.seen, read_with_oracle(&QEMU, &pongs[..8]).0);
    assert_eq!(flow.experts, ["cut_short", "out_of_step", "out_of_step"]);
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn does_not_reassemble_a_bitmap_beyond_the_preference() {
    let mut frame = recv_bitmap();
    frame.truncate(frame.len() - 40);
    frame.extend((2049_u64 * 8).to_be_bytes());
    let mut pcap = Pcap::new();
    let mut connection = pcap.connect();
    pcap.send(&mut connection, End::Destination, &frame);
    pcap.send(&mut connection, End::Destination, &[0xff; 800]);
    let capture = pcap.finish();

    let held = &dissect("limit", &capture, &["-o", "qemu_rp.bitmap_limit:17"])[0];
    assert_eq!(
        (held.seen.len(), held.experts.len()),
        (0, 0),
        "waits for the rest"
    );
    let cut = &dissect("limit", &capture, &["-o", "qemu_rp.bitmap_limit:16"])[0];
    assert_eq!(cut.experts, ["bitmap_limit", "out_of_step"]);
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn dissects_a_recording_without_network_headers() {
    for (file, input) in &recordings() {
        let messages = read_with_oracle(&QEMU, input).0.len();
        for (len, missing) in [(input.len(), 0), (input.len() - 1, 1)] {
            let capture = pcap::upper_pdu("qemu_rp", &input[..len]);
            let text = tshark::run("file", &capture, &[]);
            let count = |name: &str| text.matches(&format!("name=\"qemu_rp.{name}\"")).count();
            assert_eq!(count("message"), messages - missing, "{file}");
            assert_eq!(count("cut_short"), missing, "{file}");
        }
    }
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn uses_the_port_preference() {
    let (_, input) = &recordings()[0];
    let mut pcap = Pcap::new();
    let mut connection = pcap.connect();
    pcap.send(&mut connection, End::Source, FORWARD);
    pcap.send(&mut connection, End::Destination, input);
    let capture = pcap.finish();
    let labels = |options: &[&str]| {
        let text = tshark::run("port", &capture, options);
        text.matches("name=\"qemu_rp.message\"").count()
    };
    assert_eq!(labels(&[]), 0);
    assert_eq!(labels(&["-o", "qemu_rp.ports:1-4443"]), 0);
    let all = read_with_oracle(&QEMU, input).0.len();
    assert_eq!(labels(&["-o", "qemu_rp.ports:1,4440-4450"]), all);
}

#[test]
#[ignore = "needs tshark; run by .ci/run"]
fn dissects_the_forward_direction_only_on_request() {
    let (_, input) = &recordings()[0];
    let mut pcap = Pcap::new();
    let mut connection = pcap.connect();
    pcap.send(&mut connection, End::Source, input);
    let capture = pcap.finish();
    assert_eq!(dissect("forward", &capture, &[])[0].seen, []);
    let flows = dissect("forward", &capture, &["-o", "qemu_rp.both:TRUE"]);
    assert_eq!(flows[0].seen, read_with_oracle(&QEMU, input).0);
}

/// Dissects every input in every segmentation and compares tshark's messages
/// with those of oracle and codec.
fn compare(name: &str, dialect: &Dialect, inputs: &[(String, Vec<u8>)]) {
    let mut pcap = Pcap::new();
    let mut sent = Vec::new();
    for (file, input) in inputs {
        let (seen, refused) = read_with_oracle(dialect, input);
        assert_eq!(refused, None, "{file}");
        assert_eq!(
            seen,
            read_with_codec(dialect, input),
            "{file}: the codec disagrees"
        );
        let offsets: Vec<usize> = seen.iter().map(|message| message.offset).collect();
        for cut in CUTS {
            let mut connection = pcap.connect();
            pcap.send(&mut connection, End::Source, FORWARD);
            for piece in pieces(cut, &offsets, input.len()) {
                pcap.send(&mut connection, End::Destination, &input[piece]);
                // A packet in the other direction between any two.
                pcap.send(&mut connection, End::Source, &[0]);
            }
            sent.push((file, cut, seen.clone()));
        }
    }
    let flows = dissect(name, &pcap.finish(), &[&option(dialect)]);
    assert_eq!(flows.len(), sent.len());
    for ((file, cut, seen), flow) in sent.into_iter().zip(flows) {
        assert!(!seen.is_empty(), "{file}");
        assert_eq!(flow.seen, seen, "{file} {cut:?}");
        assert_eq!(flow.defect, None, "{file} {cut:?}");
        assert!(
            flow.experts.is_empty(),
            "{file} {cut:?}: {:?}",
            flow.experts
        );
    }
}

/// The pieces of a return path whose messages start at `offsets`.
fn pieces(cut: Cut, offsets: &[usize], len: usize) -> Vec<Range<usize>> {
    let bounds: Vec<usize> = match cut {
        Cut::Whole => (0..len).step_by(ROOM).collect(),
        Cut::EachMessage => offsets.into(),
        Cut::MidMessage => {
            let ends = offsets.iter().skip(1).chain([&len]);
            let middles = offsets.iter().zip(ends).map(|(a, b)| a.midpoint(*b));
            [0].into_iter().chain(middles.filter(|m| *m > 0)).collect()
        }
        Cut::OneToSevenBytes => {
            let mut at = 0;
            let sizes = (1..=7).cycle();
            let starts = sizes.map_while(|size| {
                let start = at;
                at += size;
                (start < len).then_some(start)
            });
            starts.collect()
        }
    };
    let ends = bounds.iter().skip(1).chain([&len]);
    bounds.iter().zip(ends).map(|(a, b)| *a..*b).collect()
}

/// Samples of a dialect with one byte changed that the oracle refuses.
fn defects(dialect: &Dialect) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for message in dialect.messages {
        for sample in samples(message).iter().take(2) {
            let sound = sample.bytes(dialect, message);
            for at in 0..sound.len() {
                for byte in [0, 1, 0xff, sound[at] ^ 1, sound[at].wrapping_add(1)] {
                    let mut input = sound.clone();
                    input[at] = byte;
                    let refused = oracle::read(dialect, &input);
                    if refused.is_err() && !found.contains(&input) {
                        found.push(input);
                    }
                }
            }
        }
    }
    found
}

/// A RECV_BITMAP with a bitmap of 24 bytes.
fn recv_bitmap() -> Vec<u8> {
    let message = retpath_spec::sample::row(&QEMU, "RECV_BITMAP");
    let bytes = samples(message)[1].bytes(&QEMU, message);
    let read = oracle::read(&QEMU, &bytes);
    assert!(matches!(read, Ok(Outcome::Message(parsed)) if parsed.size + 40 == bytes.len()));
    bytes
}

fn option(dialect: &Dialect) -> String {
    format!("-oqemu_rp.dialect:{}", dialect.name)
}
