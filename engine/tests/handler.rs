//! A page-fault handler that dies ends the process, loudly; unless the guest says that nobody waits.
//!
//! Most tests run themselves again as a child process, which dies, and look at its last words.

#![cfg(feature = "uffd")]

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, io::Read, thread};

use retpath_codec::{NameBuf, forward};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::destination;
use retpath_engine::driver::{
    Connector, Control, DestinationHandler, HandlerError, ReceiveOptions, RunError, ServeOptions,
    SourceHandler, receive, serve,
};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::socket::{Address, ChannelError, Link};
use retpath_engine::source::{self, PageSource, Source};
use retpath_engine::uffd::{Error, FailurePolicy, Handler};
use retpath_support::kernel::{memory, open};

const CHILD: &str = "RETPATH_TEST_CHILD";

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Runs a test of this file as a child process; gives how it ended and what it said.
fn run(test: &str) -> (ExitStatus, String) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Generous: what is tested is that it ends at all.
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the child hangs: nobody serves its faults and nobody ends it");
        }
        thread::sleep(Duration::from_millis(10));
    };
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    (status, text)
}

/// Two blocks, a thread that waits for a missing page, and a handler that ends as told once it has
/// seen the fault. Everything that could close the descriptor is given away.
fn serve_badly(end: impl FnOnce(Handler) + Send + 'static) {
    let uffd = open();
    let (ram, rom) = (
        memory(Backing::Anonymous, 1 << 20),
        memory(Backing::Shared, 1 << 20),
    );
    let regions = [
        uffd.register(b"pc.ram", Arc::clone(&ram)).unwrap(),
        uffd.register(b"pc.rom", rom).unwrap(),
    ];
    let mut handler = uffd.handler();
    drop((uffd, regions));
    let waiter = thread::spawn(move || {
        let byte = ram.touch(0).unwrap();
        eprintln!("the waiter read {byte}");
    });
    let serve = move || {
        while handler.faults().unwrap().is_empty() {
            thread::yield_now();
        }
        end(handler);
    };
    let server = thread::Builder::new()
        .name("rp-faults".into())
        .spawn(serve)
        .unwrap();
    let _ = server.join();
    waiter.join().unwrap();
}

fn ends_loudly(test: &str, how: &str) {
    let (status, text) = run(test);
    let line = text
        .lines()
        .find(|line| line.starts_with("retpath: "))
        .unwrap_or_default();
    for part in [
        "page-fault handler",
        "rp-faults",
        how,
        "\"pc.ram\", \"pc.rom\"",
        "incomplete",
        "aborting",
    ] {
        assert!(line.contains(part), "{part:?} is missing in {text}");
    }
    assert_eq!(
        status.signal(),
        Some(rustix::process::Signal::ABORT.as_raw()),
        "{status}: {text}"
    );
    assert!(
        !text.contains("the waiter read"),
        "the waiter went on: {text}"
    );
}

#[test]
fn a_handler_that_panics_ends_the_process() {
    if is_child() {
        return serve_badly(|_handler| panic!("a bug"));
    }
    ends_loudly("a_handler_that_panics_ends_the_process", "panicked");
}

#[test]
fn a_handler_that_ends_early_ends_the_process() {
    if is_child() {
        return serve_badly(|_handler| ());
    }
    ends_loudly("a_handler_that_ends_early_ends_the_process", "ended early");
}

#[test]
fn a_handler_that_fails_says_why() {
    if is_child() {
        return serve_badly(|handler| handler.fail(&"no route to the source"));
    }
    ends_loudly("a_handler_that_fails_says_why", "no route to the source");
}

#[test]
fn a_failure_policy_replaces_the_abort() {
    if is_child() {
        return serve_badly(|handler| {
            drop(handler.on_failure(FailurePolicy::call(|failure| {
                eprintln!("policy: {failure}");
                std::process::exit(7);
            })));
        });
    }
    let (status, text) = run("a_failure_policy_replaces_the_abort");
    assert_eq!(status.code(), Some(7), "{status}: {text}");
    let line = text.lines().find(|line| line.starts_with("policy: "));
    let line = line.expect("the policy was called");
    assert!(
        line.contains("rp-faults") && line.contains("\"pc.ram\", \"pc.rom\""),
        "{line}"
    );
    assert!(!text.contains("the waiter read"), "{text}");
}

#[test]
fn keeps_the_userfaultfd_open_when_the_policy_returns() {
    let uffd = open();
    let path = format!("/proc/self/fd/{}", uffd.as_fd().as_raw_fd());
    let target = || std::fs::read_link(&path).ok();
    let before = target();
    assert!(before.is_some());
    let region = uffd
        .register(b"pc.ram", memory(Backing::Anonymous, 1 << 20))
        .unwrap();
    let called = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&called);
    let policy = FailurePolicy::call(move |_| seen.store(true, Ordering::Relaxed));
    drop(uffd.handler().on_failure(policy));
    assert!(called.load(Ordering::Relaxed));
    drop((region, uffd));
    assert_eq!(target(), before, "closing it would wake waiters with zeros");
}

#[test]
fn a_handler_that_finishes_lets_the_process_go_on() {
    if is_child() {
        return serve_badly(Handler::finish);
    }
    let (status, text) = run("a_handler_that_finishes_lets_the_process_go_on");
    assert!(status.success(), "{status}: {text}");
    assert!(text.contains("the waiter read 0"), "{text}");
}

#[test]
fn a_handler_with_nothing_registered_may_just_end() {
    let uffd = open();
    let region = uffd
        .register(b"pc.ram", memory(Backing::Anonymous, 1 << 20))
        .unwrap();
    let handler = uffd.handler();
    region.unregister().unwrap();
    drop(handler);
}

/// A destination whose blocks' memory is there already.
struct Ready(Vec<Arc<Memory>>);

impl DestinationHandler for Ready {
    fn memory(&mut self, _: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        Ok(Some(self.0.remove(0)))
    }

    /// Nobody touches the memory.
    fn failed(&mut self, _: &RunError) -> bool {
        true
    }
}

/// A source that is switched at once.
struct Switched(Vec<Vec<u8>>);

impl SourceHandler for Switched {
    fn pages(&self) -> &dyn PageSource {
        &self.0
    }

    fn precopy(&mut self, core: &mut Source) -> Result<(), HandlerError> {
        match core.phase() {
            source::SourcePhase::Precopy => Ok(core.switch(Vec::new())?),
            _ => Ok(()),
        }
    }
}

struct Dial(Address);

impl Connector for Dial {
    fn connect(&mut self, _: Channel) -> Result<Link, ChannelError> {
        self.0.connect(false)
    }
}

/// Found by failing each ioctl once: with one block registered and the next one refused, the
/// process was aborted although the guest had said that nobody waits.
#[test]
fn a_block_that_cannot_be_registered_ends_the_migration_and_not_the_process() {
    const LEN: u64 = 4 * 4096;
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("socket"));
    let mut listener = address.listen(false).unwrap();
    let mut blocks = Blocks::new(4096).unwrap();
    for name in ["pc.ram", "vga.vram"] {
        let name = NameBuf::new(name).unwrap();
        let (len, page) = (LEN, 4096);
        blocks.add(Block { name, len, page }).unwrap();
    }
    let [free, taken] = [(); 2].map(|()| memory(Backing::Anonymous, LEN));
    // Memory belongs to one userfaultfd.
    let other = open();
    let _region = other.register(b"another's", Arc::clone(&taken)).unwrap();

    let source = thread::spawn(move || {
        let mut machine = Switched(vec![vec![1; LEN as usize]; 2]);
        let mut core = Source::new(source::Config::new("pc-i440fx-10.0"), blocks).unwrap();
        let options = ServeOptions {
            reconnect_timeout: Duration::ZERO,
            ..ServeOptions::default()
        };
        let control = Control::new().unwrap();
        serve(
            &mut core,
            &mut machine,
            &mut Dial(address),
            &options,
            &control,
        )
    });
    let options = ReceiveOptions {
        core: destination::Config::default(),
        stream: forward::Options::default(),
        reconnect_timeout: Duration::ZERO,
        recovery_timeout: Duration::from_secs(30),
        accept_unproven_end: false,
    };
    let control = Control::new().unwrap();
    let end = receive(
        &mut listener,
        &mut Ready(vec![free, taken]),
        options,
        &control,
    );
    let refused = matches!(
        &end,
        Err(RunError::Uffd(Error::Register { block, .. })) if block == "vga.vram"
    );
    assert!(refused, "{end:?}");
    // The source would wait for an answer otherwise.
    drop(listener);
    source.join().unwrap().unwrap_err();
}
