//! The list of samples: every message of every dialect, with its bytes written by
//! hand from the description of the protocol.
//!
//! A new message is added here.

#![allow(dead_code, reason = "each test binary uses its own part")]

use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf};
use retpath_codec::{Dialect, Message, NameBuf, Qemu, V7, v7};

/// A message and its frame.
pub(crate) struct Sample<D: Dialect> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) value: D::Owned,
}

/// A dialect that has samples.
pub(crate) trait Samples: Dialect {
    fn samples() -> Vec<Sample<Self>>
    where
        Self: Sized;
}

/// Parses hexadecimal digits; blanks are ignored, 'text' stands for itself.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, part) in text.split('\'').enumerate() {
        if i % 2 == 1 {
            bytes.extend(part.as_bytes());
            continue;
        }
        let digits: Vec<u32> = part
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_digit(16).expect("a hexadecimal digit"))
            .collect();
        let pairs = digits.chunks_exact(2);
        assert!(pairs.remainder().is_empty(), "half a byte in {text}");
        bytes.extend(pairs.map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits")));
    }
    bytes
}

pub(crate) fn name(bytes: impl AsRef<[u8]>) -> NameBuf {
    NameBuf::new(bytes).expect("a sample's name is a name")
}

pub(crate) fn ranges(ranges: &[(u64, u64)]) -> RangeBuf {
    let ranges = ranges.iter().map(|&(start, len)| Range { start, len });
    RangeBuf::new(ranges.collect()).expect("a sample's ranges are valid")
}

fn sample<D: Dialect>(text: &str, value: D::Owned) -> Sample<D> {
    Sample {
        bytes: hex(text),
        value,
    }
}

/// A name of 255 bytes: 255 times a.
fn longest() -> String {
    "61".repeat(255)
}

impl Samples for Qemu {
    fn samples() -> Vec<Sample<Self>> {
        let on = sample::<Self>;
        let a255 = name([b'a'; 255]);
        vec![
            on("0001 0004 00000000", Message::Shut { value: 0 }),
            on("0001 0004 00000001", Message::Shut { value: 1 }),
            on("0001 0004 ffffffff", Message::Shut { value: u32::MAX }),
            on("0002 0004 00000001", Message::Pong { value: 1 }),
            on("0002 0004 00000042", Message::Pong { value: 0x42 }),
            on("0002 0004 89abcdef", Message::Pong { value: 0x89ab_cdef }),
            on(
                "0003 0013  0000000003316000 00001000 06 'pc.ram'",
                Message::ReqPagesId {
                    start: 0x331_6000,
                    len: 4096,
                    block: name("pc.ram"),
                },
            ),
            on(
                "0003 000e  0000000000000000 00000001 01 'a'",
                Message::ReqPagesId {
                    start: 0,
                    len: 1,
                    block: name("a"),
                },
            ),
            on(
                "0003 0010  0000000040000000 40000000 03 ff5c0a",
                Message::ReqPagesId {
                    start: 1 << 30,
                    len: 1 << 30,
                    block: name(b"\xff\\\n"),
                },
            ),
            on(
                &format!("0003 010c  ffffffff00000000 ffffffff ff {}", longest()),
                Message::ReqPagesId {
                    start: !0 << 32,
                    len: u32::MAX,
                    block: a255.clone(),
                },
            ),
            on(
                "0004 000c  0000000003317000 00001000",
                Message::ReqPages {
                    start: 0x331_7000,
                    len: 4096,
                },
            ),
            on(
                "0004 000c  0123456789abcdef 00200000",
                Message::ReqPages {
                    start: 0x0123_4567_89ab_cdef,
                    len: 2 << 20,
                },
            ),
            on(
                "0004 000c  fffffffffffffffe 00000001",
                Message::ReqPages {
                    start: u64::MAX - 1,
                    len: 1,
                },
            ),
            on(
                "0005 0007  06 'pc.ram'",
                Message::RecvBitmap {
                    block: name("pc.ram"),
                },
            ),
            on(
                "0005 0002  01 'x'",
                Message::RecvBitmap { block: name("x") },
            ),
            on(
                "0005 0015  14 '/rom@etc/acpi/tables'",
                Message::RecvBitmap {
                    block: name("/rom@etc/acpi/tables"),
                },
            ),
            on(
                &format!("0005 0100  ff {}", longest()),
                Message::RecvBitmap { block: a255 },
            ),
            on("0006 0004 00000001", Message::ResumeAck),
            on("0007 0000", Message::SwitchoverAck),
        ]
    }
}

impl Samples for V7 {
    fn samples() -> Vec<Sample<Self>> {
        use v7::Message;
        let on = sample::<Self>;
        vec![
            on("0001 0004 00000000", Message::Shut { value: 0 }),
            on("0001 0004 00000001", Message::Shut { value: 1 }),
            on("0002 0004 00000003", Message::Pong { value: 3 }),
            on(
                "0003 0010  0000000003317000 0000000000001000",
                Message::ReqPages {
                    start: 0x331_7000,
                    len: 4096,
                    block: None,
                },
            ),
            on(
                "0003 0010  0000000000000000 fffffffffffffffe",
                Message::ReqPages {
                    start: 0,
                    len: u64::MAX - 1,
                    block: None,
                },
            ),
            on(
                "0003 0017  0000000003316000 0000000000001001 06 'pc.ram'",
                Message::ReqPages {
                    start: 0x331_6000,
                    len: 4096,
                    block: Some(name("pc.ram")),
                },
            ),
            on(
                "0003 0012  0000000000000000 0000000000000003 01 80",
                Message::ReqPages {
                    start: 0,
                    len: 2,
                    block: Some(name(b"\x80")),
                },
            ),
            on(
                &format!(
                    "0003 0110  0000000100000000 0000000200000001 ff {}",
                    longest()
                ),
                Message::ReqPages {
                    start: 1 << 32,
                    len: 2 << 32,
                    block: Some(name([b'a'; 255])),
                },
            ),
        ]
    }
}

impl Samples for Commands {
    fn samples() -> Vec<Sample<Self>> {
        let on = sample::<Self>;
        let sizes = |summary, target| Some(PageSizes { summary, target });
        vec![
            on("08 0001 0000", Command::OpenReturnPath),
            on("08 0002 0004 00000001", Command::Ping { value: 1 }),
            on(
                "08 0002 0004 fedcba98",
                Command::Ping { value: 0xfedc_ba98 },
            ),
            on("08 0003 0000", Command::PostcopyAdvise { sizes: None }),
            on(
                "08 0003 0010  0000000000001000 0000000000001000",
                Command::PostcopyAdvise {
                    sizes: sizes(4096, 4096),
                },
            ),
            on(
                "08 0003 0010  0000000040201000 0000000000001000",
                Command::PostcopyAdvise {
                    sizes: sizes(0x4020_1000, 4096),
                },
            ),
            on("08 0004 0000", Command::PostcopyListen),
            on("08 0005 0000", Command::PostcopyRun),
            on(
                "08 0006 0019  00 06 'pc.ram' 00  0000000000000000 0000000001000000",
                Command::PostcopyRamDiscard {
                    block: name("pc.ram"),
                    ranges: ranges(&[(0, 16 << 20)]),
                },
            ),
            on(
                "08 0006 0014  00 01 'a' 00  fffffffffffffffe 0000000000000001",
                Command::PostcopyRamDiscard {
                    block: name("a"),
                    ranges: ranges(&[(u64::MAX - 1, 1)]),
                },
            ),
            on(
                "08 0006 0038  00 05 'mem\\0' 00  0000000000001000 0000000000002000 \
                 0000000000010000 0000000000001000  0000000000000000 ffffffffffffffff",
                Command::PostcopyRamDiscard {
                    block: name("mem\\0"),
                    ranges: ranges(&[(0x1000, 0x2000), (0x1_0000, 0x1000), (0, u64::MAX)]),
                },
            ),
            on("08 0007 0004 00000013", Command::Packaged { size: 19 }),
            on(
                "08 0007 0004 01000000",
                Command::Packaged { size: 16 << 20 },
            ),
            on("08 0008 0000", Command::EnableColo),
            on("08 0009 0000", Command::PostcopyResume),
            on(
                "08 000a 0007  06 'pc.ram'",
                Command::RecvBitmap {
                    block: name("pc.ram"),
                },
            ),
            on(
                &format!("08 000a 0100  ff {}", longest()),
                Command::RecvBitmap {
                    block: name([b'a'; 255]),
                },
            ),
            on("08 000b 0000", Command::SwitchoverStart),
        ]
    }
}
