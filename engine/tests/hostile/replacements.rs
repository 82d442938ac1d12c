//! Hostile connections in place of a broken link.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use retpath_codec::command::{Command, PageSizes};
use retpath_codec::{BlockName, NameBuf};

use super::trial::Trial;
use retpath_support::loops::{LONG, Net, connect, listen};
use retpath_support::receiver::{Receiver, serve_well, serves_the_next, until_dropped};
use retpath_support::wire::{PAGES, command, pieces, question, recording};

/// Recovery timeout. A well-behaved source that exceeds it tries again.
const RECOVERY: Duration = Duration::from_millis(500);

/// Number of pages received before the link breaks.
const RECEIVED: u64 = 7;

/// What each connection sends, and whether it closes afterwards.
fn connections() -> Vec<(&'static str, Vec<u8>, bool)> {
    let commands = |list: &[Command<_, _>]| {
        let mut bytes = Vec::new();
        list.iter().for_each(|one| command(*one, &mut bytes));
        bytes
    };
    let other = NameBuf::new("pc.rom").expect("valid name");
    let block = other.name();
    let mut twice = question();
    twice.extend(question());
    let with_length = |length: u16| {
        let mut bytes = question();
        bytes[3..5].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let mut page = 8_u64.to_be_bytes().to_vec();
    page.extend(b"\x06pc.ram");
    page.extend([0xee; 4096]);
    let sizes = Some(PageSizes {
        summary: 4096,
        target: 4096,
    });
    vec![
        ("nothing, then closes", vec![], true),
        ("one byte, then closes", vec![8], true),
        ("not a command", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        ("a first header", recording(0).bytes[..200].to_vec(), false),
        ("a whole migration", recording(0).bytes, true),
        ("a page", page, false),
        ("zeros", vec![0; 100_000], false),
        ("RECV_BITMAP, then closes", question(), true),
        ("RECV_BITMAP, then silence", question(), false),
        ("half a RECV_BITMAP", question()[..7].to_vec(), true),
        ("RECV_BITMAP twice", twice, false),
        ("a long command", with_length(u16::MAX), false),
        ("a short command", with_length(1), false),
        (
            "another block",
            commands(&[Command::RecvBitmap { block }]),
            false,
        ),
        (
            "POSTCOPY_RESUME at once",
            commands(&[Command::PostcopyResume]),
            false,
        ),
        ("LISTEN", commands(&[Command::PostcopyListen]), false),
        ("RUN", commands(&[Command::PostcopyRun]), false),
        (
            "ADVISE",
            commands(&[Command::PostcopyAdvise { sizes }]),
            false,
        ),
        (
            "a package",
            commands(&[Command::Packaged { size: u32::MAX }]),
            false,
        ),
        ("pings", commands(&[Command::Ping { value: 7 }; 5000]), true),
    ]
}

/// Whatever a connection sends before POSTCOPY_RESUME, the next one resumes the migration, and no
/// received page is sent again.
#[test]
fn keeps_received_pages_through_hostile_reconnections() {
    let _trial = Trial::new("replacements");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, RECOVERY);
    let mut first = connect(receiver.address());
    let end = pieces(&stream.bytes)
        .into_iter()
        .filter(|piece| piece.start >= stream.package)
        .filter(|piece| is_page(&stream.bytes[piece.clone()]))
        .nth(usize::try_from(RECEIVED - 1).expect("fits in usize"));
    let end = end.expect("so many pages").end;
    first
        .write_all(&stream.bytes[..end])
        .expect("socket accepts the bytes");
    receiver.running();
    drop(first);
    receiver.pauses(1);
    for (name, said, goes) in connections() {
        println!("{name}");
        let mut socket = connect(receiver.address());
        // The destination may close the connection before everything is written.
        let _ = socket.write_all(&said);
        if goes {
            let _ = socket.shutdown(Shutdown::Write);
        }
        until_dropped(&mut socket);
    }
    let source = serve_well(receiver.address(), None, true);
    let (listener, core) = receiver.complete();
    // Only those that begin with RECV_BITMAP of the block are tried at all.
    let pauses = core.stats().pauses;
    assert!((3..8).contains(&pauses), "{pauses}");
    assert_eq!(core.stats().present, 0);
    let sent = source.stats().sweep + source.stats().demand;
    assert_eq!(sent, PAGES - RECEIVED, "each missing page once");
    serves_the_next(listener);
}

/// Whether an item is the record of a page.
fn is_page(piece: &[u8]) -> bool {
    let flags = piece.get(7).map_or(0, |byte| byte & 0x0a);
    piece.len() >= 9 && flags != 0
}

/// Connections that fall silent in their first message are skipped: the next one is used at
/// once.
#[test]
fn tries_the_next_connection_when_others_fall_silent() {
    let _trial = Trial::new("silent replacements");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    // No timeout applies to it.
    let receiver = Receiver::start(listener, false, LONG);
    let mut first = connect(receiver.address());
    let bytes = &stream.bytes[..stream.package + 9000];
    first.write_all(bytes).expect("socket accepts the bytes");
    receiver.running();
    let silent: Vec<_> = [&b""[..], b"\x08", &question()[..10], b"\x08"]
        .into_iter()
        .map(|said| {
            let mut socket = connect(receiver.address());
            socket.write_all(said).expect("room");
            socket
        })
        .collect();
    drop(first);
    serve_well(receiver.address(), None, true);
    let (_, core) = receiver.complete();
    assert_eq!(core.stats().pauses, 1);
    drop(silent);
}
