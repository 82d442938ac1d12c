//! Sources that repeat or reorder items.

use std::io::Write;
use std::net::Shutdown;
use std::ops::Range;

use retpath_engine::socket::Listener;

use super::trial::Trial;
use retpath_support::loops::{LONG, Net, connect, listen};
use retpath_support::receiver::{Receiver, serve_well, serves_the_next, until_dropped};
use retpath_support::wire::{Recording, first_section, pieces, recording};

/// Sends a stream. If the destination then waits for recovery, a well-behaved source sends the
/// missing pages. Returns whether it did.
fn survives(listener: Listener, stream: &[u8]) -> (Listener, bool) {
    let receiver = Receiver::start(listener, false, LONG);
    let mut socket = connect(receiver.address());
    // The destination may close the connection before everything is written.
    let _ = socket.write_all(stream);
    let _ = socket.shutdown(Shutdown::Write);
    until_dropped(&mut socket);
    let kept = receiver.wants_another();
    if kept {
        serve_well(receiver.address(), None, true);
        return (receiver.complete().0, true);
    }
    (receiver.end().0, false)
}

fn survives_all(streams: impl Iterator<Item = Vec<u8>>) {
    let (_dir, mut listener) = listen(Net::Unix);
    let (mut count, mut all) = (0, 0);
    for stream in streams {
        let kept;
        (listener, kept) = survives(listener, &stream);
        count += usize::from(kept);
        all += 1;
    }
    // Both outcomes must occur.
    assert!(count > 0 && count < all, "{count} of {all}");
    serves_the_next(listener);
}

/// Returns items from the first section, from the pages, and from the end. A connection whose
/// items before its first section are in disorder is not bound.
fn interesting(stream: &Recording) -> Vec<Range<usize>> {
    let all = pieces(&stream.bytes);
    let bound = first_section(&stream.bytes);
    let first = bound..stream.package + 2 * 4104;
    let last = all.len() - 4;
    let at = |n: usize, piece: &Range<usize>| first.contains(&piece.start) || n >= last;
    let all = all.into_iter().enumerate();
    all.filter_map(|(n, piece)| at(n, &piece).then_some(piece))
        .collect()
}

#[test]
fn survives_every_repeated_item() {
    let _trial = Trial::new("repetitions");
    let stream = recording(2);
    let (pieces, stream) = (interesting(&stream), stream.bytes);
    survives_all(pieces.into_iter().map(|piece| {
        let mut bytes = stream[..piece.end].to_vec();
        bytes.extend(&stream[piece.start..]);
        bytes
    }));
}

#[test]
fn survives_every_swap_of_adjacent_items() {
    let _trial = Trial::new("swaps");
    let stream = recording(2);
    let (pieces, stream) = (interesting(&stream), stream.bytes);
    survives_all(
        pieces
            .windows(2)
            .filter(|pair| pair[0].end == pair[1].start)
            .map(|pair| {
                let [first, second] = [pair[0].clone(), pair[1].clone()];
                let mut bytes = stream[..first.start].to_vec();
                bytes.extend(&stream[second.clone()]);
                bytes.extend(&stream[first]);
                bytes.extend(&stream[second.end..]);
                bytes
            }),
    );
}
