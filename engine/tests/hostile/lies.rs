//! Sources that send wrong lengths.

use std::io::Write;
use std::net::Shutdown;

use super::trial::Trial;
use retpath_support::loops::{LONG, Net, connect, listen};
use retpath_support::receiver::{Receiver, serve_well, serves_the_next, until_dropped};
use retpath_support::wire::{PACKAGED, RUN, find, first_section, recording};

/// The bytes before RUN contain every kind of length: of the machine type, of section names, of
/// blocks and their names, of commands, discards and the package.
#[test]
fn survives_a_wrong_value_in_any_byte_before_run() {
    let _trial = Trial::new("wrong bytes");
    let stream = recording(0).bytes;
    let (first, end) = (first_section(&stream), find(&stream, RUN).start);
    let (_dir, listener) = listen(Net::Unix);
    // Before its first section begins, a connection is not bound, and ends nothing.
    let receiver = Receiver::start(listener, false, LONG);
    for at in 0..first - 1 {
        let mut bytes = stream[..first - 1].to_vec();
        bytes[at] = 0xff;
        let mut socket = connect(receiver.address());
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        until_dropped(&mut socket);
    }
    serve_well(receiver.address(), None, false);
    let mut listener = receiver.complete().0;
    for at in first..end {
        for wrong in [0xff, stream[at].wrapping_add(1)] {
            let mut bytes = stream[..end].to_vec();
            bytes[at] = wrong;
            let receiver = Receiver::start(listener, false, LONG);
            let mut socket = connect(receiver.address());
            // The destination may close the connection before everything is written.
            let _ = socket.write_all(&bytes);
            let _ = socket.shutdown(Shutdown::Write);
            until_dropped(&mut socket);
            (listener, _) = receiver.failed();
        }
        if at % 64 == 0 {
            listener = serves_the_next(listener);
        }
    }
    serves_the_next(listener);
}

/// Memory use grows with the bytes received, not with the announced size.
#[test]
fn allocates_nothing_for_an_announced_package_of_4_gib() {
    let _trial = Trial::new("a package of 4 GiB");
    let stream = recording(0).bytes;
    let package = find(&stream, PACKAGED);
    let mut bytes = stream[..package.end].to_vec();
    bytes[package.end - 4..].fill(0xff);
    // A hundred devices with 60 kB of state each.
    for id in 100..200_u32 {
        bytes.push(4);
        bytes.extend(id.to_be_bytes());
        bytes.extend(b"\x01d\0\0\0\0\0\0\0\x01");
        bytes.extend([0; 60_000]);
        bytes.push(0x7e);
        bytes.extend(id.to_be_bytes());
    }
    let (_dir, listener) = listen(Net::Unix);
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect(receiver.address());
    let _ = socket.write_all(&bytes);
    drop(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    until_dropped(&mut socket);
    serves_the_next(receiver.failed().0);
}

/// In postcopy, a wrong length breaks the link, but no received page is lost.
#[test]
fn keeps_received_pages_when_a_name_length_is_wrong() {
    let _trial = Trial::new("page names");
    let recording = recording(0);
    let stream = &recording.bytes;
    let named = stream[recording.package..]
        .windows(7)
        .position(|bytes| bytes == b"\x06pc.ram")
        .expect("a page with its block's name");
    let (_dir, mut listener) = listen(Net::Unix);
    for length in [0, 1, 5, 7, 255] {
        let mut bytes = stream.clone();
        bytes[recording.package + named] = length;
        let receiver = Receiver::start(listener, false, LONG);
        let mut socket = connect(receiver.address());
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        until_dropped(&mut socket);
        serve_well(receiver.address(), None, true);
        listener = receiver.complete().0;
    }
    serves_the_next(listener);
}
