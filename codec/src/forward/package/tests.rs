//! The end of a package without footers.

use alloc::vec::Vec;

use super::*;

const RUN: [u8; 5] = [8, 0, 5, 0, 0];
const LISTEN: [u8; 5] = [8, 0, 4, 0, 0];
const PING: [u8; 9] = [8, 0, 2, 0, 4, 0, 0, 0, 3];

fn all(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn finds_every_end_of_a_package() {
    for tail in [
        all(&[&RUN]),
        all(&[&PING, &RUN]),
        all(&[&PING, &PING, &RUN]),
    ] {
        let package = all(&[&[0xee; 30], &tail]);
        let mut at = 0;
        loop {
            let left = u64::try_from(package.len() - at).unwrap();
            match next(&package[at..], left).unwrap() {
                Some(Next::State(size)) => at += size,
                Some(Next::Tail) => break,
                None => panic!("no tail"),
            }
        }
        assert_eq!(at, 30);
    }
}

#[test]
fn refuses_a_package_without_ping_and_run() {
    let package = [0xee; 5];
    assert_eq!(next(&package, 5).unwrap(), None);
    assert_eq!(next(&PING[..4], 4).unwrap(), None);
}

#[test]
fn does_not_mistake_other_commands_for_the_end_of_a_package() {
    let package = all(&[&PING, &LISTEN]);
    assert_eq!(next(&package, 14).unwrap(), Some(Next::State(9)));
    assert_eq!(next(&LISTEN, 5).unwrap(), None);
    // Nor bytes after RUN.
    let package = all(&[&RUN, &PING]);
    assert_eq!(next(&package, 14).unwrap(), Some(Next::State(9)));
    // Even if few of them are available.
    assert_eq!(next(&package[..5], 14).unwrap(), Some(Next::State(5)));
}

#[test]
fn does_not_wait_beyond_the_package() {
    let package = all(&[&PING, &PING[..5]]);
    assert_eq!(next(&package, 14).unwrap(), Some(Next::State(9)));
    assert_eq!(next(&PING[..5], 5).unwrap(), None);
}

#[test]
fn returns_chunks_of_a_package_larger_than_memory() {
    assert_eq!(next(&[0; 7], u64::MAX).unwrap(), Some(Next::State(7)));
}

#[test]
fn waits_only_while_the_end_of_a_package_is_possible() {
    assert!(matches!(next(&PING[..6], 14), Err(Stop::Need(1))));
    assert!(matches!(next(&[], 40), Err(Stop::Need(1))));
    assert_eq!(next(&[0; 5], 14).unwrap(), Some(Next::State(5)));
}
