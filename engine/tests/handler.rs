//! A page-fault handler that ends early aborts the process, unless the guest allows it to fail.
//!
//! Most tests start themselves as a child process and check its exit status and output.

#![cfg(feature = "uffd")]

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use retpath_engine::blocks::Block;
use retpath_engine::driver::{Control, DestinationHandler, HandlerError, RunError, receive};
use retpath_engine::memory::{Backing, Memory};
use retpath_engine::source::{self, Source};
use retpath_engine::uffd::{Error, FailurePolicy, Handler};
use retpath_support::kernel::{memory, open};
use retpath_support::loops::{Dial, Net, Still, blocks, listen, receive_options, serve_with};

const CHILD: &str = "RETPATH_TEST_CHILD";

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Runs a test of this file as a child process; returns its status and standard error.
fn run(test: &str) -> (ExitStatus, String) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A generous limit: the test only requires that the child ends.
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the child hangs");
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

/// As [`end_handler_of`], for a thread that touches the first page.
fn end_handler(end: impl FnOnce(Handler) + Send + 'static) {
    end_handler_of(|ram| ram.touch(0).unwrap(), end);
}

/// Registers two blocks, starts a thread that waits for a missing page in `touch`, and calls `end`
/// once the handler has read the fault. Both blocks stay mapped; everything else that keeps the
/// descriptor open is dropped.
fn end_handler_of(
    touch: impl FnOnce(&Memory) -> u8 + Send + 'static,
    end: impl FnOnce(Handler) + Send + 'static,
) {
    let uffd = open();
    let (ram, rom) = (
        memory(Backing::Anonymous, 1 << 20),
        memory(Backing::Shared, 1 << 20),
    );
    let regions = [
        uffd.register(b"pc.ram", Arc::clone(&ram)).unwrap(),
        uffd.register(b"pc.rom", Arc::clone(&rom)).unwrap(),
    ];
    let mut handler = uffd.handler();
    drop((uffd, regions));
    let waiter = thread::spawn(move || {
        let byte = touch(&ram);
        drop(rom);
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

/// Returns the message of a handler that ended in the given way.
fn failure(how: &str) -> String {
    format!(
        "the page-fault handler (thread \"rp-faults\") {how}; memory of RAM blocks \"pc.ram\", \
         \"pc.rom\" is incomplete, and threads that touch it would hang forever or read zeros"
    )
}

fn aborts_with_a_message(test: &str, how: &str) {
    let (status, text) = run(test);
    let line = text
        .lines()
        .find(|line| line.starts_with("retpath: "))
        .unwrap_or_default();
    let want = format!("retpath: {}: aborting", failure(how));
    assert_eq!(line, want, "{text}");
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
        return end_handler(|_handler| panic!("a bug"));
    }
    aborts_with_a_message("a_handler_that_panics_ends_the_process", "panicked");
}

#[test]
fn a_handler_that_ends_early_ends_the_process() {
    if is_child() {
        return end_handler(|_handler| ());
    }
    aborts_with_a_message("a_handler_that_ends_early_ends_the_process", "ended early");
}

#[test]
fn a_failing_handler_reports_the_cause() {
    if is_child() {
        return end_handler(|handler| handler.fail(&"no route to the source"));
    }
    aborts_with_a_message(
        "a_failing_handler_reports_the_cause",
        "ended early: no route to the source",
    );
}

#[test]
fn aborts_while_a_waiting_thread_holds_standard_error() {
    if is_child() {
        return end_handler_of(
            |ram| {
                let _lock = io::stderr().lock();
                ram.touch(0).unwrap()
            },
            drop,
        );
    }
    aborts_with_a_message(
        "aborts_while_a_waiting_thread_holds_standard_error",
        "ended early",
    );
}

#[test]
fn a_failure_policy_replaces_the_abort() {
    if is_child() {
        return end_handler(|handler| {
            drop(handler.on_failure(FailurePolicy::call(|failure| {
                eprintln!("policy: {failure}");
                std::process::exit(7);
            })));
        });
    }
    let (status, text) = run("a_failure_policy_replaces_the_abort");
    assert_eq!(status.code(), Some(7), "{status}: {text}");
    let line = text.lines().find(|line| line.starts_with("policy: "));
    let want = format!("policy: {}", failure("ended early"));
    assert_eq!(line, Some(&want[..]), "{text}");
    assert!(!text.contains("the waiter read"), "{text}");
}

#[test]
fn keeps_the_userfaultfd_open_when_the_policy_returns() {
    keeps_the_userfaultfd_open(|| ());
}

#[test]
fn keeps_the_userfaultfd_open_when_the_policy_panics() {
    keeps_the_userfaultfd_open(|| panic!("a bug in the policy"));
}

fn keeps_the_userfaultfd_open(end: impl Fn() + Send + Sync + 'static) {
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
    let policy = FailurePolicy::call(move |_| {
        seen.store(true, Ordering::Relaxed);
        end();
    });
    let handler = uffd.handler().on_failure(policy);
    let _ = panic::catch_unwind(AssertUnwindSafe(move || drop(handler)));
    assert!(called.load(Ordering::Relaxed));
    drop((region, uffd));
    assert_eq!(target(), before, "closing it would wake waiters with zeros");
}

#[test]
fn a_handler_that_finishes_does_not_end_the_process() {
    if is_child() {
        return end_handler(Handler::finish);
    }
    let (status, text) = run("a_handler_that_finishes_does_not_end_the_process");
    assert!(status.success(), "{status}: {text}");
    assert!(text.contains("the waiter read 0"), "{text}");
}

#[test]
fn a_handler_without_registered_memory_may_be_dropped() {
    let uffd = open();
    let region = uffd
        .register(b"pc.ram", memory(Backing::Anonymous, 1 << 20))
        .unwrap();
    let handler = uffd.handler();
    region.unregister().unwrap();
    drop(handler);
}

/// A destination with memory prepared for its blocks.
struct Ready(Vec<Arc<Memory>>);

impl DestinationHandler for Ready {
    fn memory(&mut self, _: &Block, _: u64) -> Result<Option<Arc<Memory>>, HandlerError> {
        Ok(Some(self.0.remove(0)))
    }

    /// Returns true: no thread touches the memory.
    fn failed(&mut self, _: &RunError) -> bool {
        true
    }
}

/// Regression, found by fault injection: with one block registered and the next one refused, the
/// process aborted although the guest had allowed the failure.
#[test]
fn a_failed_registration_ends_the_migration_but_not_the_process() {
    const LEN: u64 = 4 * 4096;
    // More than is sent before the switch, so that nothing is written to the other block.
    const FREE: u64 = 1 << 20;
    let (_dir, mut listener) = listen(Net::Unix);
    let address = listener.address().clone();
    let [free, taken] = [FREE, LEN].map(|len| memory(Backing::Anonymous, len));
    // Memory can be registered with only one userfaultfd.
    let other = open();
    let _region = other.register(b"another's", Arc::clone(&taken)).unwrap();

    let source = thread::spawn(move || {
        let blocks = blocks(&[("pc.ram", FREE), ("vga.vram", LEN)]);
        let mut core = Source::new(source::Config::new("pc-i440fx-10.0"), blocks).unwrap();
        let mut machine = Still([FREE, LEN].map(|len| vec![1; len as usize]).to_vec());
        serve_with(&mut core, &mut machine, &mut Dial(address), Duration::ZERO)
    });
    let options = receive_options(false).reconnect_timeout(Duration::ZERO);
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
    // Without this, the source would wait for an answer.
    drop(listener);
    source.join().unwrap().unwrap_err();
}
