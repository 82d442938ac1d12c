//! JSON lines are what the codec's feature `serde` writes, with an offset in
//! front: one schema, described in `codec/JSON.md`.

use retpath_codec::forward::{Decoded, Decoder, Event, Options};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{Qemu, bitmap};

use crate::{capture_bytes, decode};

/// A line of the command.
fn line(offset: u64, json: serde_json::Result<String>) -> String {
    format!("{{\"offset\":{offset},{}", &json.unwrap()[1..])
}

#[test]
fn prints_events_as_the_codec_serializes_them() {
    for file in ["qemu-10.0-preempt.ch0.fwd", "qemu-7.2-recover.ch0.fwd"] {
        let bytes = capture_bytes(file);
        let report = decode(&["--format", "json"], &bytes);
        let mut lines = report.stdout.lines();
        let mut decoder = Decoder::new(Options::default());
        let mut rest = &bytes[..];
        let mut state = false;
        let mut compared = 0;
        while let Decoded::Event { event, size } = decoder.next(rest).unwrap() {
            let offset = decoder.offset() - u64::try_from(size).unwrap();
            rest = &rest[size..];
            // Consecutive chunks of device state are one line.
            let chunk = matches!(event, Event::DeviceState { .. });
            if !chunk {
                let line = line(offset, serde_json::to_string(&event.view(decoder.blocks())));
                assert_eq!(lines.next(), Some(&*line), "{file}");
                compared += 1;
            } else if !state {
                let line = lines.next().unwrap();
                let start = format!("{{\"offset\":{offset},\"message\":\"DEVICE_STATE\"");
                assert!(line.starts_with(&start), "{file}: {line}");
            }
            state = chunk;
        }
        assert_eq!(lines.next(), None, "{file}");
        assert!(compared > 100, "{file}");
    }
}

#[test]
fn prints_messages_as_the_codec_serializes_them() {
    let bytes = capture_bytes("qemu-10.0-recover.ch1.rp");
    let report = decode(&["--format", "json"], &bytes);
    let mut lines = report.stdout.lines();
    let mut stream = Stream::<Qemu>::new(bitmap::size(1 << 20));
    let mut input = &bytes[..];
    let mut pending: Option<String> = None;
    let mut bitmaps = 0;
    while let Some(item) = stream.next(&mut input).unwrap() {
        match item {
            Item::Message { offset, message } => {
                assert_eq!(pending, None);
                let line = line(offset, serde_json::to_string(&message));
                match message.label() {
                    "RECV_BITMAP" => pending = Some(line),
                    _ => assert_eq!(lines.next(), Some(&*line)),
                }
            }
            Item::Bitmap { bitmap, .. } => {
                let line = pending.take().unwrap();
                let (line, (bits, received)) = (
                    line.trim_end_matches('}'),
                    (bitmap.bits(), bitmap.received()),
                );
                let line = format!("{line},\"bits\":{bits},\"received\":{received}}}");
                assert_eq!(lines.next(), Some(&*line));
                bitmaps += 1;
            }
        }
    }
    assert_eq!(lines.next(), None);
    assert!(bitmaps > 0);
}
