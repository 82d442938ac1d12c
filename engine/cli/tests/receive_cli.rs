//! `retpath receive` as a user meets it, with a recorded source that stops reading at the moment that
//! a test chooses.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use retpath_image::Image;
use retpath_support::SOON;
use retpath_support::program::{Program, is_ignored};
use retpath_support::recorded::{PONGS, SHUT, SHUT_FAILED, channel, stream};
use retpath_support::saved_stream::Stream;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use tempfile::TempDir;

/// `retpath receive` into the folder, and the socket where it listens.
fn listening(folder: &TempDir, more: &[&str]) -> (Program, PathBuf) {
    let path = |name: &str| folder.path().join(name);
    let (socket, out) = (path("in"), path("image"));
    let uri = format!("unix:{}", socket.display());
    let out = out.to_str().expect("paths of tests are text");
    let mut args = vec!["receive", "--listen", &uri, "--out", out];
    args.extend(more);
    let receiver = Program::retpath(&args);
    receiver.wait_error(SOON, |line| line.contains("listening on").then_some(()));
    (receiver, socket)
}

/// `retpath receive` into the folder, and a connection to it.
fn connected(folder: &TempDir, more: &[&str]) -> (Program, UnixStream) {
    let (receiver, socket) = listening(folder, more);
    let source = UnixStream::connect(&socket).expect("it listens");
    source.set_read_timeout(Some(SOON)).expect("a limit");
    (receiver, source)
}

/// `retpath receive`, and a source that has sent everything but the end, and read every PONG.
struct Nearly {
    receiver: Program,
    source: UnixStream,
    end: Vec<u8>,
    folder: TempDir,
}

impl Nearly {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (receiver, mut source) = connected(&folder, &[]);
        let (stream, end) = stream();
        source.write_all(&stream).expect("it reads");
        source.read_exact(&mut [0; PONGS]).expect("PONGs");
        Self {
            receiver,
            source,
            end,
            folder,
        }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Asserts that the image is complete, and that a warning says that its source may not know.
    fn assert_warned(&mut self) {
        self.receiver.wait_success(SOON);
        let errors = self.receiver.errors();
        assert!(errors.contains("after everything was received"), "{errors}");
        assert!(errors.contains("end one of the two"), "{errors}");
        Image::open(&self.out()).expect("a whole image");
    }
}

#[test]
fn tells_the_source_once_the_image_exists() {
    let mut nearly = Nearly::start();
    assert!(!nearly.out().exists());
    nearly.source.write_all(&nearly.end).expect("it reads");
    let mut last = [0; SHUT.len()];
    nearly.source.read_exact(&mut last).expect("SHUT");
    assert_eq!(last, SHUT);
    assert!(nearly.out().exists());
    nearly.receiver.wait_success(SOON);
    let errors = nearly.receiver.errors();
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn accepts_the_source_once_descriptors_are_free_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut receiver, socket) = listening(&folder, &[]);
    let id = i32::try_from(receiver.id()).ok().and_then(Pid::from_raw);
    // Inherited by the child.
    let before = getrlimit(Resource::Nofile);
    let open = format!("/proc/{}/fd", receiver.id());
    let is_free = |fd: &u64| !PathBuf::from(format!("{open}/{fd}")).exists();
    let limit = |current| {
        let limits = Rlimit { current, ..before };
        prlimit(id, Resource::Nofile, limits).expect("a process of this user")
    };
    limit((0..).find(is_free));
    let mut source = UnixStream::connect(&socket).expect("the backlog has room");
    receiver.wait_error(SOON, |line| {
        let is_it = line.contains("cannot accept") && line.contains("trying again");
        is_it.then_some(())
    });
    limit(before.current);
    let (stream, end) = stream();
    source.write_all(&stream).expect("it reads");
    source.write_all(&end).expect("it reads");
    receiver.wait_success(SOON);
    assert_eq!(receiver.errors().lines().count(), 2, "{receiver}");
    Image::open(&folder.path().join("image")).expect("a whole image");
}

#[test]
fn warns_when_the_source_stops_reading_before_shut() {
    let mut nearly = Nearly::start();
    nearly.source.shutdown(Shutdown::Read).expect("half");
    nearly.source.write_all(&nearly.end).expect("it reads");
    nearly.assert_warned();
}

#[test]
fn warns_when_the_source_closes_before_shut() {
    let mut nearly = Nearly::start();
    nearly.source.shutdown(Shutdown::Read).expect("half");
    nearly.source.write_all(&nearly.end).expect("it reads");
    nearly.source.shutdown(Shutdown::Write).expect("closed");
    nearly.assert_warned();
}

/// Asks for the received bitmap of `pc.ram`, as a source does first in a recovery.
const RECV_BITMAP: &[u8] = b"\x08\0\x0a\0\x07\x06pc.ram";

/// For QEMU, SHUT(1) in a recovery is another broken link: it pauses again, and its guest needs the
/// received pages to run.
#[test]
fn keeps_received_data_when_stopped_during_a_recovery() {
    if is_ignored(Signal::TERM) {
        return;
    }
    let mut nearly = Nearly::start();
    nearly.source.shutdown(Shutdown::Both).expect("a cut");
    let broken = |line: &str| line.contains("migrate -r").then_some(());
    nearly.receiver.wait_error(SOON, broken);
    let mut source = UnixStream::connect(nearly.folder.path().join("in")).expect("it listens");
    source.set_read_timeout(Some(SOON)).expect("a limit");
    source.write_all(RECV_BITMAP).expect("it reads");
    let mut head = [0; 4 + 7 + 8];
    source.read_exact(&mut head).expect("an answer");
    assert_eq!(head[..4], [0, 5, 0, 7]);
    let (_, size) = head.split_last_chunk().expect("a length");
    let bitmap = usize::try_from(u64::from_be_bytes(*size)).expect("a small guest");
    source
        .read_exact(&mut vec![0; bitmap + 8])
        .expect("all of it");

    nearly.receiver.signal(Signal::TERM);
    let mut more = [0; 8];
    let said = source.read(&mut more).expect("an end");
    drop(source);
    assert_eq!(more[..said], [0; 0], "a source in recovery is told nothing");
    assert_eq!(nearly.receiver.wait(SOON).code(), Some(1));
    let errors = nearly.receiver.errors();
    let name = format!("image.incomplete-{}", nearly.receiver.id());
    assert!(
        nearly
            .folder
            .path()
            .join(&name)
            .join("unfinished.json")
            .exists()
    );
    assert!(
        errors.contains(&format!(
            "--continue {}",
            nearly.folder.path().join(&name).display()
        )),
        "{errors}"
    );
}

/// A relay that has lost the source closes in the same way as a source that has read SHUT(1).
#[test]
fn keeps_what_it_received_when_the_connection_closes_after_shut_1() {
    if is_ignored(Signal::TERM) {
        return;
    }
    let mut nearly = Nearly::start();
    nearly.receiver.signal(Signal::TERM);
    let stopped = |line: &str| line.contains("stopped by a signal").then_some(());
    nearly.receiver.wait_error(SOON, stopped);
    nearly.source.write_all(&nearly.end).expect("it reads");
    let mut last = [0; SHUT_FAILED.len()];
    nearly.source.read_exact(&mut last).expect("SHUT");
    assert_eq!(last, SHUT_FAILED);
    nearly.source.shutdown(Shutdown::Both).expect("closed");
    assert_eq!(nearly.receiver.wait(SOON).code(), Some(1));
    let errors = nearly.receiver.errors();
    let name = format!("image.incomplete-{}", nearly.receiver.id());
    let left = nearly.folder.path().join(name);
    assert!(left.join("unfinished.json").exists(), "{errors}");
    assert!(
        errors.contains("told that it has its guest back"),
        "{errors}"
    );
    let advice = format!("--continue {}", left.display());
    assert!(errors.contains(&advice), "{errors}");
}

/// A source of machine type 2.1 that is cut inside its device state; with `return_path` it has opened
/// one.
fn cut(return_path: bool, more: &[&str]) -> (Program, TempDir) {
    const HEADER: usize = 8;
    const OPEN_RETURN_PATH: [u8; 5] = [8, 0, 1, 0, 0];
    let folder = tempfile::tempdir().expect("a folder");
    let (receiver, mut source) = connected(&folder, more);
    let mut stream = channel("qemu-7.2-cut-2.1.ch0.fwd.gz");
    if return_path {
        stream.splice(HEADER..HEADER, OPEN_RETURN_PATH);
    }
    source.write_all(&stream).expect("it reads");
    (receiver, folder)
}

#[test]
fn does_not_accept_a_closed_link_as_the_end_of_an_old_machine_type() {
    let (mut receiver, folder) = cut(false, &[]);
    assert_eq!(receiver.wait(SOON).code(), Some(1), "{receiver}");
    let errors = receiver.errors();
    assert!(errors.contains("nothing proves"), "{errors}");
    assert!(errors.contains("--accept-unproven-end"), "{errors}");
    assert!(!folder.path().join("image").exists());
}

#[test]
fn accepts_an_unproven_end_with_the_option_and_reports_it() {
    let (mut receiver, folder) = cut(false, &["--accept-unproven-end"]);
    receiver.wait_success(SOON);
    let output = receiver.output();
    assert!(output.contains("unproven"), "{output}");
    let image = Image::open(&folder.path().join("image")).expect("a whole image");
    assert!(image.manifest().unproven_end);
}

/// A source that has sent everything waits for SHUT before it closes.
#[test]
fn does_not_accept_a_closed_link_as_the_end_with_a_return_path() {
    let (mut receiver, folder) = cut(true, &["--accept-unproven-end"]);
    assert_eq!(receiver.wait(SOON).code(), Some(1), "{receiver}");
    let errors = receiver.errors();
    assert!(
        errors.contains("before the migration was complete"),
        "{errors}"
    );
    assert!(!folder.path().join("image").exists());
}

/// A stranger is reported, and the source that comes afterwards is received.
#[test]
fn goes_on_after_connections_that_are_not_migrations() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut receiver, mut stranger) = connected(&folder, &[]);
    stranger
        .write_all(b"\x16\x03\x01\0\xf8\x01\0\0")
        .expect("it reads");
    assert_eq!(stranger.read(&mut [0; 8]).expect("an end"), 0);
    let tls = |line: &str| line.contains("like a TLS session").then_some(());
    receiver.wait_error(SOON, tls);
    for said in [&b"garbage."[..], b"x"] {
        let mut stranger = UnixStream::connect(folder.path().join("in")).expect("it listens");
        stranger.write_all(said).expect("it reads");
        stranger.shutdown(Shutdown::Write).expect("open");
        assert_eq!(stranger.read(&mut [0; 8]).expect("an end"), 0);
    }
    let mut source = UnixStream::connect(folder.path().join("in")).expect("it listens");
    let (stream, end) = stream();
    source.write_all(&stream).expect("it reads");
    source.write_all(&end).expect("it reads");
    receiver.wait_success(SOON);
    let dropped = receiver
        .errors()
        .matches("a connection was dropped")
        .count();
    assert_eq!(dropped, 2, "each reason once: {}", receiver.errors());
    Image::open(&folder.path().join("image")).expect("a whole image");
}

#[test]
fn accepts_no_connection_of_another_user_than_the_named_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = rustix::process::getuid().as_raw();
    let other = (own + 1).to_string();
    let (receiver, mut source) = connected(&folder, &["--peer-uid", &other]);
    let (stream, _) = stream();
    // It may be dropped before everything is written.
    let _ = source.write_all(&stream);
    let refused = format!("it comes from user {own}");
    receiver.wait_error(SOON, |line| line.contains(&refused).then_some(()));

    let folder = tempfile::tempdir().expect("a folder");
    let (mut receiver, mut source) = connected(&folder, &["--peer-uid", &own.to_string()]);
    let (stream, end) = self::stream();
    source.write_all(&stream).expect("it reads");
    source.write_all(&end).expect("it reads");
    receiver.wait_success(SOON);
}

#[test]
fn needs_a_unix_socket_to_know_the_user() {
    let args = ["--listen", "tcp:127.0.0.1:0", "--out", "/nonexistent/x"];
    let args = [&["receive", "--peer-uid", "0"][..], &args].concat();
    let mut receiver = Program::retpath(&args);
    assert_eq!(receiver.wait(SOON).code(), Some(1));
    let errors = receiver.errors();
    assert!(
        errors.contains("--peer-uid needs a unix: address"),
        "{errors}"
    );
}

/// Sends a stream; returns the error.
fn refusal(stream: &[u8], more: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut receiver, mut source) = connected(&folder, more);
    let _ = source.write_all(stream);
    let _ = source.shutdown(Shutdown::Write);
    assert_eq!(receiver.wait(SOON).code(), Some(1), "{receiver}");
    assert!(!folder.path().join("image").exists());
    receiver.errors()
}

#[test]
fn names_the_options_that_raise_its_limits() {
    let block = || Stream::new("pc").blocks(&[(b"pc.ram", 512)]);
    let errors = refusal(&block().bytes, &["--max-ram", "1M"]);
    assert!(errors.contains("--max-ram raises it"), "{errors}");
    let mut state = block().page(0, 0, 7).devices().bytes;
    state.truncate(state.len() - 8);
    state.extend([1; 5000]);
    let errors = refusal(&state, &["--max-device-state", "4K"]);
    assert!(
        errors.contains("limit of 4096 bytes (--max-device-state raises it)"),
        "{errors}"
    );
}
