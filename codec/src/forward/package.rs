//! Finds the end of the device state in a package without footers.

use crate::command::{Command, Commands};
use crate::forward::cursor::Stop;
use crate::frame::{Decoded, decode};

/// Sizes of the commands at the end of a package, largest first: PING, PING 0x42
/// (since QEMU 10.2) and RUN; PING and RUN; RUN.
const TAILS: [usize; 3] = [23, 14, 5];

/// What a slice of a package starts with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Device state of this many bytes.
    State(usize),
    /// The commands at the end of the package.
    Tail,
}

/// Classifies the start of `view`, which is the first part of the remaining
/// `left` bytes of the package. Returns `None` if the package ends without RUN.
pub(super) fn next(view: &[u8], left: u64) -> Result<Option<Next>, Stop> {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    for size in TAILS {
        if left > size {
            return some(view, left - size);
        }
        if left < size {
            continue;
        }
        match is_tail(view.get(..size).unwrap_or(view), size) {
            Some(true) => return Ok(Some(Next::Tail)),
            Some(false) => {}
            // Each further byte may decide.
            None => return Err(Stop::Need(1)),
        }
    }
    Ok(None)
}

/// Returns the available state, up to `most` bytes.
fn some(view: &[u8], most: usize) -> Result<Option<Next>, Stop> {
    if view.is_empty() {
        return Err(Stop::Need(1));
    }
    Ok(Some(Next::State(view.len().min(most))))
}

/// Returns whether the `size` bytes that start with `view` are PINGs and RUN;
/// `None` if that depends on further bytes.
fn is_tail(mut view: &[u8], mut size: usize) -> Option<bool> {
    loop {
        match decode::<Commands>(view) {
            Ok(Decoded::Message { message, rest, .. }) => {
                size = size.saturating_sub(view.len() - rest.len());
                view = rest;
                match message {
                    Command::Ping { .. } => {}
                    Command::PostcopyRun => return Some(size == 0),
                    _ => return Some(false),
                }
            }
            Ok(Decoded::Need(need)) if view.len() + need <= size => return None,
            Ok(Decoded::Need(_)) | Err(_) => return Some(false),
        }
    }
}

#[cfg(test)]
mod tests;
