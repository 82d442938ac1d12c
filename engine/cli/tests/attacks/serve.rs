//! A destination that reads nothing from `serve`, and writes without end.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use retpath_codec::wire::value::PING_PACKAGE_LOADED;
use retpath_codec::{Encode, Message, Name};
use retpath_support::small_image::{PAGE, PAGES, make};

use super::Size;
use super::cost::{Attacked, MEMORY, flood, limited};

/// The first PING, and the command that starts the guest.
const PING: &[u8] = &[8, 0, 2, 0, 4, 0, 0, 0, 1];
const RUN: &[u8] = &[8, 0, 5, 0, 0];

fn pong(value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pong = Message::<Name>::Pong { value };
    pong.encode(&mut bytes).expect("valid message");
    bytes
}

/// `serve`, a destination that has read up to the start of the guest, and the image's size on disk.
pub(crate) fn switched() -> (Attacked, UnixStream, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let image = make(folder.path(), "pc-i440fx-7.2");
    let to = folder.path().join("in");
    let listener = UnixListener::bind(&to).expect("the name is free");
    let attacked = Attacked::serve(folder, &image, &to);
    let (socket, _) = listener.accept().expect("it connects");
    let mut socket = limited(socket);
    read_until(&mut socket, PING);
    socket.write_all(&pong(1)).expect("it reads");
    read_until(&mut socket, RUN);
    let image = attacked.cost().disk;
    (attacked, socket, image)
}

/// Reads up to these bytes, and little more.
fn read_until(socket: &mut UnixStream, end: &[u8]) {
    let mut read = Vec::new();
    while !read.windows(end.len()).any(|bytes: &[u8]| bytes == end) {
        let mut piece = [0; 16];
        let size = socket.read(&mut piece).expect("it sends");
        assert!(size > 0, "closed after {read:?}");
        read.extend(&piece[..size]);
    }
}

/// Requests each page again and again.
pub(crate) fn requests(size: Size) {
    let block = Name::new(b"pc.ram").expect("valid name");
    let mut piece = Vec::new();
    for page in (0..PAGES).rev() {
        let request = Message::req_pages_id(page * PAGE, 4096, block);
        request.encode(&mut piece).expect("valid message");
    }
    flooded("requests to serve", &piece, size.mib(64, 512));
}

#[test]
fn a_flood_of_requests_takes_no_memory() {
    requests(Size::Small);
}

pub(crate) fn pongs(size: Size) {
    // A destination sends it once the package is loaded.
    let piece = pong(PING_PACKAGE_LOADED).repeat(10_000);
    flooded("PONGs to serve", &piece, size.mib(64, 512));
}

#[test]
fn a_flood_of_pongs_takes_no_memory() {
    pongs(Size::Small);
}

fn flooded(name: &str, piece: &[u8], total: usize) {
    let (mut attacked, mut socket, image) = switched();
    let sent = flood(&mut socket, piece, total);
    if Attacked::is_current() {
        assert_eq!(sent, total, "{}", *attacked);
        assert!(attacked.ended().is_none(), "{}", *attacked);
    }
    attacked.account(name, sent, MEMORY, image);
}
