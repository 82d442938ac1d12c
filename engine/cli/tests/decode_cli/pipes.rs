//! Slow inputs, outputs that are closed, terminals.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use retpath_cli::decode::{self, Options};

use crate::{capture, retpath, stream};

const PONG: &[u8] = b"\0\x02\0\x04\0\0\0\x01";

/// Runs the command with pipes around it; what it prints arrives line by line.
fn piped(args: &[&str], work: impl FnOnce(ChildStdin, &mpsc::Receiver<String>)) {
    let mut child = retpath()
        .args(args)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary has been built");
    let stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let (sender, lines) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for line in BufReader::new(stdout).lines() {
                sender.send(line.expect("reports are UTF-8")).ok();
            }
        });
        work(stdin, &lines);
    });
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// The next line. A command that delays it makes the test fail, not hang.
#[track_caller]
fn line(lines: &mpsc::Receiver<String>) -> String {
    lines
        .recv_timeout(Duration::from_secs(60))
        .expect("the line appears")
}

#[test]
fn prints_a_line_as_soon_as_its_message_has_arrived() {
    piped(&["--format", "json"], |mut stdin, lines| {
        stdin.write_all(PONG).expect("it reads on");
        assert_eq!(line(lines), r#"{"offset":0,"message":"PONG","value":1}"#);
        // A message, and the next one in two parts.
        stdin.write_all(PONG).expect("it reads on");
        stdin.write_all(&PONG[..5]).expect("it reads on");
        assert_eq!(line(lines), r#"{"offset":8,"message":"PONG","value":1}"#);
        assert!(lines.try_recv().is_err());
        stdin.write_all(&PONG[5..]).expect("it reads on");
        assert_eq!(line(lines), r#"{"offset":16,"message":"PONG","value":1}"#);
        // A bitmap that arrives slowly.
        stdin
            .write_all(b"\0\x05\0\x07\x06pc.ram\0\0\0\0\0\0\0\x08\x01")
            .expect("it reads on");
        stdin
            .write_all(b"\0\0\0\0\0\0\0\x01\x23\x45\x67\x89\xab\xcd\xef")
            .expect("it reads on");
        let bitmap =
            r#"{"offset":24,"message":"RECV_BITMAP","block":"pc.ram","bits":64,"received":1}"#;
        assert_eq!(line(lines), bitmap);
    });
}

#[test]
fn prints_a_record_as_soon_as_its_page_has_arrived() {
    piped(&["--kind", "preempt"], |mut stdin, lines| {
        let start = [&8_u64.to_be_bytes()[..], b"\x06pc.ram", &[7; 4095]].concat();
        stdin.write_all(&start).expect("it reads on");
        stdin.write_all(&[7]).expect("it reads on");
        let page =
            "0x0000000000  PAGE                  start 0x0          page 0         block pc.ram";
        assert_eq!(line(lines), page);
        stdin
            .write_all(b"\0\0\0\0\0\0\x10\x22\0")
            .expect("it reads on");
        let zero =
            "0x000000100f  ZERO                  start 0x1000       page 1         block pc.ram";
        assert_eq!(line(lines), zero);
    });
}

/// Breaks in the middle.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.0.read(room)? {
            0 => Err(io::Error::other("the disk is gone")),
            read => Ok(read),
        }
    }
}

#[test]
fn prints_what_was_decoded_before_a_read_error() {
    let bytes = [PONG, &PONG[..3]].concat();
    let mut input = Broken(&bytes);
    let mut out = Vec::new();
    let verdict = decode::decode(&Options::default(), &mut input, &mut out, &mut |_| {});
    assert_eq!(out, b"0x0000000000  PONG            value 1\n");
    let failure = verdict.expect_err("the input broke");
    assert_eq!(
        failure.to_string(),
        "cannot read the rest: the disk is gone"
    );
    assert!(!failure.is_closed_output());
}

/// Yields its bytes a few at a time.
pub(crate) struct Trickle<'a>(pub(crate) &'a [u8], pub(crate) usize);

impl Read for Trickle<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = self.1.min(room.len());
        self.0.read(&mut room[..most])
    }
}

#[test]
fn prints_the_same_however_the_input_is_split() {
    let recordings = ["qemu-7.2-plain.ch0.rp", "qemu-10.0-recover.ch1.rp"];
    for name in recordings {
        let bytes = std::fs::read(capture(name)).expect("the corpus has it");
        for cut in [bytes.len(), bytes.len() - 3] {
            let bytes = &bytes[..cut];
            let (whole, verdict) = decode::decode_slice(&Options::default(), bytes);
            for step in [1, 2, 3, 7, 64] {
                let mut out = Vec::new();
                let mut read = 0;
                let split = decode::decode(
                    &Options::default(),
                    &mut Trickle(bytes, step),
                    &mut out,
                    &mut |bytes| read += bytes,
                );
                assert_eq!(out, whole, "{name} in steps of {step}");
                assert_eq!(format!("{split:?}"), format!("{verdict:?}"));
                assert_eq!(read, cut, "progress counts every byte");
            }
        }
    }
}

#[test]
fn ends_quietly_when_its_reader_closes_the_pipe() {
    let mut child = retpath()
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary has been built");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || while stdin.write_all(PONG).is_ok() {});
        let mut line = String::new();
        BufReader::with_capacity(16, stdout)
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(line, "0x0000000000  PONG            value 1\n");
        let output = child
            .wait_with_output()
            .expect("it ends though its input does not");
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
    });
}

#[test]
fn fails_when_the_report_cannot_be_written() {
    let full = OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = retpath()
        .arg(capture("qemu-7.2-plain.ch0.rp"))
        .stdout(full)
        .output()
        .expect("the binary has been built");
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).expect("errors are UTF-8");
    assert!(
        line.contains(": cannot write the report: No space left on device"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
}

/// Runs the command on a terminal and returns what appears there.
fn on_a_terminal(args: &[&str], setting: Option<(&str, &str)>, code: i32, input: &[u8]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it is ours");
    let path = ptsname(&ours, Vec::new()).expect("it has a name");
    let path = path.to_str().expect("the name is ASCII");
    let theirs = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("a terminal");
    let mut command = retpath();
    command
        .env("TERM", "xterm")
        .envs(setting)
        .args(args)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(theirs.try_clone().expect("a descriptor is left"))
        .stderr(theirs);
    let mut child = command.spawn().expect("the binary has been built");
    // The command holds the other side, and must be the only one.
    drop(command);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).expect("it reads on"));
        // The last reader of a terminal gets an error instead of an end.
        let _ = File::from(ours).read_to_end(&mut seen);
    });
    assert_eq!(child.wait().expect("it ends").code(), Some(code));
    String::from_utf8(seen).expect("all output is UTF-8")
}

#[test]
fn has_colors_only_on_a_terminal_that_wants_them() {
    let plain = "0x0000000000  PONG            value 1\r\n";
    let colored = "\x1b[2m0x0000000000\x1b[0m  \x1b[1m\x1b[36mPONG\x1b[0m            \
                    \x1b[2mvalue\x1b[0m 1\r\n";
    assert_eq!(on_a_terminal(&[], None, 0, PONG), colored);
    assert_eq!(on_a_terminal(&[], Some(("NO_COLOR", "")), 0, PONG), colored);
    assert_eq!(on_a_terminal(&[], Some(("NO_COLOR", "1")), 0, PONG), plain);
    assert_eq!(on_a_terminal(&[], Some(("TERM", "dumb")), 0, PONG), plain);
    let json = "{\"offset\":0,\"message\":\"PONG\",\"value\":1}\r\n";
    assert_eq!(on_a_terminal(&["--format", "json"], None, 0, PONG), json);
    assert_eq!(on_a_terminal(&["--color=never"], None, 0, PONG), plain);
    let piped = crate::decode(&["--color", "always"], PONG).decoded();
    assert_eq!(piped.replace('\n', "\r\n"), colored);
}

#[test]
fn shows_a_bar_on_a_terminal_while_a_large_recording_is_decoded() {
    let (start, pages) = stream::endless();
    let recording = [start, pages.repeat(80)].concat();
    let seen = on_a_terminal(&["--summary"], None, 1, &recording);
    assert!(seen.contains("MiB/s") || seen.contains("GiB/s"), "{seen:?}");
    // Messages and a bar would mix on one terminal.
    let seen = on_a_terminal(&[], None, 1, &recording);
    assert!(!seen.contains("iB/s"));
}

#[test]
fn needs_no_more_memory_for_a_larger_recording() {
    let used = stream::memory_after(retpath(), &[16, 256]);
    assert!(
        used[1] < used[0] + 1024,
        "KiB after 16 and 256 MiB: {used:?}"
    );
}
