//! Slow sources.

use std::io::Write;

use retpath_engine::driver::RunError;

use super::trial::Trial;
use retpath_support::loops::{LONG, Net, connect, connect_tcp, listen};
use retpath_support::receiver::{Receiver, serves_the_next};
use retpath_support::wire::recording;

/// The result does not depend on how the stream is split.
#[test]
fn receives_a_migration_one_byte_at_a_time() {
    let _trial = Trial::new("byte by byte");
    let stream = recording(2).bytes;
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect(receiver.address());
    for byte in &stream {
        socket
            .write_all(&[*byte])
            .expect("socket accepts the bytes");
    }
    let (listener, core) = receiver.complete();
    assert_eq!(core.stats().pauses, 0);
    drop(socket);
    serves_the_next(listener);

    let (_dir, listener) = listen(Net::Tcp);
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect_tcp(receiver.address());
    socket.set_nodelay(true).expect("socket option can be set");
    for byte in &stream {
        socket
            .write_all(&[*byte])
            .expect("socket accepts the bytes");
    }
    serves_the_next(receiver.complete().0);
}

/// The loop waits for a source that is silent in precopy, as the protocol allows, until it is
/// stopped.
#[test]
fn stops_while_the_source_is_silent() {
    let _trial = Trial::new("silence in precopy");
    let stream = recording(2);
    let (_dir, mut listener) = listen(Net::Unix);
    for size in [100, 150, stream.package / 2, stream.package - 1] {
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        socket
            .write_all(&stream.bytes[..size])
            .expect("socket accepts the bytes");
        receiver.heard();
        receiver.control().stop();
        let error;
        (listener, error) = receiver.failed();
        assert!(matches!(error, RunError::Stopped), "{error}");
    }
    serves_the_next(listener);
}
