//! The placing loop against scripted answers.

use std::cell::RefCell;
use std::collections::VecDeque;

use rustix::io::Errno;

use crate::uffd::place::{Answer, Cause, Fill, Filled, Kernel, place};

pub(super) const PAGE: u64 = 4096;
pub(super) const START: u64 = 0x7f00_0000_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Address, bytes, and the first byte.
    Copy(u64, u64, u8),
    Zero(u64, u64),
    Wake(u64, u64),
}

/// Returns the given answers in order, and records the calls.
#[derive(Default)]
struct Script {
    answers: RefCell<VecDeque<Answer>>,
    calls: RefCell<Vec<Call>>,
    wake: Option<Errno>,
}

impl Script {
    fn new(answers: &[Answer]) -> Self {
        let answers = RefCell::new(answers.iter().copied().collect());
        Self {
            answers,
            ..Self::default()
        }
    }

    fn answer(&self, call: Call) -> Answer {
        self.calls.borrow_mut().push(call);
        self.answers
            .borrow_mut()
            .pop_front()
            .expect("asked more often than scripted")
    }

    fn calls(self) -> Vec<Call> {
        assert!(
            self.answers.borrow().is_empty(),
            "asked less often than scripted"
        );
        self.calls.into_inner()
    }
}

impl Kernel for Script {
    fn copy(&self, at: u64, bytes: &[u8]) -> Answer {
        self.answer(Call::Copy(at, bytes.len() as u64, bytes[0]))
    }
    fn zero(&self, at: u64, len: u64) -> Answer {
        self.answer(Call::Zero(at, len))
    }
    fn wake(&self, at: u64, len: u64) -> Result<(), Errno> {
        self.calls.borrow_mut().push(Call::Wake(at, len));
        self.wake.map_or(Ok(()), Err)
    }
    fn is_present(&self, _: u64) -> std::io::Result<bool> {
        unreachable!("these pages are small")
    }
}

/// Complete success.
pub(super) fn done(pages: u64) -> Answer {
    Answer {
        error: None,
        count: (pages * PAGE) as i64,
    }
}

/// Partial success, as the kernel reports it: EAGAIN with a positive count.
pub(super) fn partial(pages: u64) -> Answer {
    Answer {
        error: Some(Errno::AGAIN),
        count: (pages * PAGE) as i64,
    }
}

/// Failure as newer kernels report it: the errno in the count, too.
pub(super) fn failed(errno: Errno) -> Answer {
    Answer {
        error: Some(errno),
        count: -i64::from(errno.raw_os_error()),
    }
}

/// Failure before the kernel looks at the pages: the count is untouched.
fn untouched(errno: Errno) -> Answer {
    Answer {
        error: Some(errno),
        count: 0,
    }
}

/// Pages whose first byte is their number.
pub(super) fn pages(count: u64) -> Vec<u8> {
    (0..count)
        .flat_map(|n| vec![n as u8; PAGE as usize])
        .collect()
}

fn never(_: u32) -> bool {
    panic!("nothing to wait for")
}

fn run(script: &Script, fill: Fill<'_>) -> Result<Filled, (Filled, Cause)> {
    place(script, START, PAGE, fill, &mut never)
}

pub(super) fn counts(placed: u64, present: u64) -> Filled {
    Filled {
        placed: placed * PAGE,
        present: present * PAGE,
    }
}

#[test]
fn places_many_pages_with_one_call() {
    let script = Script::new(&[done(16)]);
    assert_eq!(run(&script, Fill::Bytes(&pages(16))), Ok(counts(16, 0)));
    assert_eq!(script.calls(), [Call::Copy(START, 16 * PAGE, 0)]);
}

#[test]
fn continues_after_a_partial_copy() {
    let script = Script::new(&[partial(1), partial(2), done(1)]);
    assert_eq!(run(&script, Fill::Bytes(&pages(4))), Ok(counts(4, 0)));
    let expected = [
        Call::Copy(START, 4 * PAGE, 0),
        Call::Copy(START + PAGE, 3 * PAGE, 1),
        Call::Copy(START + 3 * PAGE, PAGE, 3),
    ];
    assert_eq!(script.calls(), expected);
}

#[test]
fn keeps_the_count_of_a_partial_zero() {
    let script = Script::new(&[partial(3), failed(Errno::EXIST), done(1)]);
    assert_eq!(run(&script, Fill::Zeros(5 * PAGE)), Ok(counts(4, 1)));
    let expected = [
        Call::Zero(START, 5 * PAGE),
        Call::Zero(START + 3 * PAGE, 2 * PAGE),
        Call::Wake(START + 3 * PAGE, PAGE),
        Call::Zero(START + 4 * PAGE, PAGE),
    ];
    assert_eq!(script.calls(), expected);
}

#[test]
fn skips_a_present_page_and_wakes_its_waiters() {
    let script = Script::new(&[partial(1), failed(Errno::EXIST), done(2)]);
    assert_eq!(run(&script, Fill::Bytes(&pages(4))), Ok(counts(3, 1)));
    let expected = [
        Call::Copy(START, 4 * PAGE, 0),
        Call::Copy(START + PAGE, 3 * PAGE, 1),
        Call::Wake(START + PAGE, PAGE),
        Call::Copy(START + 2 * PAGE, 2 * PAGE, 2),
    ];
    assert_eq!(script.calls(), expected);
}

#[test]
fn counts_pages_when_all_are_present() {
    let script = Script::new(&[failed(Errno::EXIST), failed(Errno::EXIST)]);
    assert_eq!(run(&script, Fill::Bytes(&pages(2))), Ok(counts(0, 2)));
    assert_eq!(script.calls().len(), 4, "two copies, two wakes");
}

#[test]
fn copies_the_zero_page_to_each_page() {
    let zeros = [0; PAGE as usize];
    let script = Script::new(&[done(1), failed(Errno::EXIST), done(1)]);
    assert_eq!(
        run(&script, Fill::CopiedZeros(3 * PAGE, &zeros)),
        Ok(counts(2, 1))
    );
    let expected = [
        Call::Copy(START, PAGE, 0),
        Call::Copy(START + PAGE, PAGE, 0),
        Call::Wake(START + PAGE, PAGE),
        Call::Copy(START + 2 * PAGE, PAGE, 0),
    ];
    assert_eq!(script.calls(), expected);
}

#[test]
fn retries_after_eagain_with_any_count() {
    // With the errno in the count, the `userfaultfd` crate reads this as 2^64 - 11 bytes copied.
    for answer in [
        failed(Errno::AGAIN),
        untouched(Errno::AGAIN),
        untouched(Errno::INTR),
    ] {
        let script = Script::new(&[answer, answer, partial(1), answer, done(1)]);
        let mut waits = Vec::new();
        let mut again = |tries| {
            waits.push(tries);
            true
        };
        let placed = place(&script, START, PAGE, Fill::Bytes(&pages(2)), &mut again);
        assert_eq!(placed, Ok(counts(2, 0)));
        assert_eq!(waits, [1, 2, 1], "tries are counted anew after progress");
        assert_eq!(script.calls().len(), 5);
    }
}

#[test]
fn reports_a_lasting_eagain_with_its_progress() {
    let again = failed(Errno::AGAIN);
    let script = Script::new(&[partial(1), failed(Errno::EXIST), again, again, again]);
    let result = place(&script, START, PAGE, Fill::Bytes(&pages(4)), &mut |tries| {
        tries < 3
    });
    assert_eq!(result, Err((counts(1, 1), Cause::Pending { tries: 3 })));
    assert_eq!(script.calls().len(), 6);
}

#[test]
fn reports_progress_when_memory_or_process_is_gone() {
    let refused = |errno: Errno| {
        let number = errno.raw_os_error();
        (errno, Cause::Refused { errno: number })
    };
    let gone = [
        (Errno::NOENT, Cause::Unregistered),
        refused(Errno::SRCH),
        refused(Errno::FAULT),
        refused(Errno::NOMEM),
    ];
    for (errno, cause) in gone {
        for answer in [failed(errno), untouched(errno)] {
            let script = Script::new(&[partial(2), answer]);
            assert_eq!(
                run(&script, Fill::Zeros(4 * PAGE)),
                Err((counts(2, 0), cause))
            );
        }
    }
}

#[test]
fn reports_a_wake_that_fails() {
    let mut script = Script::new(&[failed(Errno::EXIST)]);
    script.wake = Some(Errno::INVAL);
    let cause = Cause::Refused {
        errno: Errno::INVAL.raw_os_error(),
    };
    assert_eq!(run(&script, Fill::Zeros(PAGE)), Err((counts(0, 0), cause)));
}

#[test]
fn refuses_impossible_counts() {
    let odd = [
        Answer {
            error: None,
            count: 0,
        },
        Answer {
            error: None,
            count: -1,
        },
        Answer {
            error: None,
            count: 3 * PAGE as i64,
        },
        Answer {
            error: None,
            count: 1,
        },
        Answer {
            error: Some(Errno::AGAIN),
            count: i64::MAX,
        },
        Answer {
            error: Some(Errno::AGAIN),
            count: PAGE as i64 + 1,
        },
        Answer {
            error: None,
            count: i64::MIN,
        },
    ];
    for answer in odd {
        let script = Script::new(&[answer]);
        let cause = Cause::Nonsense {
            asked: 2 * PAGE,
            count: answer.count,
        };
        assert_eq!(
            run(&script, Fill::Zeros(2 * PAGE)),
            Err((counts(0, 0), cause))
        );
    }
}
