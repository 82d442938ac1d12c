//! What the two processes tell each other beside the migration: lines of JSON
//! on a socket pair, and once a descriptor.
//!
//! ```text
//!  source      descriptor of its memory, sealed      once, before everything
//!  source      {"arm": 3, "read": 70000, "written": null}      ┐ before a link
//!  destination {"armed": 3}                                    ┘
//!  source      {"blown": null}                                 ┐ after a link
//!  destination {"blown": true}                                 ┘
//!  source      {"done": {…}} or {"failed": "why"}    once, then it ends
//!  destination {"stop": null}                        once: end quietly
//! ```
//!
//! The end of the stream without one of the last lines means that the other
//! process is gone, however it went: so neither waits for a dead one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde_json::Value;

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// Says something, in one line. It begins with a byte that means nothing: one
/// is lost to who waits for the descriptor instead.
pub(super) fn say(mut socket: &UnixStream, what: &Value) -> io::Result<()> {
    socket.write_all(format!(" {what}\n").as_bytes())
}

/// The next thing that the other process says; none if it is gone.
pub(super) fn hear(from: &mut BufReader<UnixStream>) -> io::Result<Option<Value>> {
    let mut line = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Gives the other process a copy of a descriptor.
pub(super) fn hand_over(socket: &UnixStream, file: &File) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    // Never refused: the space is made for one descriptor.
    with.push(SendAncillaryMessage::ScmRights(&files));
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(b"\n")],
        &mut with,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Waits for that descriptor; none if the other process is gone, or says
/// something instead: then that can be heard.
pub(super) fn take_over(socket: &UnixStream) -> io::Result<Option<File>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        let into = &mut [IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(socket, into, &mut with, RecvFlags::CMSG_CLOEXEC)
    })?;
    let file = with.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next().map(File::from),
        _ => None,
    });
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use serde_json::json;

    use super::*;

    #[test]
    fn carries_a_descriptor_and_lines() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let file = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(file.expect("a memfd"));
        file.write_all_at(b"hello", 0).expect("room");
        hand_over(&near, &file).expect("sent");
        say(&near, &json!({ "arm": 1 })).expect("sent");
        say(&near, &json!([1, 2])).expect("sent");
        drop(near);
        let got = take_over(&far).expect("received").expect("a descriptor");
        let mut bytes = [0; 5];
        got.read_exact_at(&mut bytes, 0).expect("the same file");
        assert_eq!(&bytes, b"hello");
        let mut far = BufReader::new(far);
        assert_eq!(hear(&mut far).expect("a line"), Some(json!({ "arm": 1 })));
        assert_eq!(hear(&mut far).expect("a line"), Some(json!([1, 2])));
        assert_eq!(hear(&mut far).expect("an end"), None);
    }

    #[test]
    fn hears_nothing_of_half_a_line() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        near.write_all(b"{\"done\":").expect("sent");
        drop(near);
        assert_eq!(hear(&mut BufReader::new(far)).expect("an end"), None);
    }

    #[test]
    fn hears_what_is_said_instead_of_a_descriptor() {
        let (near, far) = UnixStream::pair().expect("a pair");
        say(&near, &json!({ "failed": "x" })).expect("sent");
        assert!(take_over(&far).expect("a byte").is_none());
        let said = hear(&mut BufReader::new(far)).expect("a line");
        assert_eq!(said, Some(json!({ "failed": "x" })));
    }

    #[test]
    fn gets_no_descriptor_from_the_dead() {
        let (near, far) = UnixStream::pair().expect("a pair");
        drop(near);
        assert!(take_over(&far).expect("an end").is_none());
    }
}
