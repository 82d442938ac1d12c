//! Each sandbox is entered in a thread, which it confines as it confines a process.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::process::test_kill_process;
use tempfile::TempDir;

use super::*;

/// Runs `inside` in a sandbox; nothing where the kernel does not have all of it.
fn confined(sandbox: Sandbox, inside: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        let status = sandbox.enter().expect("the kernel accepts the sandbox");
        match status.is_complete() {
            true => inside(),
            false => {
                crate::output::note(format_args!("NOT TESTED: this kernel has only: {status}"))
            }
        }
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A folder with the temporary folder of an image, and a file beside that.
struct Room {
    folder: TempDir,
    temporary: PathBuf,
    secret: PathBuf,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [temporary, secret] =
            ["vm.incomplete-1", "secret"].map(|name| folder.path().join(name));
        fs::create_dir(&temporary).expect("a new name");
        fs::write(&secret, "secret").expect("room");
        Self {
            folder,
            temporary,
            secret,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn assert_denied<T>(what: &str, result: io::Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what}: possible"));
    let kinds = [ErrorKind::PermissionDenied, ErrorKind::CrossesDevices];
    assert!(kinds.contains(&error.kind()), "{what}: {error}");
}

fn assert_no_file(secret: &Path, mine: &Path) {
    for path in ["/etc/passwd", "/proc/self/mem", "/dev/null", "/"] {
        assert_denied(path, File::open(path));
    }
    assert_denied("reading", fs::read(secret));
    assert_denied("writing", File::options().write(true).open(secret));
    assert_denied("removing", fs::remove_file(secret));
    assert_denied("creating", File::create(secret.with_file_name("new")));
    assert_denied("moving here", fs::rename(secret, mine));
    assert_denied("linking here", fs::hard_link(secret, mine));
    assert_denied("a symbolic link", symlink(secret, mine));
}

#[test]
fn finds_no_file_no_program_and_no_peer() {
    let room = Room::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = tcp.local_addr().expect("it listens");
    let socket = room.path("socket");
    let _unix = UnixListener::bind(&socket).expect("a new name");
    let (secret, mine) = (room.secret.clone(), room.temporary.join("mine"));
    let sandbox = Sandbox::default().image(&room.temporary, &room.path("vm"));
    confined(sandbox, move || {
        assert_no_file(&secret, &mine);
        assert_denied(
            "a mode",
            fs::set_permissions(&secret, PermissionsExt::from_mode(0o666)),
        );
        assert_denied("an owner", chown(&secret, None, None));
        assert_denied("a program", Command::new("/bin/true").status());
        assert_denied("TCP", TcpStream::connect(address));
        assert_denied("UDP", UdpSocket::bind("127.0.0.1:0"));
        assert_denied("a Unix socket", UnixStream::connect(&socket));
        assert_denied("listening", UnixListener::bind(&mine));
    });
    assert_eq!(fs::read(&room.secret).expect("still there"), b"secret");
}

#[test]
fn opens_nothing_at_all_without_an_image() {
    let room = Room::new();
    let (secret, mine) = (room.secret.clone(), room.temporary.join("mine"));
    confined(Sandbox::default(), move || {
        assert_no_file(&secret, &mine);
        assert_denied("creating", File::create(&mine));
    });
}

#[test]
fn writes_renames_and_removes_the_image() {
    let room = Room::new();
    let (from, out) = (room.temporary.clone(), room.path("vm"));
    confined(Sandbox::default().image(&from, &out), move || {
        let [new, name] = ["manifest.json.new", "manifest.json"].map(|name| from.join(name));
        for text in ["one", "two"] {
            fs::write(&new, text).expect("a new file");
            fs::rename(&new, &name).expect("replaces");
        }
        fs::rename(&from, &out).expect("the name");
        let parent = File::open(parent(&out)).expect("may be listed");
        parent.sync_all().expect("a disk");
        assert_eq!(fs::read(out.join("manifest.json")).expect("there"), b"two");
        fs::remove_dir_all(&out).expect("removes it");
    });
}

#[test]
fn moves_the_image_to_another_folder() {
    let room = Room::new();
    let out = room.path("other").join("vm");
    fs::create_dir(parent(&out)).expect("a new name");
    let (from, secret) = (room.temporary.clone(), room.secret.clone());
    confined(Sandbox::default().image(&from, &out), move || {
        fs::write(from.join("a"), "page").expect("a new file");
        fs::rename(&from, &out).expect("the name");
        assert_eq!(fs::read(out.join("a")).expect("there"), b"page");
        assert_denied(
            "moving another file",
            fs::rename(&secret, out.join("secret")),
        );
    });
}

#[test]
fn removes_the_socket_and_accepts_connections() {
    let room = Room::new();
    let path = room.path("socket");
    let listener = UnixListener::bind(&path).expect("a new name");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let _near = UnixStream::connect(&path).expect("it listens");
    let _far = TcpStream::connect(tcp.local_addr().expect("it listens")).expect("it listens");
    let sandbox = Sandbox::default().socket(&Address::Unix(path.clone()));
    confined(sandbox, move || {
        listener.accept().expect("a connection");
        tcp.accept().expect("a connection");
        fs::remove_file(&path).expect("its socket");
    });
}

#[test]
fn starts_threads_and_signals_only_itself() {
    let parent = rustix::process::getppid().expect("a parent");
    confined(Sandbox::default(), move || {
        let thread = thread::Builder::new().spawn(|| {
            assert_denied("a file", File::open("/etc/passwd"));
        });
        thread.expect("starts").join().expect("confined, too");
        signal_hook::low_level::raise(signal_hook::consts::SIGCONT).expect("a signal to itself");
        assert_denied(
            "a signal",
            test_kill_process(parent).map_err(io::Error::from),
        );
    });
}

/// Landlock without seccomp, as on kernels without filters.
#[test]
fn landlock_alone_denies_files_and_programs() {
    let room = Room::new();
    let (secret, mine) = (room.secret.clone(), room.temporary.join("mine"));
    let sandbox = Sandbox::default().image(&room.temporary, &room.path("vm"));
    let thread = thread::spawn(move || {
        if sandbox.landlock().expect("accepted").is_some() {
            assert_no_file(&secret, &mine);
            assert_denied("a program", Command::new("/bin/true").status());
        }
    });
    thread.join().expect("every call is denied");
}

/// seccomp without Landlock, as on kernels before 5.13.
#[test]
fn seccomp_alone_denies_programs_and_sockets() {
    let room = Room::new();
    let socket = room.path("socket");
    let _unix = UnixListener::bind(&socket).expect("a new name");
    let thread = thread::spawn(move || {
        if seccomp::enter(false).expect("accepted") {
            File::open("/etc/passwd").expect("files are not confined");
            assert_denied("a program", Command::new("/bin/true").status());
            assert_denied("a socket", UnixStream::connect(&socket));
        }
    });
    thread.join().expect("every call is denied");
}

#[test]
fn says_what_is_in_force() {
    for (landlock, seccomp, complete, text) in [
        (
            Some(7),
            true,
            true,
            "files, TCP and signals confined by Landlock 7, system calls by",
        ),
        (
            Some(5),
            true,
            false,
            "files and TCP confined by Landlock 5,",
        ),
        (Some(1), true, false, "files confined by Landlock 1,"),
        (Some(7), false, false, "system calls not confined"),
        (None, true, false, "files not confined"),
    ] {
        let status = Status { landlock, seccomp };
        assert_eq!(status.is_complete(), complete);
        assert!(status.to_string().contains(text), "{status}");
    }
}
