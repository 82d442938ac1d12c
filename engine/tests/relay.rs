//! Tests of two parts of the QEMU harness, without QEMU: the relay between the two sides of a
//! migration, and the wrapper of child processes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::Relay;
use retpath_support::qemu::process::folder;
use retpath_support::qemu::relay::{Way, recorded};

/// Creates a listener with a relay in front of it.
fn behind(folder: &Path) -> (UnixListener, Relay) {
    let path = folder.join("in");
    (UnixListener::bind(&path).unwrap(), Relay::new(&path))
}

/// Connects through the relay and returns both ends, with read timeouts.
fn through(listener: &UnixListener, relay: &Relay) -> (UnixStream, UnixStream) {
    let near = UnixStream::connect(relay.socket()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(SOON)).unwrap();
    }
    (near, far)
}

fn rest(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn holds_a_message_until_it_is_released() {
    let folder = folder();
    let (listener, relay) = behind(folder.path());
    relay.hold(Way::Forward, b"held");
    let (mut near, mut far) = through(&listener, &relay);
    near.write_all(b"through, h").unwrap();
    near.write_all(b"e").unwrap();
    near.write_all(b"ld, behind").unwrap();
    relay.wait_held(SOON, |bytes| bytes == b"held, behind");
    // The other direction and the bytes before it are forwarded.
    far.write_all(b"back").unwrap();
    let mut back = [0; 4];
    near.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"back");
    let mut before = [0; 9];
    far.read_exact(&mut before).unwrap();
    assert_eq!(&before, b"through, ");
    assert_eq!(relay.forwarded(), 9);
    relay.release();
    near.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut far), b"held, behind");
}

#[test]
fn a_cut_drops_held_messages() {
    let folder = folder();
    let (listener, relay) = behind(folder.path());
    relay.hold(Way::Back, b"held");
    let (mut near, mut far) = through(&listener, &relay);
    far.write_all(b"through, held, behind").unwrap();
    relay.wait_held(SOON, |_| true);
    relay.cut();
    assert_eq!(rest(&mut near), b"through, ");
    assert_eq!(rest(&mut far), b"");
}

#[test]
fn refuses_connections_while_it_is_torn_down() {
    let folder = folder();
    let (listener, relay) = behind(folder.path());
    let (mut near, _far) = through(&listener, &relay);
    relay.tear_down();
    assert_eq!(rest(&mut near), b"");
    let mut near = UnixStream::connect(relay.socket()).unwrap();
    near.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(rest(&mut near), b"");
    assert_eq!(relay.links().len(), 1);
    relay.mend();
    let (mut near, mut far) = through(&listener, &relay);
    near.write_all(b"again").unwrap();
    drop(near);
    assert_eq!(rest(&mut far), b"again");
}

#[test]
fn forwards_and_records_both_ways() {
    let folder = folder();
    let (listener, relay) = behind(folder.path());
    let prefix = folder.path().join("name");
    let relay = relay.record(&prefix);
    let sent: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut near, mut far) = through(&listener, &relay);
    let (_second, mut other) = through(&listener, &relay);

    near.write_all(&sent[..100]).unwrap();
    let mut head = [0; 100];
    far.read_exact(&mut head).unwrap();
    far.write_all(b"pong").unwrap();
    far.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut near), b"pong");
    // The other direction is still open.
    let all = sent.clone();
    let writer = std::thread::spawn(move || near.write_all(&all[100..]).map(|()| drop(near)));
    assert!(head == sent[..100] && rest(&mut far) == sent[100..]);
    writer.join().unwrap().unwrap();

    relay.wait(SOON, "the end", |links| links[0].closed.then_some(()));
    assert!(recorded(&prefix, 0, "fwd") == sent);
    assert_eq!(recorded(&prefix, 0, "rp"), b"pong");
    let links = relay.links();
    assert_eq!(
        (links[0].forward, links[0].back, links[0].head.len()),
        (200_000, 4, 16)
    );
    assert_eq!((links.len(), links[1].closed), (2, false));
    drop(relay);
    assert_eq!(rest(&mut other), b"");
}

#[test]
fn cuts_all_links_at_the_exact_byte() {
    let folder = folder();
    let (listener, relay) = behind(folder.path());
    let (mut near, mut far) = through(&listener, &relay);
    let (mut second, mut other) = through(&listener, &relay);
    second.write_all(&[1; 10]).unwrap();
    relay.wait(SOON, "ten bytes", |links| {
        (links[1].forward == 10).then_some(())
    });

    relay.cut_after(777);
    second.write_all(&[2; 77]).unwrap();
    relay.wait(SOON, "the rest", |links| {
        (links[1].forward == 87).then_some(())
    });
    near.write_all(&[3; 5000]).unwrap();
    relay.wait_cuts(1, SOON);
    assert_eq!(rest(&mut far), [3; 700]);
    assert_eq!(rest(&mut other).len(), 87);
    assert_eq!((rest(&mut near).len(), rest(&mut second).len()), (0, 0));
    assert!(
        second.write_all(b"more").is_err(),
        "a cut link takes nothing"
    );

    let (mut near, mut far) = through(&listener, &relay);
    near.write_all(&[4; 5000]).unwrap();
    drop(near);
    assert_eq!(
        rest(&mut far),
        [4; 5000],
        "the next connection goes through"
    );
    assert_eq!(relay.cuts(), 1);
}

#[test]
fn ends_one_direction_alone() {
    let folder = folder();
    let (listener, relay) = behind(folder.path());
    let (mut near, mut far) = through(&listener, &relay);
    relay.half_close(0, Way::Forward);
    assert_eq!(rest(&mut far), b"");
    far.write_all(b"still here").unwrap();
    drop(far);
    assert_eq!(rest(&mut near), b"still here");
}

#[test]
fn reports_that_nothing_listens() {
    let folder = folder();
    let relay = Relay::new(&folder.path().join("nobody"));
    let mut near = UnixStream::connect(relay.socket()).unwrap();
    near.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(rest(&mut near), b"");
    assert!(relay.to_string().contains("no connection to"), "{relay}");
}

fn shell(script: &str) -> Program {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Program::spawn(command)
}

#[test]
fn keeps_the_output_of_a_program() {
    let mut program = shell("echo one; echo two 2; echo oops >&2; exit 3");
    let two = program.wait_line(SOON, |line| line.strip_prefix("two ").map(str::to_owned));
    assert_eq!(two, "2");
    assert_eq!(program.wait(SOON).code(), Some(3));
    assert_eq!(
        (program.output().as_str(), program.errors().as_str()),
        ("one\ntwo 2\n", "oops\n")
    );
}

#[test]
fn kills_the_program_on_drop() {
    let program = shell("echo $$; exec sleep 1000");
    let folder = program.wait_line(SOON, |line| Some(format!("/proc/{line}")));
    assert!(Path::new(&folder).exists());
    drop(program);
    assert!(!Path::new(&folder).exists());
}

#[test]
fn stops_waiting_for_a_file_when_the_program_ends() {
    let folder = folder();
    let path = folder.path().join("made");
    let mut program = shell(&format!(
        "sleep 0.01; : >{}; exec sleep 1000",
        path.display()
    ));
    program.wait_path(&path, SOON);
    let other = folder.path().join("never");
    let waited = std::panic::catch_unwind(|| shell("exit 7").wait_path(&other, SOON));
    let why = *waited.unwrap_err().downcast::<String>().unwrap();
    let path = other.display();
    assert_eq!(
        why,
        format!("sh ended with exit status: 7 before {path} was there")
    );
}
