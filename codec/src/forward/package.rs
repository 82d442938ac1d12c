//! How a package ends, where the sections in it cannot be told apart.

use crate::command::{Command, Commands};
use crate::forward::cursor::Stop;
use crate::frame::{Decoded, decode};

/// Sizes of what may stand at the end of a package, largest first: PING, PING
/// 0x42 (since QEMU 10.2) and RUN; PING and RUN; RUN.
const TAILS: [usize; 3] = [23, 14, 5];

/// What is at the start of a slice inside a package.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This many bytes of device state.
    State(usize),
    /// The commands at the package's end.
    Tail,
}

/// Looks at the start of `view`, with `left` bytes up to the package's end of
/// which `view` holds the first ones. `None` if the package ends without RUN.
pub(super) fn next(view: &[u8], left: u64) -> Result<Option<Next>, Stop> {
    for size in TAILS {
        let Ok(left) = usize::try_from(left) else {
            return some(view, view.len());
        };
        if left > size {
            return some(view, left - size);
        }
        if left < size {
            continue;
        }
        match is_tail(view.get(..size).unwrap_or(view)) {
            Some(true) => return Ok(Some(Next::Tail)),
            Some(false) => {}
            // Each further byte may settle it.
            None => return Err(Stop::Need(1)),
        }
    }
    Ok(None)
}

/// As much state as there is, up to `most` bytes.
fn some(view: &[u8], most: usize) -> Result<Option<Next>, Stop> {
    if view.is_empty() {
        return Err(Stop::Need(1));
    }
    Ok(Some(Next::State(view.len().min(most))))
}

/// Whether these bytes are PINGs and then RUN; `None` if more must be seen.
fn is_tail(mut bytes: &[u8]) -> Option<bool> {
    loop {
        match decode::<Commands>(bytes) {
            Ok(Decoded::Message { message, rest }) => match message {
                Command::Ping { .. } => bytes = rest,
                Command::PostcopyRun => return Some(rest.is_empty()),
                _ => return Some(false),
            },
            Ok(Decoded::Need(_)) => return None,
            Err(_) => return Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const RUN: [u8; 5] = [8, 0, 5, 0, 0];
    const PING: [u8; 9] = [8, 0, 2, 0, 4, 0, 0, 0, 3];

    fn all(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn finds_every_tail() {
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
    fn refuses_a_package_without_a_tail() {
        let package = [0xee; 5];
        assert_eq!(next(&package, 5).unwrap(), None);
        assert_eq!(next(&PING[..4], 4).unwrap(), None);
    }

    #[test]
    fn waits_only_while_a_tail_is_possible() {
        assert!(matches!(next(&PING[..6], 14), Err(Stop::Need(1))));
        assert!(matches!(next(&[], 40), Err(Stop::Need(1))));
        assert_eq!(next(&[0; 5], 14).unwrap(), Some(Next::State(5)));
    }
}
