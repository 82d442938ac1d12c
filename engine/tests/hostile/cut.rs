//! Sources that go away.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use retpath_engine::driver::RunError;

use super::sender::{hold_on, serve_over};
use super::trial::Trial;
use retpath_support::receiver::{
    LONG, Net, Receiver, connect, listen, serve_well, serves_the_next, until_dropped,
};
use retpath_support::wire::{PAGES, RUN, find, recording};

/// Before the guest may run the source still has it: the migration is over,
/// with a reason, and the next one gets through.
#[test]
fn survives_a_source_that_leaves_at_any_byte_of_the_start() {
    let _trial = Trial::new("leaving at the start");
    let stream = recording(0);
    let end = find(&stream.bytes, RUN).end;
    let (_dir, mut listener) = listen(Net::Unix);
    for size in 1..end {
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        // It may have been refused before the last byte is out.
        socket.write_all(&stream.bytes[..size]).expect("room");
        drop(socket);
        let error;
        (listener, error) = receiver.failed();
        let told = error.to_string();
        assert!(
            matches!(
                error,
                RunError::Closed | RunError::Link { .. } | RunError::Destination(_)
            ),
            "{size} bytes: {told}"
        );
        if size % 64 == 0 || size < 9 {
            listener = serves_the_next(listener);
        }
    }
    serves_the_next(listener);
}

/// From there on the guest may be here: another source brings what is missing,
/// and nothing else.
#[test]
fn keeps_what_came_from_a_source_that_left_in_postcopy() {
    let _trial = Trial::new("leaving in postcopy");
    let stream = recording(1);
    let (_dir, mut listener) = listen(Net::Unix);
    let rest = stream.bytes.len() - stream.package;
    let sizes = (0..rest).step_by(rest / 4).chain(rest - 1..rest);
    for size in sizes {
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        let bytes = &stream.bytes[..stream.package + size];
        socket.write_all(bytes).expect("room");
        drop(socket);
        let source = serve_well(receiver.address(), None, true);
        let (next, core) = receiver.complete();
        assert_eq!(core.stats().pauses, 1);
        let sent = source.stats().sweep + source.stats().demand;
        assert_eq!(core.stats().present, 0, "a page came twice");
        let whole = u64::try_from(size / 4104).expect("small");
        assert!(sent <= PAGES - 1 - whole, "{sent} pages after {size} bytes");
        listener = next;
    }
    serves_the_next(listener);
}

/// The last message has not reached the source: without it, it would try to
/// recover for ever what is over.
#[test]
fn stays_for_a_source_that_left_before_shut() {
    let _trial = Trial::new("leaving before SHUT");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect(receiver.address());
    let (last, bytes) = stream.bytes.split_last().expect("not empty");
    socket.write_all(bytes).expect("room");
    receiver.running();
    // In the queue before the old link ends, so that time plays no part.
    let address = receiver.address().clone();
    let link = address.connect(false).expect("connects");
    let next = thread::spawn(move || serve_over(link, &address));
    // SHUT cannot be written, however soon it comes.
    socket.shutdown(Shutdown::Read).expect("connected");
    socket.write_all(&[*last]).expect("room");
    drop(socket);
    next.join().expect("the source's thread");
    let (listener, core) = receiver.complete();
    assert_eq!(core.stats().resumes, 1);
    serves_the_next(listener);
}

/// A source that has said everything is not waited for, if it does not close.
#[test]
fn lets_go_of_a_source_that_does_not_leave() {
    let _trial = Trial::new("not leaving");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    let recovery = Duration::from_secs(1);
    let receiver = Receiver::start(listener, false, recovery);
    let mut first = connect(receiver.address());
    first
        .write_all(&stream.bytes[..stream.package + 5000])
        .expect("room");
    receiver.running();
    drop(first);
    // Its successor recovers, sends all, and holds on to the link.
    let source = hold_on(receiver.address());
    let (listener, core) = receiver.complete();
    assert!(core.stats().pauses >= 1);
    until_dropped(&mut source.join().expect("the source's thread"));
    serves_the_next(listener);
}
