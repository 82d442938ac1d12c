//! Replays recordings of QEMU through the destination core. The core accepts each recording, ends
//! with SHUT(0), and sends the same return path as QEMU.

use std::io::Read;
use std::path::Path;

use retpath_codec::forward::{Decoded, Decoder, Event, Options};
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{BlockName, Message, NameBuf, Qemu};
use retpath_engine::Channel::{self, Main, Preempt};
use retpath_engine::destination::{Action, Config, Destination, Ending, PageState, Phase};

type Said = Message<NameBuf>;

fn capture(file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/capture");
    let path = folder.join(file);
    if path.exists() {
        return std::fs::read(path).unwrap();
    }
    let packed = std::fs::File::open(folder.join(format!("{file}.gz"))).unwrap();
    let mut bytes = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(packed);
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The messages of a return path and its received bitmaps.
fn messages(bytes: &[u8]) -> (Vec<Said>, Vec<Vec<u8>>) {
    let mut stream = Stream::<Qemu>::new(u64::MAX);
    let mut input = bytes;
    let (mut messages, mut bitmaps) = (Vec::new(), Vec::new());
    while let Some(item) = stream.next(&mut input).unwrap() {
        match item {
            Item::Message { message, .. } => {
                messages.push(<Qemu as retpath_codec::Dialect>::into_owned(message));
            }
            Item::Bitmap { bitmap, .. } => bitmaps.push(bitmap.as_bytes().to_vec()),
        }
    }
    (messages, bitmaps)
}

fn is_request(message: &Said) -> bool {
    matches!(
        message,
        Message::ReqPages { .. } | Message::ReqPagesId { .. }
    )
}

struct Replay {
    core: Destination,
    /// Encoded return path of this connection.
    said: Vec<u8>,
    finished: Option<Ending>,
    placed: u64,
}

impl Replay {
    fn new(preempt: bool) -> Self {
        let config = Config::default().preempt(preempt);
        Self {
            core: Destination::new(config),
            said: Vec::new(),
            finished: None,
            placed: 0,
        }
    }

    fn event(&mut self, channel: Channel, event: Event<'_>) {
        let placement = self.core.event(channel, event, 0).unwrap();
        if let Some(placement) = placement.filter(|placement| placement.atomic) {
            let span = placement.span();
            self.core.placed(channel, span, 0, 0).unwrap();
            self.placed += 1;
        }
        while let Some(action) = self.core.poll() {
            match action {
                Action::DeviceStateComplete => self.core.device_state_saved().unwrap(),
                Action::Finished(ending) => self.finished = Some(ending),
                _ => {}
            }
        }
        self.said.append(self.core.outbox());
    }

    /// Feeds a channel until `stop` returns true after an event; returns the rest.
    fn feed<'a>(
        &mut self,
        channel: Channel,
        decoder: &mut Decoder,
        mut bytes: &'a [u8],
        stop: impl Fn(&Self) -> bool,
    ) -> &'a [u8] {
        while let Decoded::Event { event, size } = decoder.next(bytes).unwrap() {
            self.event(channel, event);
            bytes = &bytes[size..];
            if stop(self) {
                break;
            }
        }
        bytes
    }

    /// Replays the guest's faults from a recorded return path.
    fn faults(&mut self, requests: &[Said]) {
        let mut last = 0;
        for request in requests {
            let start = match request {
                Message::ReqPagesId { block, start, .. } => {
                    last = self.core.blocks().find(block.name()).unwrap();
                    *start
                }
                Message::ReqPages { start, .. } => *start,
                _ => continue,
            };
            self.core.fault(last, start, 0).unwrap();
        }
        self.said.append(self.core.outbox());
    }
}

const VERSIONS: [&str; 2] = ["qemu-7.2", "qemu-10.0"];

fn is_running(replay: &Replay) -> bool {
    replay.core.phase() == Phase::Running
}

/// Sorts PONGs by value, because two threads of QEMU send them.
fn pongs(said: &[Said]) -> Vec<u32> {
    let value = |message: &Said| match message {
        Message::Pong { value } => Some(*value),
        _ => None,
    };
    let mut pongs: Vec<_> = said.iter().filter_map(value).collect();
    pongs.sort_unstable();
    pongs
}

#[test]
fn sends_what_qemu_sent() {
    for version in VERSIONS {
        for kind in ["plain", "preempt"] {
            let preempt = kind == "preempt";
            let name = |file: &str| format!("{version}-{kind}.{file}");
            let (want, _) = messages(&capture(&name("ch0.rp")));
            let bytes = capture(&name("ch0.fwd"));
            let mut replay = Replay::new(preempt);
            let mut decoder = Decoder::new(Options::default());
            let rest = replay.feed(Main, &mut decoder, &bytes, is_running);
            replay.faults(&want);
            if preempt {
                let urgent = capture(&name("ch1.fwd"));
                let mut decoder = decoder.preempt();
                let left = replay.feed(Preempt, &mut decoder, &urgent, |_| false);
                assert!(left.is_empty(), "{version}");
                replay.core.end_of_stream(Preempt).unwrap();
            }
            let rest = replay.feed(Main, &mut decoder, rest, |_| false);
            assert!(rest.is_empty(), "{version}-{kind}");
            assert_eq!(replay.finished, Some(Ending::Postcopy));

            let (said, _) = messages(&replay.said);
            assert_eq!(said.last(), Some(&Message::Shut { value: 0 }));
            assert_eq!(want.last(), said.last());
            let requests = |said: &[Said]| -> Vec<Said> {
                said.iter().filter(|m| is_request(m)).cloned().collect()
            };
            assert!(!requests(&want).is_empty());
            assert_eq!(requests(&said), requests(&want), "{version}-{kind}");
            assert_eq!(pongs(&said), pongs(&want), "{version}-{kind}");
            assert_eq!(said.len(), want.len());
            let stats = replay.core.stats();
            assert_eq!(stats.demand + stats.sweep, replay.placed);
            let asked = u64::try_from(requests(&want).len()).unwrap();
            assert_eq!((stats.demand, stats.duplicates), (asked, 0));
        }
    }
}

#[test]
fn recovers_with_the_bitmaps_that_qemu_sent() {
    for version in VERSIONS {
        let name = |file: &str| format!("{version}-recover.{file}");
        let (first, _) = messages(&capture(&name("ch0.rp")));
        let (second, want) = messages(&capture(&name("ch1.rp")));
        let mut replay = Replay::new(false);
        let bytes = capture(&name("ch0.fwd"));
        let mut decoder = Decoder::new(Options::default());
        let rest = replay.feed(Main, &mut decoder, &bytes, is_running);
        replay.faults(&first);
        replay.feed(Main, &mut decoder, rest, |_| false);
        replay.core.end_of_stream(Main).unwrap();
        assert_eq!(replay.core.phase(), Phase::Paused);
        replay.said.clear();

        replay.core.link_restored().unwrap();
        let mut decoder = decoder.resume();
        let bytes = capture(&name("ch1.fwd"));
        let rest = replay.feed(Main, &mut decoder, &bytes, is_running);
        // Pages that were pending when the link broke need no new fault.
        let pending: Vec<_> = second.iter().filter(|m| is_request(m)).cloned().collect();
        replay.faults(&pending);
        let rest = replay.feed(Main, &mut decoder, rest, |_| false);
        assert!(rest.is_empty(), "{version}");
        assert_eq!(replay.finished, Some(Ending::Postcopy), "{version}");
        assert_eq!(replay.core.pages().missing(), 0);
        assert_eq!(replay.core.stats().resumes, 1);

        let (said, bitmaps) = messages(&replay.said);
        assert_eq!(bitmaps, want, "{version}");
        let kinds = |said: &[Said]| -> Vec<Said> {
            said.iter().filter(|m| !is_request(m)).cloned().collect()
        };
        assert_eq!(kinds(&said), kinds(&second), "{version}");
        let starts = |said: &[Said]| -> Vec<u64> {
            let start = |message: &Said| match message {
                Message::ReqPages { start, .. } | Message::ReqPagesId { start, .. } => Some(*start),
                _ => None,
            };
            let mut starts: Vec<_> = said.iter().filter_map(start).collect();
            starts.sort_unstable();
            starts
        };
        assert_eq!(starts(&said), starts(&second), "{version}");
    }
}

#[test]
fn ignores_faults_on_received_pages() {
    let mut replay = Replay::new(false);
    let mut decoder = Decoder::new(Options::default());
    let bytes = capture("qemu-10.0-plain.ch0.fwd");
    replay.feed(Main, &mut decoder, &bytes, |_| false);
    for id in 0..replay.core.blocks().len() {
        assert_eq!(replay.core.fault(id, 0, 0), Ok(PageState::Present));
    }
}
