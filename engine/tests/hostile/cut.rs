//! Sources that disconnect.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use retpath_codec::wire::section::SECTION_FOOTER;
use retpath_engine::destination::ErrorKind;
use retpath_engine::driver::RunError;
use retpath_engine::socket::Transport;

use super::sender::{hold_on, serve_over};
use super::trial::Trial;
use retpath_support::loops::{LONG, Net, connect, listen};
use retpath_support::receiver::{Receiver, serve_well, serves_the_next, until_dropped};
use retpath_support::wire::{PAGES, RUN, find, first_section, pieces, recording};

/// PING.
const PING: u8 = 2;

/// Before the guest may run, the source still has it: the migration fails with an error, and the
/// listener accepts the next source.
#[test]
fn fails_when_the_source_disconnects_at_any_byte_before_run() {
    let _trial = Trial::new("disconnecting before RUN");
    let stream = recording(0);
    let end = find(&stream.bytes, RUN).end;
    let first = first_section(&stream.bytes);
    let (_dir, mut listener) = listen(Net::Unix);
    for size in 1..end {
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        // The destination may close the connection before the last byte is written.
        socket
            .write_all(&stream.bytes[..size])
            .expect("socket accepts the bytes");
        drop(socket);
        if size < first {
            // It was never bound: the next source begins.
            serve_well(receiver.address(), None, false);
            listener = receiver.complete().0;
            continue;
        }
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

/// Counts writes.
struct Counting {
    inner: Box<dyn Transport>,
    writes: Arc<AtomicU64>,
}

impl AsFd for Counting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Transport for Counting {
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.inner.read_vectored(bufs)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writes.fetch_add(1, Relaxed);
        self.inner.write_vectored(bufs)
    }

    fn shut_down(&self) {
        self.inner.shut_down();
    }
}

/// It reads no answers, and may still send. Sockets report themselves writable all the time.
#[test]
fn does_not_spin_when_a_source_in_precopy_stops_reading() {
    let _trial = Trial::new("a source that stops reading");
    let stream = recording(0).bytes;
    let (_dir, mut listener) = listen(Net::Unix);
    let writes = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&writes);
    listener.on_accept(move |link| {
        let writes = Arc::clone(&counter);
        link.wrap(|inner| Box::new(Counting { inner, writes }))
    });
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect(receiver.address());
    socket.shutdown(Shutdown::Read).expect("open");
    socket
        .write_all(&stream[..first_section(&stream)])
        .expect("room");
    receiver.heard();
    receiver.turns();
    let writes = writes.load(Relaxed);
    assert!((1..10).contains(&writes), "{writes} writes");
    drop(socket);
    receiver.failed();
}

/// Its PONGs stay here; QEMU sends five PINGs.
#[test]
fn fails_when_a_source_floods_it_with_pings_and_does_not_read() {
    let _trial = Trial::new("a flood of PINGs");
    let stream = recording(0).bytes;
    let ping = find(&stream, PING);
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect(receiver.address());
    let footer = pieces(&stream)
        .into_iter()
        .find(|piece| stream[piece.start] == SECTION_FOOTER);
    let start = footer.expect("a section ends").end;
    socket.write_all(&stream[..start]).expect("room");
    let pings = stream[ping].repeat(1 << 10);
    let mut sent = 0;
    // A million PONGs are 8 MB.
    while sent < 1 << 10 && socket.write_all(&pings).is_ok() {
        sent += 1;
    }
    let _ = socket.shutdown(Shutdown::Write);
    let (_, error) = receiver.failed();
    let RunError::Destination(error) = error else {
        panic!("{error}");
    };
    assert!(matches!(error.kind, ErrorKind::Violation(_)), "{error}");
}

/// After RUN the guest may be at the destination: another source sends exactly
/// the missing pages.
#[test]
fn keeps_received_pages_when_the_source_disconnects_in_postcopy() {
    let _trial = Trial::new("disconnecting in postcopy");
    let stream = recording(1);
    let (_dir, mut listener) = listen(Net::Unix);
    let rest = stream.bytes.len() - stream.package;
    let sizes = (0..rest).step_by(rest / 4).chain(rest - 1..rest);
    for size in sizes {
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        let bytes = &stream.bytes[..stream.package + size];
        socket.write_all(bytes).expect("socket accepts the bytes");
        drop(socket);
        let source = serve_well(receiver.address(), None, true);
        let (next, core) = receiver.complete();
        assert_eq!(core.stats().pauses, 1);
        let sent = source.stats().sweep + source.stats().demand;
        assert_eq!(core.stats().present, 0, "a page came twice");
        let whole = u64::try_from(size / 4104).expect("fits in u64");
        assert!(sent <= PAGES - 1 - whole, "{sent} pages after {size} bytes");
        listener = next;
    }
    serves_the_next(listener);
}

/// A source that has not received SHUT would try to recover a complete migration
/// indefinitely.
#[test]
fn waits_for_a_source_that_disconnected_before_shut() {
    let _trial = Trial::new("disconnecting before SHUT");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect(receiver.address());
    let (last, bytes) = stream.bytes.split_last().expect("not empty");
    socket.write_all(bytes).expect("socket accepts the bytes");
    receiver.running();
    // Connect before the old link ends, so that the order in the accept queue is fixed.
    let address = receiver.address().clone();
    let link = address.connect(false).expect("connects");
    let next = thread::spawn(move || serve_over(link, &address));
    // From here on, SHUT cannot be written.
    socket
        .shutdown(Shutdown::Read)
        .expect("connection has an address");
    socket
        .write_all(&[*last])
        .expect("socket accepts the bytes");
    drop(socket);
    next.join().expect("source thread does not panic");
    let (listener, core) = receiver.complete();
    assert_eq!(core.stats().resumes, 1);
    serves_the_next(listener);
}

/// The destination does not wait for a source that has sent everything and does not close.
#[test]
fn finishes_when_the_source_keeps_the_connection_open() {
    let _trial = Trial::new("not disconnecting");
    let stream = recording(0);
    let (_dir, listener) = listen(Net::Unix);
    let recovery = Duration::from_secs(1);
    let receiver = Receiver::start(listener, false, recovery);
    let mut first = connect(receiver.address());
    first
        .write_all(&stream.bytes[..stream.package + 5000])
        .expect("socket accepts the bytes");
    receiver.running();
    drop(first);
    // The next source recovers, sends everything, and keeps the link open.
    let source = hold_on(receiver.address());
    let (listener, core) = receiver.complete();
    assert!(core.stats().pauses >= 1);
    until_dropped(&mut source.join().expect("source thread does not panic"));
    serves_the_next(listener);
}
