//! Streams of machine types without footers: what proves that they are whole, and what happens to
//! those of which nothing does.

use super::{Room, capture, errors, fill};
use retpath_support::saved_stream::{DEVICE, Stream};

/// What takes a stream whose end is not proven.
const ACCEPT: &str = "--accept-unproven-end";

/// The device as it stands without its footer.
const STATE: &[u8] = DEVICE.split_at(DEVICE.len() - 5).0;

fn old() -> Stream {
    Stream::old().blocks(&[(b"ram", 4)]).page(0, 1, 7).devices()
}

#[test]
fn a_description_proves_the_end() {
    let json = b"{\"devices\": [{\"name\": \"timer\"}]}";
    let room = Room::new();
    let image = room.image(&old().description(json).bytes, &[]);
    assert_eq!(fill(&image, 0, 1), 7);
    assert_eq!(image.device_state(), STATE);
    assert_eq!(image.description(), Some(&json[..]));
    let manifest = image.manifest();
    assert_eq!(manifest.machine, None);
    assert!(!manifest.source.footers && !manifest.unproven_end);
}

#[test]
fn accepts_an_unproven_end_only_with_the_option() {
    for description in [None, Some(&b"{\"page_size\": 4096}"[..])] {
        let mut stream = old();
        if let Some(json) = description {
            stream = stream.description(json);
        }
        let message = Room::new().refusal(&stream.bytes);
        assert!(message.contains("nothing proves"), "{message}");
        assert!(message.contains(ACCEPT), "{message}");

        let room = Room::new();
        let image = room.image(&stream.bytes, &[ACCEPT]);
        assert_eq!(image.device_state(), STATE);
        assert_eq!(image.description(), description);
        assert!(image.manifest().unproven_end);
        let manifest = std::fs::read_to_string(room.out().join("manifest.json")).expect("there");
        assert!(manifest.contains("\"end\": \"unproven\""), "{manifest}");
    }
}

#[test]
fn reports_an_unproven_end() {
    for (format, want) in [
        ("text", "may have been cut"),
        ("json", "\"end\":\"unproven\""),
    ] {
        let output = Room::new().import(&old().bytes, &[ACCEPT, "--format", format]);
        assert!(output.status.success(), "{}", errors(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn refuses_every_cut_inside_the_device_state() {
    let whole = old().bytes;
    let json = b"{\"devices\": []}";
    let described = old().description(json).bytes;
    for size in whole.len() - STATE.len()..described.len() {
        let message = Room::new().refusal(&described[..size]);
        let unproven = message.contains("nothing proves");
        // EOF, and the zeros of the description's size.
        let zero = size >= whole.len() && described[size - 1] == 0;
        assert_eq!(unproven, zero, "{size}: {message}");
    }
    // Even when asked to, what does not end with a zero byte is cut.
    let output = Room::new().import(&whole[..whole.len() - 1], &[ACCEPT]);
    assert_eq!(output.status.code(), Some(1));
    let message = errors(&output);
    assert!(message.contains("inside the device state"), "{message}");
}

/// A stream of machine type 2.1, recorded from QEMU 7.2 and cut inside its device state, that became
/// an image without a word.
#[test]
fn refuses_cuts_of_a_real_stream() {
    let stream = capture("qemu-7.2-cut-2.1.ch0.fwd.gz");
    let message = Room::new().refusal(&stream);
    assert!(message.contains("nothing proves"), "{message}");
    // Its device state begins more than 3,900 bytes in front of the cut.
    let mut zeros = 0;
    for size in (stream.len() - 3_900..stream.len()).step_by(37) {
        let message = Room::new().refusal(&stream[..size]);
        zeros += usize::from(message.contains("nothing proves"));
    }
    assert!(zeros > 10, "{zeros} cuts behind a zero byte");
}
