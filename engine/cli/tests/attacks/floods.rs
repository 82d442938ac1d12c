//! A source that makes `receive` hold, read or store without end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use retpath_codec::Name;
use retpath_codec::command::{Command, PageSizes, Range, Ranges};
use retpath_codec::forward::{Identity, SectionKind, write};
use retpath_support::SOON;
use retpath_support::saved_stream::Stream;
use retpath_support::wire::command;
use tempfile::TempDir;

use super::Size;
use super::cost::{Attacked, MEMORY, flood};

const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;
/// The most blocks of a machine.
const BLOCKS: usize = 4096;
/// What the image stores of a block, besides its pages.
const METADATA: u64 = 8 << 10;
const RAM: &[u8] = b"pc.ram";

/// PONG to the PING of [`answers`].
const LAST: [u8; 8] = [0, 2, 0, 4, 0, 0, 0, 99];

/// A source that may switch to postcopy, up to its only block.
fn advised(len: u64) -> Vec<u8> {
    // Gets no SWITCHOVER_ACK.
    let mut stream = Stream::new("pc-i440fx-7.2");
    command(Command::OpenReturnPath, &mut stream.bytes);
    let sizes = Some(PageSizes {
        summary: PAGE,
        target: PAGE,
    });
    command(Command::PostcopyAdvise { sizes }, &mut stream.bytes);
    stream.blocks(&[(RAM, len / PAGE)]).bytes
}

/// Waits until everything that was sent has been handled.
fn answers(source: &mut UnixStream) {
    let mut ping = Vec::new();
    command(Command::Ping { value: 99 }, &mut ping);
    source.write_all(&ping).expect("it reads");
    let mut pong = [0; 8];
    source.read_exact(&mut pong).expect("an answer");
    assert_eq!(pong, LAST);
}

/// Ranges that do not touch each other, so that none can be merged.
pub(crate) fn discards(size: Size, touch: &str) {
    let attacked = Attacked::receive(&["--touch", touch]);
    let mut source = attacked.connect();
    source.write_all(&advised(GIB)).expect("it reads");
    let mut piece = Vec::new();
    let block = Name::new(RAM).expect("valid name");
    for start in (0..GIB / PAGE).step_by(2 * 4000) {
        let pages = (start..GIB / PAGE).step_by(2).take(4000);
        let ranges: Vec<Range> = pages
            .map(|page| Range::new(page * PAGE, PAGE).expect("valid range"))
            .collect();
        let ranges = Ranges::new(&ranges).expect("valid ranges");
        command(Command::PostcopyRamDiscard { block, ranges }, &mut piece);
    }
    // Whole commands.
    let total = size.mib(64, 655).next_multiple_of(piece.len());
    let sent = flood(&mut source, &piece, total);
    assert_eq!(sent, total);
    answers(&mut source);
    let name = format!("discards, --touch {touch}");
    attacked.account(&name, sent, MEMORY, 0);
}

#[test]
fn a_flood_of_discards_takes_no_memory() {
    discards(Size::Small, "0");
}

#[test]
fn a_flood_of_discards_takes_no_memory_for_pages_to_touch() {
    discards(Size::Small, "100");
}

pub(crate) fn pings(size: Size) {
    let mut attacked = Attacked::receive(&[]);
    let mut source = attacked.connect();
    source.write_all(&advised(GIB)).expect("it reads");
    let mut piece = Vec::new();
    for value in 0..100_000 {
        command(Command::Ping { value }, &mut piece);
    }
    let sent = flood(&mut source, &piece, size.mib(64, 579));
    attacked.account("pings, answers not read", sent, MEMORY, 0);
    if Attacked::is_current() {
        assert_eq!(attacked.wait(SOON).code(), Some(1), "{}", *attacked);
        let errors = attacked.errors();
        assert!(
            errors.contains("PINGs faster than it reads PONGs"),
            "{errors}"
        );
    }
}

#[test]
fn a_flood_of_pings_ends_the_migration() {
    pings(Size::Small);
}

/// A source up to a device whose state has no end.
fn device(stream: Stream) -> Vec<u8> {
    let mut bytes = stream.blocks(&[(RAM, 16)]).zero(0, 0).devices().bytes;
    // EOF. The footer, if there is one, belongs to the state then.
    bytes.pop();
    let identity = Identity {
        idstr: b"disk",
        instance: 0,
        version: 1,
    };
    write::section(SectionKind::Full, 6, Some(identity), &mut bytes).expect("name is short");
    bytes
}

/// Without footers, nothing shows where a device's state ends.
pub(crate) fn idle_device_state(size: Size) {
    let attacked = Attacked::receive(&[]);
    let mut source = attacked.connect();
    source.write_all(&device(Stream::old())).expect("it reads");
    let total = size.mib(64, 1020);
    let sent = flood(&mut source, &[0x55; 1 << 16], total);
    assert_eq!(sent, total);
    // This may be the end mark.
    source.write_all(&[0]).expect("it reads");
    // Several polls, each of which looked at all of it.
    thread::sleep(Duration::from_secs(2));
    let name = "device state without footers, then idle";
    attacked.account(name, sent, MEMORY, total as u64);
}

#[test]
fn device_state_without_footers_takes_no_memory() {
    idle_device_state(Size::Small);
}

pub(crate) fn device_state_beyond_the_limit(size: Size) {
    let limit = size.mib(16, 1024);
    // At full size the limit is the default, which an older build may not have.
    let more: &[&str] = match size {
        Size::Small => &["--max-device-state", "16M"],
        Size::Full => &[],
    };
    let mut attacked = Attacked::receive(more);
    let mut source = attacked.connect();
    let stream = device(Stream::new("pc-i440fx-10.0"));
    source.write_all(&stream).expect("it reads");
    let sent = flood(&mut source, &[0x55; 1 << 16], size.mib(64, 1536));
    drop(source);
    if Attacked::is_current() {
        assert_eq!(attacked.wait(SOON).code(), Some(1), "{}", *attacked);
        let errors = attacked.errors();
        assert!(errors.contains("--max-device-state"), "{errors}");
    }
    let name = "device state beyond the limit";
    attacked.account(name, sent, MEMORY, limit as u64);
}

#[test]
fn device_state_beyond_the_limit_takes_no_more_disk() {
    device_state_beyond_the_limit(Size::Small);
}

/// `receive`, and a machine with many blocks; on a file system in memory, because each has a file.
fn many_blocks(count: usize, pages: u64) -> (Attacked, UnixStream, Stream) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder: TempDir = folder.expect("temporary folder can be created");
    let names: Vec<String> = (0..count).map(|id| format!("block-{id}")).collect();
    let blocks: Vec<_> = names.iter().map(|name| (name.as_bytes(), pages)).collect();
    let stream = Stream::new("pc-i440fx-7.2").blocks(&blocks);
    let attacked = Attacked::receive_in(folder, &[]);
    let source = attacked.connect();
    (attacked, source, stream)
}

/// Each record names another block than the last one.
pub(crate) fn blocks_by_name(size: Size) {
    let count = size.mib(32, 256) / 4096;
    let (mut attacked, mut source, mut stream) = many_blocks(BLOCKS, (count / BLOCKS) as u64);
    for page in 0..count {
        let (block, page) = (page % BLOCKS, page / BLOCKS);
        stream = stream.page(block, page as u64, block as u8 | 1);
    }
    let bytes = stream.devices().description(b"{\"devices\": []}").bytes;
    source.write_all(&bytes).expect("it reads");
    drop(source);
    attacked.wait_success(SOON);
    let name = "pages of 4,096 blocks by name";
    let files = bytes.len() as u64 + METADATA * BLOCKS as u64;
    attacked.account(name, bytes.len(), MEMORY, files);
}

#[test]
fn pages_of_4096_blocks_take_no_memory() {
    blocks_by_name(Size::Small);
}

/// A guest of up to 4 TiB, of which one page arrives.
pub(crate) fn announced_blocks(size: Size) {
    let count = match size {
        Size::Small => BLOCKS / 128,
        Size::Full => BLOCKS,
    };
    let (mut attacked, mut source, stream) = many_blocks(count, GIB / PAGE);
    let stream = stream.page(count - 1, GIB / PAGE - 1, 7).devices();
    let bytes = stream.description(b"{\"devices\": []}").bytes;
    source.write_all(&bytes).expect("it reads");
    drop(source);
    attacked.wait_success(SOON);
    let name = format!("{count} blocks of 1 GiB announced");
    let files = METADATA * count as u64;
    attacked.account(&name, bytes.len(), MEMORY, files);
}

#[test]
fn announced_memory_takes_no_memory() {
    announced_blocks(Size::Small);
}
