//! Blocks of huge pages with the kernel's userfaultfd. Reserves pages in the pools if permitted.

#![cfg(feature = "uffd")]

use std::sync::Arc;

use retpath_engine::memory::{Backing, Memory};
use retpath_engine::uffd::{Cause, Filled};
use retpath_support::kernel::{Pool, contents, memory, next, open, pages, toucher};

#[test]
fn serves_two_mib_pages() {
    let Some(_pool) = Pool::reserve(Backing::Huge2M, 4) else {
        return;
    };
    let uffd = open();
    let page = Backing::Huge2M.page_size();
    let memory = memory(Backing::Huge2M, 4 * page);
    memory.write(page + 5, &[0xcc]).unwrap();
    let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
    let mut handler = uffd.handler();

    let reader = toucher(&memory, 3 * page + page / 2);
    let fault = next(&mut handler)[0];
    let offset = fault.address - memory.range().start;
    assert_eq!(offset / page, 3);

    let bytes = pages(1, page);
    assert_eq!(region.copy(3 * page, &bytes).unwrap().placed, page);
    assert_eq!(reader.join().unwrap(), bytes[page as usize / 2]);
    assert_eq!(contents(&memory, 3 * page, page), bytes);

    let placement = region.zero(0, 3 * page).unwrap();
    let expected = Filled {
        placed: 2 * page,
        present: page,
    };
    assert_eq!(placement, expected);
    assert_eq!(memory.touch(2 * page + 1).unwrap(), 0);
    assert_eq!(memory.touch(page + 5).unwrap(), 0xcc);

    let cause = Cause::Range {
        page_size: page,
        size: memory.len(),
    };
    assert_eq!(region.zero(0, 4096).unwrap_err().cause, cause);
    memory.discard(3 * page, page).unwrap();
    assert_eq!(
        region.copy(3 * page, &bytes).unwrap().placed,
        page,
        "missing again"
    );
    handler.finish();
}

#[test]
fn reports_an_empty_pool_instead_of_a_present_page() {
    let Some(_pool) = Pool::reserve(Backing::Huge2M, 3) else {
        return;
    };
    let uffd = open();
    let page = Backing::Huge2M.page_size();
    let block = memory(Backing::Huge2M, 2 * page);
    block.write(0, &[1]).unwrap();
    // Return the page and its reservation to the pool.
    block.discard(0, page).unwrap();
    let region = uffd.register(b"pc.ram", Arc::clone(&block)).unwrap();
    let bytes = pages(1, page);
    let mut hogs = Vec::new();
    let refused = loop {
        // Take the rest of the pool.
        while let Ok(hog) = Memory::new(Backing::Huge2M, page) {
            hog.write(0, &[1]).unwrap();
            hogs.push(hog);
        }
        match region.copy(0, &bytes) {
            Err(error) => break error,
            // Another process freed a page meanwhile.
            Ok(placement) => assert_eq!(
                placement.placed, page,
                "an empty pool was taken for a present page"
            ),
        }
        block.discard(0, page).unwrap();
    };
    assert_eq!(refused.cause, Cause::PoolEmpty { page_size: page });
    assert!(!hogs.is_empty());
    assert_eq!(region.copy(page, &bytes).unwrap().placed, page, "reserved");
    drop(hogs);
    assert_eq!(region.copy(0, &bytes).unwrap().placed, page);
    assert_eq!(region.copy(0, &bytes).unwrap().present, page);
    assert_eq!(contents(&block, 0, page), bytes);
}

#[test]
fn serves_a_one_gib_page() {
    let Some(_pool) = Pool::reserve(Backing::Huge1G, 1) else {
        return;
    };
    let uffd = open();
    let memory = memory(Backing::Huge1G, 1 << 30);
    let region = uffd.register(b"pc.ram", Arc::clone(&memory)).unwrap();
    let mut handler = uffd.handler();
    let reader = toucher(&memory, (1 << 30) - 1);
    next(&mut handler);
    assert_eq!(region.zero(0, 1 << 30).unwrap().placed, 1 << 30);
    assert_eq!(reader.join().unwrap(), 0);
    handler.finish();
}
