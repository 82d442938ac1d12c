//! Sources that take their time.

use std::io::Write;

use retpath_engine::driver::RunError;

use super::trial::Trial;
use retpath_support::receiver::{
    LONG, Net, Receiver, connect, connect_tcp, listen, serves_the_next,
};
use retpath_support::wire::recording;

/// Byte by byte: nothing in the loop depends on how the bytes come.
#[test]
fn takes_a_migration_a_byte_at_a_time() {
    let _trial = Trial::new("byte by byte");
    let stream = recording(2).bytes;
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect(receiver.address());
    for byte in &stream {
        socket.write_all(&[*byte]).expect("taken");
    }
    let (listener, core) = receiver.complete();
    assert_eq!(core.stats().pauses, 0);
    drop(socket);
    serves_the_next(listener);

    let (_dir, listener) = listen(Net::Tcp);
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect_tcp(receiver.address());
    socket.set_nodelay(true).expect("an option");
    for byte in &stream {
        socket.write_all(&[*byte]).expect("taken");
    }
    serves_the_next(receiver.complete().0);
}

/// Whoever stops in the middle of precopy is waited for, as the protocol has
/// it, but not against the user's will.
#[test]
fn lets_go_of_a_silent_source_when_told_to() {
    let _trial = Trial::new("silence in precopy");
    let stream = recording(2);
    let (_dir, mut listener) = listen(Net::Unix);
    for size in [8, 20, stream.package / 2, stream.package - 1] {
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        socket.write_all(&stream.bytes[..size]).expect("taken");
        receiver.heard();
        receiver.control().stop();
        let error;
        (listener, error) = receiver.failed();
        assert!(matches!(error, RunError::Stopped), "{error}");
    }
    serves_the_next(listener);
}
