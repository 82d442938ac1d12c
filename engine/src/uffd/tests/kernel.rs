//! States of the real kernel that the public API cannot reach.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{env, io, thread};

use linux_raw_sys::general::UFFD_FEATURE_EVENT_REMOVE;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::memory::{Backing, Memory};
use crate::uffd::place::{Fill, place};
use crate::uffd::{Cause, Features, Filled, Route, Uffd};

const CHILD: &str = "RETPATH_TEST_CHILD";

#[test]
fn reports_an_eagain_until_the_event_behind_it_is_read() {
    let wanted = Features(Features::WANTED.0 | u64::from(UFFD_FEATURE_EVENT_REMOVE));
    let uffd = Uffd::open_asking(wanted).unwrap_or_else(|error| panic!("{error}"));
    let memory = Arc::new(Memory::new(Backing::Anonymous, 1 << 20).unwrap());
    let page = memory.page_size();
    let bytes = vec![7; page as usize];
    memory.nohugepage().unwrap();
    let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
    region.copy(0, &bytes).unwrap();

    // The kernel holds the discard, and every placement, until the event is read.
    let discard = {
        let memory = Arc::clone(&memory);
        thread::spawn(move || memory.discard(0, page))
    };
    poll(&mut [PollFd::new(&uffd, PollFlags::IN)], None).unwrap();
    let error = region.copy(page, &bytes).unwrap_err();
    assert!(matches!(error.cause, Cause::Pending { .. }), "{error}");
    assert_eq!(error.done, Filled::default());
    let error = region.zero(page, page).unwrap_err();
    assert!(matches!(error.cause, Cause::Pending { .. }), "{error}");

    let mut handler = uffd.handler();
    assert_eq!(
        handler.faults().unwrap(),
        [],
        "events other than faults are skipped"
    );
    discard.join().unwrap().unwrap();
    assert_eq!(region.copy(page, &bytes).unwrap().placed, page);
    assert_eq!(
        region.zero(0, page).unwrap().placed,
        page,
        "the discarded page is missing again"
    );
    handler.finish();
}

#[test]
#[allow(clippy::print_stderr)]
fn reports_that_the_process_is_gone() {
    if env::var_os(CHILD).is_some() {
        let uffd = Uffd::open().unwrap();
        let memory = Arc::new(Memory::new(Backing::Anonymous, 1 << 20).unwrap());
        let _region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
        eprintln!(
            "ready {} {}",
            uffd.as_fd().as_raw_fd(),
            memory.range().start
        );
        io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let name = "uffd::tests::kernel::reports_that_the_process_is_gone";
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines
        .map(Result::unwrap)
        .find(|line| line.starts_with("ready "));
    let ready = ready.expect("the child opens a userfaultfd");
    let mut numbers = ready.split(' ').skip(1);
    let fd = numbers.next().unwrap().parse().unwrap();
    let address = numbers.next().unwrap().parse().unwrap();

    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    let fd = pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()).unwrap();
    let uffd = Uffd::adopt(fd, Route::Device, Features::default(), Features::default());
    let zero = |address| {
        place(&*uffd.shared, address, 4096, Fill::Zeros(4096), &mut |_| {
            false
        })
    };
    assert_eq!(
        zero(address).unwrap().placed,
        4096,
        "the descriptor reaches the child's memory"
    );

    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(
        zero(address + 4096),
        Err((
            Filled::default(),
            Cause::Refused {
                errno: Errno::SRCH.raw_os_error()
            }
        ))
    );
}
