//! Unrelated connections to the destination's listener.

use std::io::Write;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Duration;

use retpath_codec::forward::write;
use retpath_codec::wire::section::MULTIFD_MAGIC;
use retpath_engine::Channel;
use retpath_engine::destination::pending::MAX_PENDING;
use retpath_engine::driver::{Connector, RunError};
use retpath_engine::source::{Preempt, Source};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::trial::Trial;
use retpath_support::loops::{DialAfter, LONG, Net, connect, connect_tcp, listen};
use retpath_support::receiver::{Receiver, serve_by, serve_well, until_dropped};
use retpath_support::saved_stream::Stream;
use retpath_support::wire::{PAGES, blocks, config, pieces, recording};

/// Number of unrelated connections; half of them stay open.
const CONNECTIONS: usize = 1000;

/// Raises the descriptor limit, because this process holds both ends of every connection.
fn allow_descriptors() {
    let limits = getrlimit(Resource::Nofile);
    let enough = limits.maximum.map_or(4096, |most| most.min(4096));
    if limits.current.is_some_and(|now| now < enough) {
        let current = Some(enough);
        setrlimit(Resource::Nofile, Rlimit { current, ..limits })
            .expect("limit is below the maximum");
    }
}

/// Opens connections and immediately closes every other one.
fn open_many(connect: impl Fn() -> OwnedFd) -> Vec<OwnedFd> {
    allow_descriptors();
    let all = (0..CONNECTIONS).map(|n| (n, connect()));
    all.filter_map(|(n, socket)| (n % 2 == 0).then_some(socket))
        .collect()
}

#[test]
fn serves_a_source_after_a_thousand_other_connections() {
    let _trial = Trial::new("other connections");
    for preempt in [None, Some(Preempt::Late), Some(Preempt::Early)] {
        let (_dir, listener) = listen(Net::Unix);
        let receiver = Receiver::start(listener, preempt.is_some(), LONG);
        let others = open_many(|| connect(receiver.address()).into());
        serve_well(receiver.address(), preempt, false);
        let (_, core) = receiver.complete();
        assert_eq!(core.stats().pauses, 0);
        drop(others);
    }
}

#[test]
fn serves_a_source_after_a_thousand_other_connections_over_tcp() {
    let _trial = Trial::new("other connections over TCP");
    let (_dir, listener) = listen(Net::Tcp);
    let receiver = Receiver::start(listener, false, LONG);
    let others = open_many(|| connect_tcp(receiver.address()).into());
    serve_well(receiver.address(), None, false);
    receiver.complete();
    drop(others);
}

/// The preempt channel has no header: its first page identifies it.
#[test]
fn finds_the_preempt_channel_among_other_connections() {
    let _trial = Trial::new("connections before the preempt channel");
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let config = config(Some(Preempt::Late))
        // Throttle the background sweep, so that pages use the preempt channel.
        .bandwidth(1)
        .predict(false);
    let mut others = Vec::new();
    let mut dial = DialAfter(receiver.address().clone(), |channel| {
        if channel == Channel::Preempt {
            for said in [&b""[..], b"GET / HTTP/1.1", b"\x08", b""] {
                let mut socket = connect(receiver.address());
                socket.write_all(said).expect("socket accepts the bytes");
                others.push(socket);
            }
            connect(receiver.address());
        }
    });
    let guest = receiver.touch_all();
    let source = serve_by(
        Source::new(config, blocks()).expect("valid configuration"),
        &mut dial,
    );
    guest.join().expect("guest thread does not panic");
    assert!(source.stats().demand > PAGES / 2);
    let (_, core) = receiver.complete();
    assert_eq!(core.stats().pauses, 0);
    drop(others);
}

/// A page on it may arrive long before LISTEN is read.
#[test]
fn reads_a_preempt_channel_that_began_before_listen() {
    let _trial = Trial::new("an early page on the preempt channel");
    let stream = recording(0).bytes;
    let page = |piece: &Range<usize>| piece.len() >= 4096 + 8 && stream[piece.start + 7] & 8 != 0;
    let pieces = pieces(&stream);
    let page = pieces.into_iter().rfind(page).expect("a page");
    let word = &stream[page.start..][..8];
    let offset = u64::from_be_bytes(word.try_into().expect("8 bytes")) & !0xfff;
    let mut urgent = (offset | 8).to_be_bytes().to_vec();
    urgent.extend(b"\x06pc.ram");
    urgent.extend(&stream[page.end - 4096..page.end]);

    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let guest = receiver.touch_all();
    let mut main = connect(receiver.address());
    main.write_all(&stream[..100]).expect("room");
    receiver.heard();
    let mut preempt = connect(receiver.address());
    preempt.write_all(&urgent).expect("room");
    receiver.turns();
    main.write_all(&stream[100..page.start]).expect("room");
    main.write_all(&stream[page.end..]).expect("room");
    let (_, core) = receiver.complete();
    guest.join().expect("guest thread does not panic");
    assert_eq!(core.stats().pauses, 0);
}

#[test]
fn recovers_after_a_thousand_other_connections() {
    let _trial = Trial::new("connections during a pause");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, true, Duration::from_secs(5));
    let mut first = connect(receiver.address());
    let bytes = &stream.bytes[..stream.package + 9000];
    first.write_all(bytes).expect("socket accepts the bytes");
    receiver.running();
    drop(first);
    receiver.pauses(1);
    let others = open_many(|| connect(receiver.address()).into());
    let source = serve_well(receiver.address(), Some(Preempt::Late), true);
    assert!(source.stats().resumes > 0);
    receiver.complete();
    drop(others);
}

/// Connections that started like a source do not block others.
#[test]
fn serves_a_source_after_connections_that_fall_silent_in_their_first_message() {
    let _trial = Trial::new("silence in the first message");
    // The header, the machine type, the commands, and the first bytes of a section.
    let head = &recording(0).bytes[..70];
    let others = [&b"x"[..], b"GET"];
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let connections: Vec<_> = (0..=head.len())
        .map(|size| &head[..size])
        .chain(others)
        .map(|said| {
            let mut socket = connect(receiver.address());
            socket.write_all(said).expect("socket accepts the bytes");
            socket
        })
        .collect();
    serve_well(receiver.address(), None, false);
    receiver.complete();
    drop(connections);
}

#[test]
fn serves_a_source_after_connections_that_are_not_migrations() {
    let _trial = Trial::new("not a migration");
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    for said in [&b"GET / HTTP/1.1\r\n"[..], b"QEVM\0\0\0\x02", b"x", b"QEV"] {
        let mut socket = connect(receiver.address());
        socket.write_all(said).expect("socket accepts the bytes");
        if said.len() < 8 {
            socket
                .shutdown(std::net::Shutdown::Write)
                .expect("connection has an address");
        }
        until_dropped(&mut socket);
    }
    serve_well(receiver.address(), None, false);
    receiver.complete();
}

#[test]
fn finds_a_late_preempt_channel_after_more_idle_connections_than_are_kept() {
    let _trial = Trial::new("idle connections before the preempt channel");
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut idle = Vec::new();
    let mut dial = DialAfter(receiver.address().clone(), |channel| {
        if channel == Channel::Preempt {
            idle.extend((0..MAX_PENDING + 8).map(|_| connect(receiver.address())));
        }
    });
    serves_touches(&receiver, &mut dial);
    receiver.complete();
}

/// Serves a guest that touches every page, over a late preempt channel.
fn serves_touches(receiver: &Receiver, dial: &mut dyn Connector) {
    let config = config(Some(Preempt::Late)).bandwidth(1);
    let guest = receiver.touch_all();
    serve_by(
        Source::new(config, blocks()).expect("valid configuration"),
        dial,
    );
    guest.join().expect("guest thread does not panic");
}

/// It connects before the real one, and sends a page that is not requested.
#[test]
fn no_other_connection_becomes_the_preempt_channel() {
    let _trial = Trial::new("a stranger's page");
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut page = ((PAGES - 2) * 4096 + 8).to_be_bytes().to_vec();
    page.extend(b"\x06pc.ram");
    page.extend([0xee; 4096]);
    let mut strangers = Vec::new();
    let mut dial = DialAfter(receiver.address().clone(), |channel| {
        if channel == Channel::Preempt {
            for said in [&page[..], &[0; 8], &16_u64.to_be_bytes()] {
                let mut socket = connect(receiver.address());
                socket.write_all(said).expect("room");
                strangers.push(socket);
            }
        }
    });
    serves_touches(&receiver, &mut dial);
    let (_, core) = receiver.complete();
    assert_eq!(core.stats().pauses, 0);
}

#[test]
fn a_connection_that_begins_like_multifd_ends_nothing() {
    let _trial = Trial::new("a stranger's multifd magic");
    let stream = recording(2).bytes;
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let stranger = || {
        let mut socket = connect(receiver.address());
        let said = MULTIFD_MAGIC.to_be_bytes();
        socket.write_all(&said).expect("room");
        socket
    };
    let before = stranger();
    let mut main = connect(receiver.address());
    main.write_all(&stream[..100]).expect("room");
    receiver.heard();
    let after = stranger();
    receiver.turns();
    main.write_all(&stream[100..]).expect("room");
    receiver.complete();
    drop((before, after));
}

/// Before QEMU 8.1 only the other channels show that the pages are there.
#[test]
fn refuses_a_precopy_migration_whose_pages_are_on_multifd_channels() {
    let _trial = Trial::new("multifd");
    let stream = Stream::new("pc").blocks(&[(b"pc.ram", PAGES)]);
    let mut stream = stream.zero(0, 0).bytes;
    write::eof(&mut stream);
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut multifd = connect(receiver.address());
    let said = MULTIFD_MAGIC.to_be_bytes();
    multifd.write_all(&said).expect("room");
    let mut main = connect(receiver.address());
    main.write_all(&stream).expect("room");
    drop(main);
    let (_, error) = receiver.failed();
    assert!(matches!(error, RunError::Multifd), "{error}");
}
