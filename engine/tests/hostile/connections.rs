//! Strangers at the listener.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use retpath_engine::Channel;
use retpath_engine::driver::RunError;
use retpath_engine::source::{Config, Preempt, Source};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::trial::Trial;
use retpath_support::receiver::{
    Dial, LONG, Net, Receiver, connect, connect_tcp, listen, serve_by, serve_well, serves_the_next,
    until_dropped,
};
use retpath_support::wire::{PAGES, blocks, config, recording};

/// Strangers, half of whom stay.
const STRANGERS: usize = 1000;

/// Both ends of every connection are in this process.
fn allow_descriptors() {
    let limits = getrlimit(Resource::Nofile);
    let enough = limits.maximum.map_or(4096, |most| most.min(4096));
    if limits.current.is_some_and(|now| now < enough) {
        let current = Some(enough);
        setrlimit(Resource::Nofile, Rlimit { current, ..limits }).expect("below the maximum");
    }
}

/// Opens connections; every other one is closed at once.
fn crowd(connect: impl Fn() -> OwnedFd) -> Vec<OwnedFd> {
    allow_descriptors();
    let all = (0..STRANGERS).map(|n| (n, connect()));
    all.filter_map(|(n, socket)| (n % 2 == 0).then_some(socket))
        .collect()
}

#[test]
fn serves_a_source_behind_a_thousand_strangers() {
    let _trial = Trial::new("strangers");
    for preempt in [None, Some(Preempt::Late), Some(Preempt::Early)] {
        let (_dir, listener) = listen(Net::Unix);
        let receiver = Receiver::start(listener, preempt.is_some(), LONG);
        let crowd = crowd(|| connect(receiver.address()).into());
        serve_well(receiver.address(), preempt, false);
        let (_, core) = receiver.complete();
        assert_eq!(core.stats().pauses, 0);
        drop(crowd);
    }
}

#[test]
fn serves_a_source_behind_a_thousand_strangers_over_tcp() {
    let _trial = Trial::new("strangers over TCP");
    let (_dir, listener) = listen(Net::Tcp);
    let receiver = Receiver::start(listener, false, LONG);
    let crowd = crowd(|| connect_tcp(receiver.address()).into());
    serve_well(receiver.address(), None, false);
    receiver.complete();
    drop(crowd);
}

/// The preempt channel has no beginning that could be asked for: it is known
/// by its first page.
#[test]
fn knows_the_preempt_channel_among_strangers() {
    let _trial = Trial::new("strangers before the preempt channel");
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let config = Config {
        // Pages come over the preempt channel, or not at all.
        bandwidth: 1,
        ..config(Some(Preempt::Late))
    };
    let mut crowd = Vec::new();
    let mut dial = Dial(receiver.address().clone(), |channel| {
        if channel == Channel::Preempt {
            for said in [&b""[..], b"GET / HTTP/1.1", b"\x08", b""] {
                let mut socket = connect(receiver.address());
                socket.write_all(said).expect("room");
                crowd.push(socket);
            }
            connect(receiver.address());
        }
    });
    let guest = receiver.touch_all();
    let source = serve_by(Source::new(config, blocks()).expect("good"), &mut dial);
    guest.join().expect("read");
    assert!(source.stats().demand > PAGES / 2);
    let (_, core) = receiver.complete();
    assert_eq!(core.stats().pauses, 0);
    drop(crowd);
}

#[test]
fn recovers_behind_a_thousand_strangers() {
    let _trial = Trial::new("strangers in a pause");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, true, Duration::from_secs(5));
    let mut first = connect(receiver.address());
    let bytes = &stream.bytes[..stream.package + 9000];
    first.write_all(bytes).expect("room");
    receiver.running();
    drop(first);
    receiver.pauses(1);
    let crowd = crowd(|| connect(receiver.address()).into());
    let source = serve_well(receiver.address(), Some(Preempt::Late), true);
    assert!(source.stats().resumes > 0);
    receiver.complete();
    drop(crowd);
}

/// One that has begun to speak like a source keeps nobody out, either.
#[test]
fn serves_a_source_behind_half_a_header() {
    let _trial = Trial::new("half a header");
    let header = &recording(0).bytes[..8];
    let others = [&b"x"[..], b"GET"];
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let strangers: Vec<_> = (0..8)
        .map(|size| &header[..size])
        .chain(others)
        .map(|said| {
            let mut socket = connect(receiver.address());
            socket.write_all(said).expect("room");
            socket
        })
        .collect();
    serve_well(receiver.address(), None, false);
    receiver.complete();
    drop(strangers);
}

#[test]
fn tells_what_is_no_migration() {
    let _trial = Trial::new("no migration");
    let (_dir, mut listener) = listen(Net::Unix);
    for said in [&b"GET / HTTP/1.1\r\n"[..], b"QEVM\0\0\0\x02", b"x", b"QEV"] {
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        socket.write_all(said).expect("room");
        if said.len() < 8 {
            socket
                .shutdown(std::net::Shutdown::Write)
                .expect("connected");
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
