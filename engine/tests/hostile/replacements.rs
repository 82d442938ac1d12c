//! Strangers that take a broken link's place.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use retpath_codec::command::{Command, PageSizes};
use retpath_codec::{BlockName, NameBuf};

use super::trial::Trial;
use retpath_support::receiver::{
    Net, Receiver, connect, listen, serve_well, serves_the_next, until_dropped,
};
use retpath_support::wire::{PAGES, command, pieces, question, recording};

/// How long one may take that gets nowhere. A good source that is slower than
/// that tries again.
const RECOVERY: Duration = Duration::from_millis(500);

/// Pages that have come before the link breaks.
const THERE: u64 = 7;

/// What strangers say, and whether they close behind it.
fn strangers() -> Vec<(&'static str, Vec<u8>, bool)> {
    let commands = |list: &[Command<_, _>]| {
        let mut bytes = Vec::new();
        list.iter().for_each(|one| command(*one, &mut bytes));
        bytes
    };
    let other = NameBuf::new("pc.rom").expect("a good name");
    let block = other.name();
    let mut twice = question();
    twice.extend(question());
    let lie = |length: u16| {
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
        ("nothing, and goes", vec![], true),
        ("one byte", vec![8], false),
        ("one byte, and goes", vec![8], true),
        ("no command", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        ("a first header", recording(0).bytes[..200].to_vec(), false),
        ("a whole migration", recording(0).bytes, true),
        ("a page", page, false),
        ("zeros", vec![0; 100_000], false),
        ("a question, and goes", question(), true),
        ("a question, and then nothing", question(), false),
        ("half a question", question()[..7].to_vec(), false),
        ("a question twice", twice, false),
        ("a long command", lie(u16::MAX), false),
        ("a short command", lie(1), false),
        (
            "another block",
            commands(&[Command::RecvBitmap { block }]),
            false,
        ),
        (
            "the end at once",
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

/// Whatever they say before the migration goes on, it goes on with the next
/// one, and nothing that was there is sent again.
#[test]
fn keeps_everything_through_hostile_replacements() {
    let _trial = Trial::new("replacements");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, RECOVERY);
    let mut first = connect(receiver.address());
    let end = pieces(&stream.bytes)
        .into_iter()
        .filter(|piece| piece.start >= stream.package)
        .filter(|piece| is_page(&stream.bytes[piece.clone()]))
        .nth(usize::try_from(THERE - 1).expect("small"));
    let end = end.expect("so many pages").end;
    first.write_all(&stream.bytes[..end]).expect("room");
    receiver.running();
    drop(first);
    receiver.pauses(1);
    for (name, said, goes) in strangers() {
        println!("{name}");
        let mut socket = connect(receiver.address());
        // It may be refused before all of it is out.
        let _ = socket.write_all(&said);
        if goes {
            let _ = socket.shutdown(Shutdown::Write);
        }
        until_dropped(&mut socket);
    }
    let source = serve_well(receiver.address(), None, true);
    let (listener, core) = receiver.complete();
    assert!(core.stats().pauses > 15, "{}", core.stats().pauses);
    assert_eq!(core.stats().present, 0);
    let sent = source.stats().sweep + source.stats().demand;
    assert_eq!(sent, PAGES - THERE, "each missing page once");
    serves_the_next(listener);
}

/// Whether a piece of a section is a page's record: the only long or zero ones.
fn is_page(piece: &[u8]) -> bool {
    let flags = piece.get(7).map_or(0, |byte| byte & 0x0a);
    piece.len() >= 9 && flags != 0
}

/// One that says nothing is not even tried: the next one comes at once.
#[test]
fn does_not_wait_for_a_silent_replacement() {
    let _trial = Trial::new("a silent replacement");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    // No limit would let go of it.
    let receiver = Receiver::start(listener, false, retpath_support::receiver::LONG);
    let mut first = connect(receiver.address());
    let bytes = &stream.bytes[..stream.package + 9000];
    first.write_all(bytes).expect("room");
    receiver.running();
    let silent = connect(receiver.address());
    drop(first);
    serve_well(receiver.address(), None, true);
    let (_, core) = receiver.complete();
    assert_eq!(core.stats().pauses, 1);
    drop(silent);
}
