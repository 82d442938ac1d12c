//! `retpath receive`, run as a user runs it, with a recorded source: one that stops to listen at the
//! moment that a test chooses.

#![cfg(feature = "cli")]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use retpath_engine::image::Image;
use support::SOON;
use support::program::Program;
use support::recorded::{PONGS, SHUT, stream};
use tempfile::TempDir;

/// `retpath receive`, and a source that has sent everything but the end, and heard every PONG.
struct Nearly {
    receiver: Program,
    source: UnixStream,
    end: Vec<u8>,
    folder: TempDir,
}

impl Nearly {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let (socket, out) = (path("in"), path("image"));
        let uri = format!("unix:{}", socket.display());
        let out = out.to_str().expect("paths of tests are text");
        let receiver = Program::retpath(&["receive", "--listen", &uri, "--out", out]);
        receiver.wait_error(SOON, |line| line.contains("listening on").then_some(()));
        let mut source = UnixStream::connect(&socket).expect("it listens");
        source.set_read_timeout(Some(SOON)).expect("a limit");
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

    /// The image is whole, and standard error says that its source does not know.
    fn assert_warned(&mut self) {
        self.receiver.wait_success(SOON);
        let errors = self.receiver.errors();
        assert!(errors.contains("with everything received"), "{errors}");
        assert!(errors.contains("end one of the two"), "{errors}");
        Image::open(&self.out()).expect("a whole image");
    }
}

#[test]
fn tells_the_source_once_the_image_is_there() {
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
fn says_so_when_the_source_stops_listening_before_it_is_told() {
    let mut nearly = Nearly::start();
    nearly.source.shutdown(Shutdown::Read).expect("half");
    nearly.source.write_all(&nearly.end).expect("it reads");
    nearly.assert_warned();
}

#[test]
fn says_so_when_the_source_closes_before_it_is_told() {
    let mut nearly = Nearly::start();
    nearly.source.shutdown(Shutdown::Read).expect("half");
    nearly.source.write_all(&nearly.end).expect("it reads");
    nearly.source.shutdown(Shutdown::Write).expect("closed");
    nearly.assert_warned();
}
