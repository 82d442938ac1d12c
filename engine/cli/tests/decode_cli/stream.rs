//! Forward streams for the tests, written byte by byte.

use std::io::Write;
use std::process::{Command, Stdio};

/// Size of the only RAM block of [`START`].
pub(crate) const RAM: u64 = 1 << 20;

/// Header, configuration, commands, and the list of one RAM block.
pub(crate) const START: &[&[u8]] = &[
    b"QEVM\0\0\0\x03",
    b"\x07\0\0\0\x02pc",
    b"\x08\0\x01\0\0",
    b"\x08\0\x02\0\x04\0\0\0\x01",
    b"\x08\0\x03\0\x10\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x10\0",
    b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04",
    b"\0\0\0\0\0\x10\0\x04",
    b"\x06pc.ram\0\0\0\0\0\x10\0\0",
    b"\0\0\0\0\0\0\0\x10",
    b"\x7e\0\0\0\x02",
];

/// The switch to postcopy, with one device in the package.
pub(crate) const SWITCH: &[&[u8]] = &[
    b"\x08\0\x06\0\x29\0\x06pc.ram\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\x10\0",
    b"\x08\0\x02\0\x04\0\0\0\x02",
    b"\x08\0\x07\0\x04\0\0\0\x2e",
    b"\x08\0\x04\0\0",
    b"\x04\0\0\0\x07\x05timer\0\0\0\0\0\0\0\x02",
    b"\x01\x02\x03\x7e\0\0\0\x07",
    b"\x08\0\x02\0\x04\0\0\0\x03",
    b"\x08\0\x05\0\0",
    b"\x08\0\x02\0\x04\0\0\0\x04",
];

/// The end of the `ram` section and of the stream.
pub(crate) const END: &[&[u8]] = &[b"\x03\0\0\0\x02\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02", b"\0"];

/// A piece of the `ram` section.
pub(crate) fn part(records: &[u8]) -> Vec<u8> {
    [
        b"\x02\0\0\0\x02",
        records,
        b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02",
    ]
    .concat()
}

/// A record that carries a page of the block that the record before named.
pub(crate) fn page(offset: u64, fill: u8) -> Vec<u8> {
    let mut record = (offset | 0x28).to_be_bytes().to_vec();
    record.resize(8 + 4096, fill);
    record
}

/// A precopy stream that never ends: its start, and a megabyte to repeat.
pub(crate) fn endless() -> (Vec<u8>, Vec<u8>) {
    let named = [&8_u64.to_be_bytes()[..], b"\x06pc.ram", &[1; 4096]].concat();
    let start = [START.concat(), part(&named), b"\x02\0\0\0\x02".to_vec()].concat();
    let pages = (0..RAM / 4096).flat_map(|index| page(index * 4096, 0xa5));
    (start, pages.collect())
}

/// Feeds `retpath decode` megabytes of pages through a pipe; returns its peak memory in KiB after
/// each of these numbers of megabytes.
pub(crate) fn memory_after(mut decode: Command, megabytes: &[usize]) -> Vec<u64> {
    let (start, pages) = endless();
    let mut child = decode
        .args(["--summary", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary has been built");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(&start).expect("it reads on");
    let mut sent = 0;
    let used = megabytes
        .iter()
        .map(|until| {
            for _ in sent..*until {
                stdin.write_all(&pages).expect("it reads on");
            }
            sent = *until;
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
            let status = status.expect("it runs");
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = line.and_then(|line| line.trim().strip_suffix(" kB"));
            peak.and_then(|peak| peak.parse().ok())
                .expect("Linux says how much")
        })
        .collect();
    drop(stdin);
    assert_eq!(
        child.wait().expect("it ends").code(),
        Some(1),
        "the stream is cut short"
    );
    used
}
