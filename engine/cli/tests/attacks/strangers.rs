//! Peers that connect but do not migrate, and descriptors that nobody asked for.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use retpath_codec::wire::section::MULTIFD_MAGIC;
use retpath_engine::Channel;
use retpath_engine::destination::pending::MAX_PENDING;
use retpath_engine::socket::Address;
use retpath_engine::source::{Preempt, Source};
use retpath_support::SOON;
use retpath_support::loops::DialAfter;
use retpath_support::program::{NOBODY, Program, as_ordinary_user};
use retpath_support::receiver::{serve_by, until_dropped};
use retpath_support::recorded::stream;
use retpath_support::small_image::make;
use retpath_support::wire;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::Size;
use super::cost::{Attacked, Cost, MEMORY, limited};
use super::serve::switched;

/// Descriptors of `receive` with one source and an image of a few blocks.
const DESCRIPTORS: usize = 48;

/// Sends the recorded source's stream.
fn send(attacked: &mut Attacked, source: &mut UnixStream) {
    let (stream, end) = stream();
    source.write_all(&stream).expect("it reads");
    source.write_all(&end).expect("it reads");
    attacked.wait_success(SOON);
}

/// Everything that an image holds of the guest.
fn contents(image: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(image).expect("a whole image").flatten();
    let named = entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let bytes = fs::read(entry.path()).expect("ours");
        (name, bytes)
    });
    let mut files: Vec<_> = named.filter(|(name, _)| !name.ends_with(".json")).collect();
    files.sort();
    assert!(files.len() > 1, "{}", image.display());
    files
}

/// The image of the recorded source that nobody disturbs.
fn undisturbed() -> Vec<(String, Vec<u8>)> {
    let mut attacked = Attacked::receive(&[]);
    let mut source = attacked.connect();
    send(&mut attacked, &mut source);
    contents(&attacked.image())
}

/// Each kind of stranger, several times.
fn strangers(attacked: &Attacked) -> Vec<UnixStream> {
    let multifd = MULTIFD_MAGIC.to_be_bytes();
    let said: [(&[u8], bool); 6] = [
        (b"", false),
        (b"garbage.", false),
        (b"x", true),
        (b"\0", false),
        // A header, and silence.
        (b"QEVM\0\0\0\x03", false),
        (&multifd, false),
    ];
    let mut open = Vec::new();
    for (bytes, closes) in said.iter().cycle().take(3 * said.len()) {
        let mut stranger = attacked.connect();
        stranger.write_all(bytes).expect("room");
        if *closes {
            stranger.shutdown(Shutdown::Write).expect("open");
        }
        open.push(stranger);
    }
    open.extend((0..MAX_PENDING).map(|_| attacked.connect()));
    open
}

#[test]
fn strangers_change_nothing_in_an_image() {
    let want = undisturbed();
    let mut attacked = Attacked::receive(&[]);
    let before = strangers(&attacked);
    let mut source = attacked.connect();
    let (stream, _) = stream();
    source.write_all(&stream[..4096]).expect("it reads");
    // The answer to its first PING: it is the main channel now.
    source.read_exact(&mut [0; 8]).expect("an answer");
    let during = strangers(&attacked);
    source.write_all(&stream[4096..]).expect("it reads");
    let after = strangers(&attacked);
    let (_, end) = self::stream();
    source.write_all(&end).expect("it reads");
    attacked.wait_success(SOON);
    let sockets = before.len() + during.len() + after.len();
    assert_eq!(contents(&attacked.image()), want);
    let cost = attacked.account(&format!("{sockets} strangers"), 0, MEMORY, u64::MAX / 2);
    assert_descriptors(cost);
}

fn assert_descriptors(cost: Cost) {
    let most = DESCRIPTORS + MAX_PENDING;
    println!(
        "attack: {} descriptors at most, {most} allowed",
        cost.descriptors
    );
    assert!(cost.descriptors > 3, "none were counted");
    if !Attacked::is_current() {
        return;
    }
    assert!(cost.descriptors <= most, "{}", cost.descriptors);
}

/// They come after the main channel, and before the preempt channel, which comes late.
#[test]
fn idle_strangers_do_not_lock_out_the_preempt_channel() {
    let mut attacked = Attacked::receive(&["--touch", "16"]);
    let mut idle = Vec::new();
    let address: Address = Address::Unix(attacked.socket());
    let mut dial = DialAfter(address, |channel| {
        if channel == Channel::Preempt {
            idle.extend((0..MAX_PENDING + 8).map(|_| attacked.connect()));
        }
    });
    let config = wire::config(Some(Preempt::Late)).bandwidth(1 << 14);
    let core = Source::new(config, wire::blocks()).expect("valid configuration");
    serve_by(core, &mut dial);
    assert_eq!(idle.len(), MAX_PENDING + 8);
    attacked.wait_success(SOON);
    let ram = fs::read(attacked.image().join("ram-000-pc.ram.raw")).expect("a block's file");
    assert!(ram == wire::image());
}

/// The socket's mode lets nobody else in: this is what holds if somebody changes it.
#[test]
fn a_source_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: a source of another user: only root can start one");
        return;
    }
    let mut attacked = Attacked::receive(&["--peer-uid", "0"]);
    let folder = attacked.socket();
    let folder = folder.parent().expect("the socket is in a folder");
    fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("ours");
    fs::set_permissions(attacked.socket(), PermissionsExt::from_mode(0o666)).expect("ours");

    let theirs = tempfile::tempdir().expect("a folder");
    let image = make(theirs.path(), "pc-i440fx-7.2");
    chown(&image, Some(NOBODY), Some(NOBODY)).expect("root may");
    for entry in fs::read_dir(&image).expect("ours").flatten() {
        chown(entry.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let mut command = as_ordinary_user(theirs.path());
    let uri = format!("unix:{}", attacked.socket().display());
    command.args(["serve", "--connect", &uri, "--retry", "1", "--image"]);
    command.arg(&image);
    let mut stranger = Program::spawn(command);
    let refused = format!("it comes from user {NOBODY}");
    attacked.wait_error(SOON, |line| line.contains(&refused).then_some(()));
    assert!(!stranger.wait(SOON).success());

    let mut source = attacked.connect();
    send(&mut attacked, &mut source);
    assert_eq!(contents(&attacked.image()), undisturbed());
}

/// Descriptors with each message.
const EACH: usize = 64;

/// Sends bytes with descriptors, which count for this process until they are read or closed.
fn send_descriptors(socket: &UnixStream, bytes: &[u8]) {
    let null = fs::File::open("/dev/null").expect("it is there");
    let descriptors = [null.as_fd(); EACH];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(EACH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    loop {
        match sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(sent) => break assert_eq!(sent, bytes.len()),
            Err(Errno::TOOMANYREFS) => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The kernel closes descriptors that are read without room for them.
pub(crate) fn descriptors(size: Size) {
    let count = size.mib(1, 16) >> 10;
    let mut attacked = Attacked::receive(&[]);
    let mut source = attacked.connect();
    let (stream, end) = stream();
    let (sent, rest) = stream.split_at(stream.len().min(count));
    let stranger = attacked.connect();
    send_descriptors(&stranger, b"QEVM\0\0\0\x03");
    sent.chunks(1)
        .for_each(|byte| send_descriptors(&source, byte));
    source.write_all(rest).expect("it reads");
    source.write_all(&end).expect("it reads");
    attacked.wait_success(SOON);
    let name = format!("{} descriptors to receive", (sent.len() + 1) * EACH);
    assert_descriptors(attacked.account(&name, stream.len(), MEMORY, u64::MAX / 2));

    let (attacked, socket, image) = switched();
    let pong = [0, 2, 0, 4, 0, 0, 0, 3];
    (0..count).for_each(|_| send_descriptors(&socket, &pong));
    let name = format!("{} descriptors to serve", count * EACH);
    assert_descriptors(attacked.account(&name, count * pong.len(), MEMORY, image));
}

#[test]
fn descriptors_that_a_peer_sends_are_closed() {
    descriptors(Size::Small);
}

/// A stranger that the command drops is closed, with what it sent.
#[test]
fn a_stranger_with_garbage_is_closed() {
    let attacked = Attacked::receive(&[]);
    let mut stranger = limited(attacked.connect());
    send_descriptors(&stranger, b"garbage.");
    until_dropped(&mut stranger);
}
