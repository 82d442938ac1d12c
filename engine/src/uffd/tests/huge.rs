//! EEXIST for huge pages, which the kernel also returns when the pool is empty.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

use rustix::io::Errno;

use super::script::{START, failed};
use crate::uffd::place::{Answer, Cause, Fill, Filled, Kernel, place};

const HUGE: u64 = 2 << 20;

/// Returns the given answers to copies; reports the page absent so many times, then present.
struct Pool {
    answers: RefCell<VecDeque<Answer>>,
    absent: RefCell<u32>,
    woken: RefCell<u32>,
}

impl Kernel for Pool {
    fn copy(&self, _: u64, _: &[u8]) -> Answer {
        let next = self.answers.borrow_mut().pop_front();
        next.unwrap_or(failed(Errno::EXIST))
    }
    fn zero(&self, _: u64, _: u64) -> Answer {
        failed(Errno::INVAL)
    }
    fn wake(&self, _: u64, _: u64) -> Result<(), Errno> {
        *self.woken.borrow_mut() += 1;
        Ok(())
    }
    fn is_present(&self, at: u64) -> io::Result<bool> {
        assert_eq!(at, START);
        let mut absent = self.absent.borrow_mut();
        *absent = absent.saturating_sub(1);
        Ok(*absent == 0)
    }
}

/// The result of copying a page, and the number of wakes.
fn copy(answers: &[Answer], absent: u32) -> (Result<Filled, (Filled, Cause)>, u32) {
    let pool = Pool {
        answers: RefCell::new(answers.iter().copied().collect()),
        absent: RefCell::new(absent + 1),
        woken: RefCell::new(0),
    };
    let bytes = vec![1; HUGE as usize];
    let placed = place(&pool, START, HUGE, Fill::Bytes(&bytes), &mut |tries| {
        tries < 4
    });
    (placed, pool.woken.into_inner())
}

#[test]
fn detects_a_present_huge_page() {
    let there = Filled {
        placed: 0,
        present: HUGE,
    };
    assert_eq!(copy(&[], 0), (Ok(there), 1));
}

#[test]
fn reports_an_empty_pool_for_a_missing_huge_page() {
    let empty = Cause::PoolEmpty { page_size: HUGE };
    assert_eq!(copy(&[], 100), (Err((Filled::default(), empty)), 0));
}

#[test]
fn retries_until_the_pool_has_a_page() {
    let all = Answer {
        error: None,
        count: HUGE as i64,
    };
    let placed = Filled {
        placed: HUGE,
        ..Filled::default()
    };
    let answers = [failed(Errno::EXIST), failed(Errno::EXIST), all];
    assert_eq!(copy(&answers, 100), (Ok(placed), 0));
}
