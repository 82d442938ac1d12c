//! Placement and faults with the kernel's userfaultfd.

#![cfg(feature = "uffd")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use retpath_engine::memory::Backing;
use retpath_engine::uffd::{Cause, Error, Features, Filled};
use retpath_support::kernel::{contents, memory, next, open, pages, toucher};
use rustix::event::{PollFd, PollFlags, poll};

const PLAIN: [Backing; 2] = [Backing::Anonymous, Backing::Shared];

fn thread_id() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .try_into()
        .unwrap()
}

#[test]
fn reports_thread_address_and_access_of_a_fault() {
    for backing in PLAIN {
        let uffd = open();
        let memory = memory(backing, 1 << 20);
        let page = memory.page_size();
        let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
        let mut handler = uffd.handler();
        assert_eq!(handler.faults().unwrap(), [], "no faults");

        let (send, ids) = mpsc::channel();
        let other = Arc::clone(&memory);
        let writer = thread::spawn(move || {
            send.send(thread_id()).unwrap();
            other.write(5 * page + 72, &[9; 8]).unwrap();
        });
        let fault = next(&mut handler)[0];
        assert_eq!(fault.address, memory.range().start + 5 * page);
        assert!(fault.write);
        let id = ids.recv().unwrap();
        assert_eq!(
            fault.thread,
            uffd.features().contains(Features::THREAD_ID).then_some(id)
        );

        let bytes = pages(1, page);
        assert_eq!(region.copy(5 * page, &bytes).unwrap().placed, page);
        writer.join().unwrap();
        assert_eq!(memory.touch(5 * page + 79).unwrap(), 9);
        assert_eq!(memory.touch(5 * page + 80).unwrap(), bytes[80]);

        let reader = toucher(&memory, 8 * page - 1);
        let fault = next(&mut handler)[0];
        assert_eq!(fault.address, memory.range().start + 7 * page);
        assert!(!fault.write);
        assert_eq!(region.zero(7 * page, page).unwrap().placed, page);
        assert_eq!(reader.join().unwrap(), 0);
        handler.finish();
    }
}

/// Whether a thread of this process is asleep.
fn sleeps(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap();
    let state = stat.rsplit(") ").next().unwrap();
    state.starts_with(['S', 'D'])
}

#[test]
fn reads_many_faults_with_one_call() {
    const THREADS: u64 = 40;
    let uffd = open();
    let memory = memory(Backing::Anonymous, 1 << 20);
    let page = memory.page_size();
    let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
    let mut handler = uffd.handler();
    let (send, ids) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let (memory, send) = (Arc::clone(&memory), send.clone());
            thread::spawn(move || {
                send.send(thread_id()).unwrap();
                memory.touch(n * page).unwrap()
            })
        })
        .collect();
    let ids: Vec<_> = ids.iter().take(threads.len()).collect();
    while !ids.iter().all(|&id| sleeps(id)) {
        thread::yield_now();
    }
    let faults = handler.faults().unwrap();
    let mut offsets: Vec<_> = faults
        .iter()
        .map(|f| (f.address - memory.range().start) / page)
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, Vec::from_iter(0..THREADS));
    region.zero(0, THREADS * page).unwrap();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 0);
    }
    handler.finish();
}

#[test]
fn places_around_present_pages() {
    for backing in PLAIN {
        let uffd = open();
        let memory = memory(backing, 1 << 20);
        let page = memory.page_size();
        memory.write(2 * page, &[0xaa; 4096]).unwrap();
        memory.write(12 * page, &[0xbb; 4096]).unwrap();
        let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();

        let bytes = pages(6, page);
        let placement = region.copy(0, &bytes).unwrap();
        let expected = Filled {
            placed: 5 * page,
            present: page,
        };
        assert_eq!(placement, expected);
        let mut wanted = bytes.clone();
        wanted[2 * page as usize..][..4096].fill(0xaa);
        assert_eq!(
            contents(&memory, 0, 6 * page),
            wanted,
            "a present page keeps its bytes"
        );

        let placement = region.zero(10 * page, 4 * page).unwrap();
        let expected = Filled {
            placed: 3 * page,
            present: page,
        };
        assert_eq!(placement, expected);
        assert_eq!(memory.touch(12 * page).unwrap(), 0xbb);
        assert_eq!(memory.touch(13 * page).unwrap(), 0);

        let placement = region.copy(0, &bytes).unwrap();
        assert_eq!((placement.placed, placement.present), (0, 6 * page));
    }
}

#[test]
fn wakes_waiters_of_a_page_filled_through_the_memfd() {
    let uffd = open();
    let memory = memory(Backing::Shared, 1 << 20);
    let page = memory.page_size();
    let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
    let mut handler = uffd.handler();
    let file = File::from(memory.file().unwrap().try_clone_to_owned().unwrap());
    let fill = |n: u64| file.write_all_at(&[0x5a; 4096], n * page).unwrap();

    let first = toucher(&memory, 3 * page);
    assert_eq!(next(&mut handler).len(), 1);
    fill(3);
    let placement = region.copy(3 * page, &vec![1; 4096]).unwrap();
    assert_eq!((placement.placed, placement.present), (0, page));
    assert_eq!(first.join().unwrap(), 0x5a);
    handler.finish();
}

#[test]
fn makes_a_discarded_page_missing_again() {
    for backing in PLAIN {
        let uffd = open();
        let memory = memory(backing, 1 << 20);
        let page = memory.page_size();
        let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
        let bytes = pages(3, page);
        region.copy(0, &bytes).unwrap();
        memory.discard(page, page).unwrap();
        let placement = region.zero(0, 3 * page).unwrap();
        assert_eq!((placement.placed, placement.present), (page, 2 * page));
        assert_eq!(memory.touch(page).unwrap(), 0);
    }
}

#[test]
fn refuses_ranges_that_are_not_whole_pages_inside() {
    let uffd = open();
    let memory = memory(Backing::Anonymous, 1 << 20);
    let (page, size) = (memory.page_size(), memory.len());
    let region = uffd.register(b"pc.ram", memory).unwrap();
    let cause = Cause::Range {
        page_size: page,
        size,
    };
    for (offset, len) in [
        (0, 0),
        (page, 0),
        (1, page),
        (0, page - 1),
        (0, page + 1),
        (page / 2, page / 2),
    ] {
        assert_eq!(region.zero(offset, len).unwrap_err().cause, cause);
        assert_eq!(
            region
                .copy(offset, &vec![0; len as usize])
                .unwrap_err()
                .cause,
            cause
        );
    }
    let last = u64::MAX - (page - 1);
    for (offset, len) in [
        (size, page),
        (size - page, 2 * page),
        (last, page),
        (page, last),
    ] {
        assert_eq!(region.zero(offset, len).unwrap_err().cause, cause);
    }
}

#[test]
fn reports_placement_into_unregistered_memory() {
    let uffd = open();
    let memory = memory(Backing::Anonymous, 1 << 20);
    let page = memory.page_size();
    let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
    region.copy(0, &pages(1, page)).unwrap();
    region.unregister().unwrap();
    let error = region.zero(page, page).unwrap_err();
    assert_eq!(
        error.to_string(),
        "placing 4096 bytes at offset 0x1000 of RAM block \"pc.ram\" with userfaultfd: the memory \
         is no longer registered: it was unregistered or unmapped"
    );
    assert_eq!(
        (error.cause, error.done.bytes()),
        (Cause::Unregistered, 0),
        "{error}"
    );
    assert_eq!(
        memory.touch(page).unwrap(),
        0,
        "a missing page of unregistered memory reads as zero"
    );
    region.unregister().unwrap();
}

#[test]
fn refuses_memory_registered_with_another_userfaultfd() {
    let (first, second) = (open(), open());
    let memory = memory(Backing::Anonymous, 1 << 20);
    let _region = first.register(b"pc.ram", Arc::clone(&memory)).unwrap();
    let error = second.register(b"pc\xffram", memory).unwrap_err();
    let Error::Register { block, source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(block, r"pc\xffram");
    assert_eq!(
        source.raw_os_error(),
        Some(rustix::io::Errno::BUSY.raw_os_error())
    );
}

#[test]
fn places_every_page_once_while_threads_touch_and_two_placers_race() {
    const PAGES: u64 = 2048;
    const THREADS: u64 = 6;
    for backing in PLAIN {
        let uffd = open();
        let memory = memory(backing, PAGES * 4096);
        let page = memory.page_size();
        let count = memory.len() / page;
        let bytes = Arc::new(pages(count, page));
        let region = Arc::new(uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap());
        let mut handler = uffd.handler();
        let (stop, placed) = (AtomicBool::new(false), AtomicU64::new(0));
        let start = Barrier::new(usize::try_from(THREADS).unwrap() + 1);
        let fill = |n: u64, run: u64| {
            let from = (n * page) as usize;
            let done = region
                .copy(n * page, &bytes[from..from + (run * page) as usize])
                .unwrap();
            assert_eq!(done.bytes(), run * page);
            placed.fetch_add(done.placed, Ordering::Relaxed);
        };
        thread::scope(|scope| {
            let demand = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Poll with a timeout, because nothing wakes this thread when the others are done.
                    let timeout = rustix::event::Timespec {
                        tv_sec: 0,
                        tv_nsec: 5_000_000,
                    };
                    poll(&mut [PollFd::new(&handler, PollFlags::IN)], Some(&timeout)).unwrap();
                    for fault in handler.faults().unwrap() {
                        fill((fault.address - memory.range().start) / page, 1);
                    }
                }
            });
            let touchers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (memory, bytes, start) = (&memory, &bytes, &start);
                    scope.spawn(move || {
                        start.wait();
                        // An odd step visits every page once; each thread uses another order.
                        for i in 0..count {
                            let n = (i * (2 * thread + 1) * 7 + thread * 311) % count;
                            let seen = memory.touch(n * page + 9).unwrap();
                            assert_eq!(seen, bytes[(n * page) as usize + 9]);
                        }
                    })
                })
                .collect();
            start.wait();
            for n in (0..count).step_by(16) {
                fill(n, 16);
            }
            for toucher in touchers {
                toucher.join().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            demand.join().unwrap();
        });
        assert_eq!(contents(&memory, 0, memory.len()), *bytes);
        assert_eq!(placed.into_inner(), memory.len());
        region.unregister().unwrap();
        handler.finish();
    }
}
