//! The end of device state, which has no length.

use retpath_codec::Rule;
use retpath_codec::forward::{Decoder, Event, SectionKind};

use crate::kit::{Stream, drain, error, events, fresh};

const FULL: SectionKind = SectionKind::Full;

/// State of each section, chunks joined.
fn states(decoder: &mut Decoder, bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut states: Vec<(u32, Vec<u8>)> = Vec::new();
    for event in events(decoder, bytes) {
        match event {
            Event::Section { kind, id, .. } if kind == FULL => states.push((id, Vec::new())),
            Event::DeviceState { id, bytes } => {
                let (last, state) = states.last_mut().unwrap();
                assert_eq!(*last, id);
                state.extend(bytes);
            }
            _ => {}
        }
    }
    states
}

fn postcopy(package: &Stream) -> Stream {
    Stream::discarded().package(package).end(1).eos(1).eof()
}

#[test]
fn ends_at_the_footer_in_a_package() {
    let package = Stream::default()
        .listen()
        .device(5, b"timer", b"abc")
        .device(6, b"cpu", [])
        .device(7, b"0000:00:01.0/PIIX3", [0x7e; 20])
        .run();
    let states = states(&mut fresh(), &postcopy(&package).0);
    let want = [(5, b"abc".to_vec()), (6, vec![]), (7, vec![0x7e; 20])];
    assert_eq!(states, want);
}

#[test]
fn ignores_footers_before_anything_else() {
    let tricks: Vec<Vec<u8>> = [
        // Another section's footer.
        Stream::default().footer(6).run(),
        // Bytes that do not start an item, or start one that a package must not contain.
        Stream::default().footer(5).raw([0x09]),
        Stream::default().footer(5).eof(),
        Stream::default().footer(5).part(1),
        Stream::default()
            .footer(5)
            .head(SectionKind::Start, 9, b"ram"),
        Stream::default().footer(5).listen(),
        // A section that is known, one without a name, one with a control character
        // in its name.
        Stream::default().footer(5).head(FULL, 1, b"cpu"),
        Stream::default().footer(5).raw([4, 0, 0, 0, 9, 0]),
        Stream::default().footer(5).head(FULL, 9, b"cp\nu"),
        // An unknown command.
        Stream::default().footer(5).raw([8, 0, 2, 0, 5]),
        Stream::default().footer(5).raw([8, 0, 99, 0, 0]),
    ]
    .map(|stream| stream.0)
    .into();
    for trick in tricks {
        let package = Stream::default()
            .listen()
            .device(5, b"timer", &trick)
            .device(6, b"cpu", b"x")
            .run();
        let states = states(&mut fresh(), &postcopy(&package).0);
        assert_eq!(states, [(5, trick), (6, b"x".to_vec())]);
    }
}

#[test]
fn refuses_a_package_that_ends_inside_a_device() {
    let package = Stream::default()
        .listen()
        .head(FULL, 5, b"timer")
        .raw([0; 50]);
    let bytes = Stream::discarded().package(&package);
    let error = error(&mut fresh(), &bytes.0);
    assert_eq!(error.rule, Rule::PackageEnd);
    assert_eq!(error.offset, u64::try_from(bytes.0.len()).unwrap());
    // With a footer, but without RUN.
    let package = package.footer(5);
    let bytes = Stream::discarded().package(&package);
    let error = crate::kit::error(&mut fresh(), &bytes.0);
    assert_eq!(error.rule, Rule::PackageEnd);
}

#[test]
fn accepts_an_early_device_before_ram() {
    let bytes = Stream::advised()
        .device(9, b"0000:00:03.0/virtio-mem-device-early", [0; 24])
        .list()
        .end(1)
        .eos(1)
        .eof();
    let mut decoder = fresh();
    assert_eq!(states(&mut decoder, &bytes.0), [(9, vec![0; 24])]);
    assert_eq!(decoder.has_footers(), Some(true));
}

#[test]
fn accepts_an_early_device_between_parts_of_ram() {
    let bytes = Stream::listed()
        .device(9, b"virtio-mem-device-early", [7; 24])
        .part(1)
        .eos(1)
        .device(10, b"virtio-mem-device-early", [8; 24])
        .end(1)
        .eos(1)
        .eof();
    let want = [(9, vec![7; 24]), (10, vec![8; 24])];
    assert_eq!(states(&mut fresh(), &bytes.0), want);
}

fn precopy() -> Stream {
    Stream::listed()
        .end(1)
        .eos(1)
        .device(5, b"timer", [0x7e, 0, 0, 0, 5, 0, 6, 0])
        .device(6, b"cpu", [0x7e, 0, 0, 0, 6, 0])
        .eof()
}

#[test]
fn ends_at_eof_before_a_description() {
    let bytes = precopy().description(b"{\"devices\": []}");
    let mut decoder = fresh();
    let states = states(&mut decoder, &bytes.0);
    let first = vec![0x7e, 0, 0, 0, 5, 0, 6, 0];
    let second = vec![0x7e, 0, 0, 0, 6, 0];
    assert_eq!(states, [(5, first), (6, second)]);
    assert!(decoder.has_ended());
}

#[test]
fn recognises_eof_without_a_description_at_the_end_of_the_channel() {
    let bytes = precopy();
    let mut decoder = fresh();
    let left = drain(&mut decoder, &bytes.0, |_, _, _| {}).unwrap();
    // Footer and EOF may still be state.
    assert_eq!(left, [0x7e, 0, 0, 0, 6, 0]);
    decoder.finish(left).unwrap();
    decoder.close();
    let mut labels = Vec::new();
    let left = drain(&mut decoder, left, |_, _, event| labels.push(event.label())).unwrap();
    assert_eq!((labels, left), (vec!["SECTION_FOOTER", "EOF"], &[][..]));
    decoder.finish(&[]).unwrap();
}

#[test]
fn refuses_an_end_inside_device_state() {
    let bytes = precopy();
    let mut decoder = fresh();
    let cut = &bytes.0[..bytes.0.len() - 1];
    let left = drain(&mut decoder, cut, |_, _, _| {}).unwrap();
    let error = decoder.finish(left).unwrap_err();
    assert!(matches!(error.rule, Rule::CutShort { .. }), "{error}");
    assert_eq!(error.message, Some("DEVICE_STATE"));
}

/// Without configuration and footers, up to the discards.
pub(crate) fn old() -> Stream {
    let header = Stream(b"QEVM\0\0\0\x03".to_vec());
    let start = header
        .command(retpath_codec::command::Command::OpenReturnPath)
        .command(crate::kit::advise(4096, 4096))
        .list();
    let size = start.0.len() - 5;
    Stream(start.0[..size].to_vec())
}

pub(crate) fn old_discarded() -> Stream {
    old().command(crate::kit::discard(b"pc.ram", 0, 4096))
}

#[test]
fn returns_a_package_without_footers_as_opaque_state() {
    let ping = |value| retpath_codec::command::Command::Ping { value };
    let run = Stream::default().command(retpath_codec::command::Command::PostcopyRun);
    let tails = [
        run.clone(),
        Stream::default().command(ping(3)).raw(&run),
        Stream::default()
            .command(ping(3))
            .command(ping(0x42))
            .raw(&run),
    ];
    for tail in tails {
        for state in [&[][..], b"x", &[8, 0, 2], &[0x7e; 300]] {
            let package = Stream::default()
                .listen()
                .head(FULL, 5, b"timer")
                .raw(state)
                .raw(&tail);
            let bytes = old_discarded().package(&package).part(1);
            let bytes = bytes.word(0x10).end(1).word(0x10).eof();
            let mut decoder = fresh();
            assert_eq!(states(&mut decoder, &bytes.0), [(5, state.to_vec())]);
            assert_eq!(decoder.has_footers(), Some(false));
        }
    }
}

#[test]
fn refuses_a_package_without_footers_and_run() {
    let package = Stream::default()
        .listen()
        .head(FULL, 5, b"timer")
        .raw([1; 40]);
    let bytes = old_discarded().package(&package);
    assert_eq!(error(&mut fresh(), &bytes.0).rule, Rule::NoRun);
    // The start of a PING that exceeds the package does not wait for bytes after the
    // package either.
    let package = Stream::default()
        .listen()
        .head(FULL, 5, b"timer")
        .raw([8, 0, 2, 0, 4]);
    let bytes = old_discarded().package(&package).part(1);
    assert_eq!(error(&mut fresh(), &bytes.0).rule, Rule::NoRun);
}

#[test]
fn does_not_wait_for_a_footer_beyond_the_package() {
    let package = Stream::default()
        .listen()
        .head(FULL, 5, b"timer")
        .raw([1, 0x7e, 0, 0]);
    let bytes = Stream::discarded().package(&package).part(1);
    assert_eq!(error(&mut fresh(), &bytes.0).rule, Rule::PackageEnd);
}

#[test]
fn returns_a_precopy_stream_without_footers_as_opaque_state() {
    let rest = Stream::default()
        .raw(b"state")
        .head(FULL, 6, b"cpu")
        .eof()
        .description(b"{}");
    let bytes = old().end(1).word(0x10).head(FULL, 5, b"timer").raw(&rest);
    let mut decoder = fresh();
    assert_eq!(states(&mut decoder, &bytes.0), [(5, rest.0)]);
}

#[test]
fn reads_empty_dirty_bitmap_sections() {
    let bytes = Stream::listed()
        .head(SectionKind::Start, 2, b"dirty-bitmap")
        .raw([1])
        .footer(2)
        .part(2)
        .raw([1])
        .footer(2)
        .end(1)
        .eos(1)
        .end(2)
        .raw([1])
        .footer(2)
        .eof();
    let events = events(&mut fresh(), &bytes.0);
    let state = Event::DeviceState { id: 2, bytes: &[1] };
    assert_eq!(events.iter().filter(|&&event| event == state).count(), 3);
}

/// Found by fuzzing: a complete POSTCOPY_RAM_DISCARD after a footer was accepted, an
/// incomplete one was not, so that the end of the state depended on the split.
#[test]
fn does_not_mistake_a_complete_discard_for_the_next_item() {
    let trick = Stream::default()
        .footer(5)
        .command(crate::kit::discard(b"pc.ram", 0, 4096));
    let bytes = Stream::listed()
        .end(1)
        .eos(1)
        .device(5, b"timer", &trick)
        .device(6, b"cpu", b"x")
        .eof()
        .description(b"{}");
    let want = [(5, trick.0), (6, b"x".to_vec())];
    assert_eq!(states(&mut fresh(), &bytes.0), want);
}
