//! The placing loop against a small model of the kernel, with every possible interruption.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use rustix::io::Errno;

use super::script::{PAGE, START, counts, done, failed, pages, partial};
use crate::uffd::place::{Answer, Fill, Kernel, place};

/// Pages that remember how they were filled. Each call stops after as many pages as the next of
/// `limits` says; zero answers EAGAIN.
struct Model {
    first: RefCell<BTreeSet<u64>>,
    filled: RefCell<Vec<(u64, u8)>>,
    woken: RefCell<Vec<u64>>,
    limits: RefCell<VecDeque<u64>>,
}

impl Model {
    fn fill(&self, at: u64, bytes: &[u8]) -> Answer {
        let limit = self.limits.borrow_mut().pop_front().unwrap_or(u64::MAX);
        if limit == 0 {
            return failed(Errno::AGAIN);
        }
        let mut count = 0;
        for (n, page) in bytes.chunks(PAGE as usize).enumerate() {
            let n = (at - START) / PAGE + n as u64;
            let there = self.first.borrow().contains(&n)
                || self.filled.borrow().iter().any(|&(filled, _)| filled == n);
            if there && count == 0 {
                return failed(Errno::EXIST);
            }
            if there || count == limit {
                return partial(count);
            }
            self.filled.borrow_mut().push((n, page[0]));
            count += 1;
        }
        done(count)
    }
}

impl Kernel for Model {
    fn copy(&self, at: u64, bytes: &[u8]) -> Answer {
        self.fill(at, bytes)
    }
    fn zero(&self, at: u64, len: u64) -> Answer {
        self.fill(at, &vec![0; len as usize])
    }
    fn wake(&self, at: u64, len: u64) -> Result<(), Errno> {
        assert_eq!(len, PAGE);
        self.woken.borrow_mut().push((at - START) / PAGE);
        Ok(())
    }
    fn is_present(&self, _: u64) -> std::io::Result<bool> {
        unreachable!("these pages are small")
    }
}

#[test]
fn fills_each_missing_page_once_and_wakes_each_present_one() {
    const COUNT: u64 = 5;
    let bytes = pages(COUNT);
    let zeros = [0; PAGE as usize];
    // Every set of pages that are there, and every first four limits of 0 to 3 pages.
    for there in 0..1u64 << COUNT {
        for limits in 0..1u64 << 8 {
            let first: BTreeSet<_> = (0..COUNT).filter(|n| there >> n & 1 == 1).collect();
            let limits: VecDeque<_> = (0..4).map(|i| limits >> (2 * i) & 3).collect();
            let len = COUNT * PAGE;
            let fills = [
                (Fill::Bytes(&bytes), None),
                (Fill::Zeros(len), Some(0)),
                (Fill::CopiedZeros(len, &zeros), Some(0)),
            ];
            for (fill, byte) in fills {
                let model = Model {
                    first: RefCell::new(first.clone()),
                    filled: RefCell::default(),
                    woken: RefCell::default(),
                    limits: RefCell::new(limits.clone()),
                };
                let result = place(&model, START, PAGE, fill, &mut |tries| tries <= 4).unwrap();
                let present = first.len() as u64;
                assert_eq!(result, counts(COUNT - present, present));
                assert_eq!(
                    model.woken.into_inner(),
                    Vec::from_iter(first.iter().copied())
                );
                let missing = (0..COUNT).filter(|n| !first.contains(n));
                let expected: Vec<_> = missing.map(|n| (n, byte.unwrap_or(n as u8))).collect();
                assert_eq!(model.filled.into_inner(), expected);
            }
        }
    }
}
