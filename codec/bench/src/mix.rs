//! The parsed and written streams: messages in random order, the same in every run.

use retpath_codec::{Message, Name};
use retpath_random::Random;

use crate::contender::Write;
use crate::ours::Ours;

/// Messages of a stream: few enough to stay in the second-level cache, too
/// many for the branch predictor to learn their order.
pub(crate) const MESSAGES: u32 = 8192;

/// Description of the mixes, printed below the table.
pub(crate) const LEGEND: &str = "\
Four types evenly: PONG, REQ_PAGES_ID, REQ_PAGES, RECV_BITMAP. 90 % page requests: REQ_PAGES, \
and the other six types evenly. Both in random order, with eight block names of 4 to 31 \
bytes.";

/// Block names of recorded migrations.
const NAMES: [&[u8]; 8] = [
    b"pc.ram",
    b"mem0",
    b"pc.bios",
    b"vga.vram",
    b"mach-virt.ram",
    b"/rom@etc/acpi/tables",
    b"/rom@etc/table-loader",
    b"0000:00:02.0/virtio-net-pci.rom",
];

/// A stream of the return path.
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<u8>,
}

/// The streams that are timed.
pub(crate) fn mixes() -> [Mix; 2] {
    let even = |random: &mut Random| match random.index(4) {
        0 => PONG,
        1 => REQ_PAGES_ID,
        2 => REQ_PAGES,
        _ => RECV_BITMAP,
    };
    let requests = |random: &mut Random| match random.index(10) {
        0 => OTHERS[random.index(6)],
        _ => REQ_PAGES,
    };
    [
        Mix::new("four types evenly", even),
        Mix::new("90 % page requests", requests),
    ]
}

const PONG: u64 = 2;
const REQ_PAGES_ID: u64 = 3;
const REQ_PAGES: u64 = 4;
const RECV_BITMAP: u64 = 5;

/// All but REQ_PAGES.
const OTHERS: [u64; 6] = [1, PONG, REQ_PAGES_ID, RECV_BITMAP, 6, 7];

impl Mix {
    fn new(name: &'static str, number: impl Fn(&mut Random) -> u64) -> Self {
        let mut random = Random::new(1);
        let mut frames = Vec::new();
        for _ in 0..MESSAGES {
            let number = number(&mut random);
            Ours::encode(&message(number, &mut random), &mut frames)
                .expect("every message made here is valid");
        }
        Self { name, frames }
    }
}

/// A message of this number.
pub(crate) fn message(number: u64, random: &mut Random) -> Message<Name<'static>> {
    let [a, b, c, d, ..] = random.any().to_be_bytes();
    let value = u32::from_be_bytes([a, b, c, d]);
    let start = random.any() >> 28 << 12;
    let len = 4096;
    let name = NAMES[random.index(8)];
    let block = Name::new(name).expect("recorded names are valid");
    match number {
        1 => Message::Shut { value },
        2 => Message::Pong { value },
        3 => Message::ReqPagesId { start, len, block },
        4 => Message::ReqPages { start, len },
        5 => Message::RecvBitmap { block },
        6 => Message::ResumeAck,
        _ => Message::SwitchoverAck,
    }
}
