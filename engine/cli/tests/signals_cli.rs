//! Signals: which ask a command to end, which end it, and which it survives.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use retpath_image::Image;
use retpath_support::SOON;
use retpath_support::program::{Program, is_ignored};
use retpath_support::recorded::{PONGS, SHUT, SHUT_FAILED, stream};
use retpath_support::small_image::make;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use tempfile::TempDir;

/// Signals that ask a command to end.
const ASKING: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::QUIT, Signal::HUP];

/// The signals of [`ASKING`] that this process, and so its children, does not ignore.
fn asking() -> impl Iterator<Item = Signal> {
    ASKING.into_iter().filter(|signal| !is_ignored(*signal))
}

/// `retpath receive` in postcopy, with a source that has sent everything but the end.
struct Postcopy {
    receiver: Program,
    source: UnixStream,
    end: Vec<u8>,
    folder: TempDir,
}

impl Postcopy {
    /// `before` is a shell command that comes before the program.
    fn start(before: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (receiver, mut source) = connected(&folder, before);
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

    /// Sends the end; returns the last message of `receive`.
    fn end(&mut self) -> [u8; SHUT.len()] {
        self.source.write_all(&self.end).expect("it reads");
        let mut last = [0; SHUT.len()];
        self.source.read_exact(&mut last).expect("SHUT");
        last
    }

    /// Ends successfully: the image exists.
    fn assert_image(&mut self) {
        assert_eq!(self.end(), SHUT);
        self.receiver.wait_success(SOON);
        Image::open(&self.folder.path().join("image")).expect("a whole image");
    }
}

/// `retpath receive` after a shell command, and a connection to it.
fn connected(folder: &TempDir, before: &str) -> (Program, UnixStream) {
    let (socket, out) = (folder.path().join("in"), folder.path().join("image"));
    let uri = format!("unix:{}", socket.display());
    let receiver = shell(before, &["receive", "--listen", &uri, "--out", text(&out)]);
    receiver.wait_error(SOON, |line| line.contains("listening on").then_some(()));
    let source = UnixStream::connect(&socket).expect("it listens");
    source.set_read_timeout(Some(SOON)).expect("a limit");
    (receiver, source)
}

/// `retpath` after a shell command, in a process group of its own.
fn shell(before: &str, args: &[&str]) -> Program {
    let mut command = Command::new("sh");
    let script = format!("{before} exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_retpath")]);
    command.args(args).process_group(0);
    Program::spawn(command)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not come so far");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The temporary folder of an image that is being made.
fn wait_incomplete(folder: &Path) {
    wait_for(|| {
        let names = fs::read_dir(folder).expect("ours").flatten();
        let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .any(|name| name.contains(".incomplete-"))
            .then_some(())
    });
}

#[test]
fn the_first_signal_in_postcopy_returns_the_guest() {
    for signal in asking() {
        let mut postcopy = Postcopy::start("");
        postcopy.receiver.signal(signal);
        let said = |line: &str| line.contains("stopped by a signal").then_some(());
        postcopy.receiver.wait_error(SOON, said);
        assert_eq!(postcopy.end(), SHUT_FAILED, "{signal:?}");
        assert_eq!(postcopy.receiver.wait(SOON).code(), Some(1), "{signal:?}");
    }
}

#[test]
fn a_second_signal_ends_the_process_unless_it_is_sighup() {
    for signal in asking() {
        let mut postcopy = Postcopy::start("ulimit -c 0;");
        postcopy.receiver.signal(signal);
        let said = |line: &str| line.contains("stopped by a signal").then_some(());
        postcopy.receiver.wait_error(SOON, said);
        postcopy.receiver.signal(signal);
        if signal == Signal::HUP {
            postcopy.receiver.signal(signal);
            assert_eq!(postcopy.end(), SHUT_FAILED);
            assert_eq!(postcopy.receiver.wait(SOON).code(), Some(1));
        } else {
            let status = postcopy.receiver.wait(SOON);
            assert_eq!(status.signal(), Some(signal.as_raw()), "{signal:?}");
        }
    }
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let mut postcopy = Postcopy::start("trap '' HUP INT QUIT;");
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::INT] {
        postcopy.receiver.signal(signal);
    }
    postcopy.assert_image();
}

#[test]
fn continues_after_sigtstp_and_sigcont() {
    let mut postcopy = Postcopy::start("");
    postcopy.receiver.signal(Signal::TSTP);
    let stat = format!("/proc/{}/stat", postcopy.receiver.id());
    wait_for(|| {
        let stat = fs::read_to_string(&stat).expect("it is there");
        stat.contains(") T ").then_some(())
    });
    let end = std::mem::take(&mut postcopy.end);
    let mut source = postcopy.source.try_clone().expect("a descriptor");
    // The socket may be full of what has not been read.
    let writer = thread::spawn(move || source.write_all(&end));
    postcopy.receiver.signal(Signal::CONT);
    writer.join().expect("no panic").expect("it reads on");
    postcopy.assert_image();
}

#[test]
fn replaces_the_socket_of_a_killed_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let uri = format!("unix:{}", folder.path().join("in").display());
    let out = folder.path().join("image");
    let args = ["receive", "--listen", &uri, "--out", text(&out)];
    let listens = |program: &Program| {
        program.wait_error(SOON, |line| line.contains("listening on").then_some(()));
    };
    let mut killed = Program::retpath(&args);
    listens(&killed);
    killed.kill();
    let next = Program::retpath(&args);
    listens(&next);
    // The other process is alive.
    let mut third = Program::retpath(&args);
    assert_eq!(third.wait(SOON).code(), Some(1), "{third}");
    let errors = third.errors();
    assert!(
        errors.contains("another process has its socket"),
        "{errors}"
    );
    UnixStream::connect(folder.path().join("in")).expect("it listens");
}

#[test]
fn import_can_be_interrupted_on_a_silent_pipe() {
    for signal in asking() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("image");
        let mut child = Command::new(env!("CARGO_BIN_EXE_retpath"))
            .args(["import", "-", "--out", text(&out)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("retpath starts");
        wait_incomplete(folder.path());
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).expect("it is there");
        let _silent = child.stdin.take();
        let output = child.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{signal:?}: {errors}");
        assert!(errors.contains("stopped by a signal"), "{errors}");
        assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 0);
    }
}

#[test]
fn import_can_be_interrupted_while_a_named_pipe_has_no_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pipe, out) = (folder.path().join("pipe"), folder.path().join("image"));
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a named pipe");
    let mut import = Program::retpath(&["import", text(&pipe), "--out", text(&out)]);
    wait_incomplete(folder.path());
    import.signal(Signal::TERM);
    assert_eq!(import.wait(SOON).code(), Some(1), "{import}");
    assert!(import.errors().contains("stopped by a signal"), "{import}");
}

#[test]
fn import_reads_a_named_pipe_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pipe, out) = (folder.path().join("pipe"), folder.path().join("image"));
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a named pipe");
    let mut import = Program::retpath(&["import", text(&pipe), "--out", text(&out)]);
    wait_incomplete(folder.path());
    let (stream, end) = stream();
    fs::write(&pipe, [stream, end].concat()).expect("it reads");
    import.wait_success(SOON);
    Image::open(&out).expect("a whole image");
}

/// A socket whose queue of connections is full: the next connect(2) waits.
fn full(path: &Path) -> Vec<std::os::fd::OwnedFd> {
    let name = SocketAddrUnix::new(path).expect("short");
    let socket = || {
        let flags = SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .expect("a socket")
    };
    let door = socket();
    rustix::net::bind(&door, &name).expect("a new name");
    rustix::net::listen(&door, 0).expect("it listens");
    let mut held = vec![door];
    loop {
        let link = socket();
        let connected = rustix::net::connect(&link, &name);
        held.push(link);
        match connected {
            Ok(()) => assert!(held.len() < 100, "it is never full"),
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::AGAIN);
                return held;
            }
        }
    }
}

/// Waits until the program catches a signal.
fn wait_caught(program: &Program, signal: Signal) {
    let path = format!("/proc/{}/status", program.id());
    wait_for(|| {
        let status = fs::read_to_string(&path).expect("it is there");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = u64::from_str_radix(mask?.trim(), 16).ok()?;
        (mask >> (signal.as_raw() - 1) & 1 != 0).then_some(())
    });
}

#[test]
fn serve_can_be_interrupted_while_it_connects() {
    for signal in asking() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = make(folder.path(), "pc-i440fx-7.2");
        let socket = folder.path().join("full");
        let _held = full(&socket);
        let uri = format!("unix:{}", socket.display());
        let mut served = Program::retpath(&["serve", "--image", text(&image), "--connect", &uri]);
        wait_caught(&served, signal);
        served.signal(signal);
        assert_eq!(served.wait(SOON).code(), Some(1), "{signal:?}: {served}");
        let errors = served.errors();
        assert!(errors.contains("stopped"), "{errors}");
        assert!(errors.contains("never left the image"), "{errors}");
    }
}

#[test]
fn serve_reports_the_place_of_the_guest_after_sighup() {
    if is_ignored(Signal::HUP) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let image = make(folder.path(), "pc-i440fx-7.2");
    let (socket, out) = (folder.path().join("in"), folder.path().join("copy"));
    let uri = format!("unix:{}", socket.display());
    let receiver = Program::retpath(&["receive", "--listen", &uri, "--out", text(&out)]);
    receiver.wait_error(SOON, |line| line.contains("listening on").then_some(()));
    let args = ["serve", "--image", text(&image), "--connect", &uri];
    let mut served = shell("", &[&args[..], &["--bandwidth", "1K"]].concat());
    wait_incomplete(folder.path());
    wait_caught(&served, Signal::HUP);
    served.signal(Signal::HUP);
    assert_eq!(served.wait(SOON).code(), Some(1), "{served}");
    let errors = served.errors();
    assert!(errors.contains("the image is unchanged"), "{errors}");
}

/// Writes at most so many blocks to each file.
const SMALL_FILES: &str = "ulimit -f 100;";

#[test]
fn treats_the_limit_on_file_sizes_like_a_full_disk() {
    // Refused when the block is announced, while its source still runs the guest.
    let folder = tempfile::tempdir().expect("a folder");
    let (mut receiver, mut source) = connected(&folder, SMALL_FILES);
    let (stream, end) = stream();
    let _ = source.write_all(&stream);
    assert_eq!(receiver.wait(SOON).code(), Some(1));
    let errors = receiver.errors();
    assert!(errors.contains("ulimit -f"), "{errors}");
    assert!(errors.contains("still has its guest"), "{errors}");

    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    fs::write(path("stream"), [stream, end].concat()).expect("room");
    let (from, out) = (path("stream"), path("image"));
    let mut import = shell(SMALL_FILES, &["import", text(&from), "--out", text(&out)]);
    assert_eq!(import.wait(SOON).code(), Some(1), "{import}");
    assert!(import.errors().contains("ulimit -f"), "{import}");

    let huge = ["demo", "--size", "4M", "--page-size", "2M"];
    let mut demo = shell(SMALL_FILES, &huge);
    assert_eq!(demo.wait(SOON).code(), Some(1), "{demo}");
    assert!(demo.errors().contains("File too large"), "{demo}");
}
