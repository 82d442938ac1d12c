//! Unrelated connections to the destination's listener.

use std::io::Write;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Duration;

use retpath_engine::Channel;
use retpath_engine::driver::RunError;
use retpath_engine::source::{Preempt, Source};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::trial::Trial;
use retpath_support::loops::{DialAfter, LONG, Net, connect, connect_tcp, listen};
use retpath_support::receiver::{Receiver, serve_by, serve_well, serves_the_next, until_dropped};
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
        .bandwidth(1);
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
    let mut main = connect(receiver.address());
    main.write_all(&stream[..50]).expect("room");
    receiver.heard();
    let mut preempt = connect(receiver.address());
    preempt.write_all(&urgent).expect("room");
    receiver.turns();
    main.write_all(&stream[50..page.start]).expect("room");
    main.write_all(&stream[page.end..]).expect("room");
    let (_, core) = receiver.complete();
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
fn serves_a_source_after_connections_with_half_a_header() {
    let _trial = Trial::new("half a header");
    let header = &recording(0).bytes[..8];
    let others = [&b"x"[..], b"GET"];
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let connections: Vec<_> = (0..8)
        .map(|size| &header[..size])
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
fn rejects_connections_that_are_not_migrations() {
    let _trial = Trial::new("not a migration");
    let (_dir, mut listener) = listen(Net::Unix);
    for said in [&b"GET / HTTP/1.1\r\n"[..], b"QEVM\0\0\0\x02", b"x", b"QEV"] {
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        socket.write_all(said).expect("socket accepts the bytes");
        if said.len() < 8 {
            socket
                .shutdown(std::net::Shutdown::Write)
                .expect("connection has an address");
        }
        until_dropped(&mut socket);
        let error;
        (listener, error) = receiver.failed();
        assert!(
            matches!(
                error,
                RunError::Decode(_) | RunError::Closed | RunError::Destination(_)
            ),
            "{error}"
        );
    }
    serves_the_next(listener);
}
