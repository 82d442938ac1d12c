//! Outputs that cannot be written: each command does its work all the same, and its exit code tells
//! what happened to the guest.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use retpath_image::Image;
use retpath_support::SOON;
use retpath_support::program::{Log, Program};
use retpath_support::recorded::{PONGS, SHUT, SHUT_FAILED, stream};
use retpath_support::sinks::{Sink, retpath, terminal};
use retpath_support::small_image::make;
use rustix::process::Signal;
use rustix::termios::Action;
use tempfile::TempDir;

/// A folder for the files of a test.
struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn uri(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// `retpath receive` with these outputs, once it listens on the socket of this name.
    fn receive(&self, name: &str, more: &[&str], out: Sink, err: Sink) -> Program {
        let image = self.path(&format!("{name}.image"));
        let uri = self.uri(name);
        let args = ["receive", "--listen", &uri, "--out", text(&image)];
        let mut program = retpath(&[&args[..], more].concat(), out, err);
        program.wait_path(&self.path(name), SOON);
        program
    }

    /// Sends a recorded migration without its end; returns the link and the end.
    fn send(&self, name: &str) -> (UnixStream, Vec<u8>) {
        let mut source = loop {
            // The socket's file exists a moment before the socket listens.
            match UnixStream::connect(self.path(name)) {
                Ok(source) => break source,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("{error}"),
            }
        };
        source.set_read_timeout(Some(SOON)).expect("a limit");
        let (stream, end) = stream();
        source.write_all(&stream).expect("it reads");
        source.read_exact(&mut [0; PONGS]).expect("PONGs");
        (source, end)
    }

    /// The image that was received at the socket of this name.
    fn open(&self, name: &str) -> Image {
        Image::open(&self.path(&format!("{name}.image"))).expect("a whole image")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// The last message on a link.
fn last(source: &mut UnixStream) -> [u8; SHUT.len()] {
    let mut last = [0; SHUT.len()];
    source.read_exact(&mut last).expect("SHUT");
    last
}

#[test]
fn receives_even_if_no_output_can_be_written() {
    for sink in Sink::BROKEN {
        for (out, err) in [(Sink::Null, sink), (sink, Sink::Null), (sink, sink)] {
            let room = Room::new();
            let mut program = room.receive("in", &["--format", "json"], out, err);
            let (mut source, end) = room.send("in");
            source.write_all(&end).expect("it reads");
            assert_eq!(last(&mut source), SHUT, "{out:?}, {err:?}");
            let code = program.wait(SOON).code();
            assert_eq!(code, Some(0), "{out:?}, {err:?}");
            room.open("in");
        }
    }
}

#[test]
fn returns_the_guest_even_if_no_output_can_be_written() {
    for sink in Sink::BROKEN {
        let room = Room::new();
        let mut program = room.receive("in", &[], sink, sink);
        let (mut source, end) = room.send("in");
        program.signal(Signal::TERM);
        // Lets it print its message first; the test also passes if it does not.
        thread::sleep(Duration::from_millis(300));
        source.write_all(&end).expect("it reads");
        assert_eq!(last(&mut source), SHUT_FAILED, "{sink:?}");
        assert_eq!(program.wait(SOON).code(), Some(1), "{sink:?}");
    }
}

#[test]
fn a_stopped_terminal_does_not_block_the_guest() {
    let room = Room::new();
    let image = room.path("in.image");
    let uri = room.uri("in");
    let (screen, keyboard) = terminal();
    let mut command = Command::new(env!("CARGO_BIN_EXE_retpath"));
    command.args(["receive", "--listen", &uri, "--out", text(&image)]);
    command.stdout(Stdio::null()).process_group(0);
    command.stderr(keyboard.try_clone().expect("a copy"));
    let mut program = Program::spawn_as_it_is(command);
    let screen = Log::start(File::from(screen), |log: &mut Vec<u8>, piece, _| {
        log.extend_from_slice(piece);
    });
    let shows = |what: &'static str| {
        let shown = screen.wait(SOON, |log| {
            String::from_utf8_lossy(log).contains(what).then_some(())
        });
        assert_eq!(shown, Ok(()), "{what}");
    };
    shows("listening on");
    // Ctrl-S, and then a message.
    rustix::termios::tcflow(&keyboard, Action::OOff).expect("a terminal");
    let (mut source, end) = room.send("in");
    program.signal(Signal::TERM);
    // Lets it print its message first; the test also passes if it does not.
    thread::sleep(Duration::from_millis(300));
    source.write_all(&end).expect("it reads");
    assert_eq!(last(&mut source), SHUT_FAILED);
    // Ctrl-Q.
    rustix::termios::tcflow(&keyboard, Action::OOn).expect("a terminal");
    assert_eq!(program.wait(SOON).code(), Some(1));
    shows("stopped by a signal");
}

#[test]
fn reports_the_image_when_the_report_cannot_be_written() {
    let room = Room::new();
    let image = make(room.0.path(), "pc-i440fx-7.2");
    let uri = room.uri("in");
    let copy = room.path("copy");
    let mut receive = Command::new(env!("CARGO_BIN_EXE_retpath"));
    receive.args(["receive", "--listen", &uri, "--out", text(&copy)]);
    let mut serve = Command::new(env!("CARGO_BIN_EXE_retpath"));
    serve.args(["serve", "--image", text(&image), "--connect", &uri]);
    let start = |command: &mut Command| {
        let piped = command.stdout(Sink::Full.stdio()).stderr(Stdio::piped());
        piped.spawn().expect("retpath starts")
    };
    let receive = start(&mut receive);
    while !room.path("in").exists() {
        thread::yield_now();
    }
    let serve = start(&mut serve);
    for (child, says) in [
        (serve, "every QEMU has everything"),
        (receive, &format!("the image {} exists", copy.display())[..]),
    ] {
        let output = child.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        assert!(errors.contains(says), "{errors}");
        assert!(errors.contains("standard output"), "{errors}");
    }
    Image::open(&copy).expect("a whole image");
}

#[test]
fn keeps_serving_when_one_of_two_fails_even_if_no_output_can_be_written() {
    for sink in Sink::BROKEN {
        let room = Room::new();
        let image = make(room.0.path(), "pc-i440fx-7.2");
        let mut good = room.receive("good", &[], Sink::Null, Sink::Null);
        let bad = UnixListener::bind(room.path("bad")).expect("a new socket");
        let (one, two) = (room.uri("good"), room.uri("bad"));
        let args = ["serve", "--image", text(&image), "--connect", &one];
        let more = ["--connect", &two, "--bandwidth", "1M"];
        let mut served = retpath(&[&args[..], &more].concat(), sink, sink);
        drop(bad.accept().expect("it connects"));
        good.wait_success(SOON);
        room.open("good");
        assert_eq!(served.wait(SOON).code(), Some(1), "{sink:?}");
    }
}

/// A command line, and its exit code for each output that cannot be written.
fn codes(args: &[&str], which: fn(Sink) -> (Sink, Sink)) -> [Option<i32>; 4] {
    Sink::BROKEN.map(|sink| {
        let (out, err) = which(sink);
        retpath(args, out, err).wait(SOON).code()
    })
}

const OUT: fn(Sink) -> (Sink, Sink) = |sink| (sink, Sink::Null);
const ERR: fn(Sink) -> (Sink, Sink) = |sink| (Sink::Null, sink);

#[test]
fn fails_when_the_report_is_the_only_result_and_is_lost() {
    // A descriptor that is closed is the null device: Rust's runtime opens it.
    let filter = [Some(1), Some(0), Some(1), Some(0)];
    let folder = tempfile::tempdir().expect("a folder");
    let pong = folder.path().join("pong");
    fs::write(&pong, b"\0\x02\0\x04\0\0\0\x01").expect("room");
    for args in [
        &["decode", text(&pong)][..],
        &["--help"],
        &["serve", "--help"],
        &["--version"],
        &["demo", "--size", "4M"],
    ] {
        assert_eq!(codes(args, OUT), filter, "{args:?}");
        assert_eq!(codes(args, ERR), [Some(0); 4], "{args:?}");
    }
}

#[test]
fn doctor_fails_only_when_its_report_is_lost() {
    let good = retpath(&["doctor"], Sink::Null, Sink::Null)
        .wait(SOON)
        .code();
    assert_eq!(codes(&["doctor"], OUT), [Some(1), good, Some(1), good]);
    assert_eq!(codes(&["doctor"], ERR), [good; 4]);
}

#[test]
fn keeps_its_exit_code_when_no_output_can_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty");
    fs::write(&empty, b"").expect("room");
    let out = folder.path().join("out");
    for (args, code) in [
        (&["decode", text(&empty)][..], 1),
        (&["decode", "/nothing/here"], 1),
        (&["import", text(&empty), "--out", text(&out)], 1),
        (&["serve", "--image", "x", "--connect", "unix:y"], 1),
        (&["serve", "--image", "x", "--connect", "ssh:y"], 2),
        (
            &[
                "serve",
                "--image",
                "x",
                "--connect",
                "unix:y",
                "--connect",
                "unix:y",
            ],
            2,
        ),
        (&["demo", "--size", "1"], 2),
    ] {
        assert_eq!(
            codes(args, |sink| (sink, sink)),
            [Some(code); 4],
            "{args:?}"
        );
    }
}
