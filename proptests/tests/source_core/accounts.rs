//! Counters, rates and memory use of a source.

use std::ops::RangeInclusive;

use retpath_codec::bitmap::Bitmap;
use retpath_codec::stream::Item;
use retpath_codec::{BlockName, Message};
use retpath_engine::Channel;

use super::service::{config, late};
use retpath_engine::source::{Next, PageRun};
use retpath_proptests::source::rig::Rig;

fn next(rig: &mut Rig) -> PageRun {
    match rig.source.next(Channel::Main, rig.now, &mut Vec::new()) {
        Next::Urgent(run) | Next::Sweep(run) => run,
        other => panic!("no pages but {other:?}"),
    }
}

#[test]
fn counts_at_most_the_pages_of_a_run_as_zero() {
    let mut rig = Rig::switched(config(), &[(300, 4096)]);
    assert_eq!(rig.source.stats().zero, 0);
    let run = next(&mut rig);
    rig.source.written(&run, u64::MAX);
    let all = run.len / 4096;
    assert!(all > 2);
    assert_eq!(rig.source.stats().zero, all);
    let run = next(&mut rig);
    rig.source.written(&run, 2);
    assert_eq!(rig.source.stats().zero, all + 2);
}

#[test]
fn reports_which_pages_are_left_to_send() {
    let mut rig = Rig::switched(config(), &[(300, 4096)]);
    let run = next(&mut rig);
    assert!(run.offsets().all(|offset| rig.source.is_sent(0, offset)));
    assert!(!rig.source.is_sent(0, 299 * 4096));
    assert!(rig.source.is_sent(1, 0), "no such block");
}

#[test]
fn changes_the_bandwidth() {
    let mut rig = Rig::switched(config(), &[(300, 4096)]);
    next(&mut rig);
    rig.source.set_bandwidth(1);
    next(&mut rig);
    let next = rig.source.next(Channel::Main, rig.now, &mut Vec::new());
    assert!(matches!(next, Next::Wait { until: Some(_) }), "{next:?}");
}

#[test]
fn counts_the_remaining_bytes_of_partly_sent_host_pages() {
    let config = late().run(8192);
    let mut rig = Rig::switched(config, &[(5, 65536)]);
    rig.ask(0, 3 * 65536, 65536).expect("a page");
    let mut left = 5 * 65536;
    for channel in [
        Channel::Preempt,
        Channel::Main,
        Channel::Main,
        Channel::Preempt,
    ] {
        assert_eq!(rig.source.remaining(), left);
        rig.step(channel);
        left -= 8192;
    }
    assert_eq!(rig.source.remaining(), left);
}

#[test]
fn ends_a_run_at_the_host_page_boundary() {
    let config = config().run(3 * 4096);
    let mut rig = Rig::switched(config, &[(2, 65536)]);
    let runs = [3, 3, 3, 3, 3, 1, 3].map(|pages| pages * 4096);
    assert_eq!(runs.map(|_| next(&mut rig).len), runs);
}

#[test]
fn counts_its_memory() {
    /// One bit per page, and the overhead of a block.
    const BITS: RangeInclusive<usize> = 1024..=2048;
    /// The piece of a bitmap that one page takes, and its place in the order.
    const PAGE: RangeInclusive<usize> = 512..=1024;
    let grew = |rig: &Rig, before: usize, by: RangeInclusive<usize>| {
        let now = rig.source.memory();
        let grown = now.checked_sub(before);
        assert!(
            grown.is_some_and(|grown| by.contains(&grown)),
            "{before} to {now}"
        );
        now
    };
    let sizes = [(1 << 13, 4096), (1, 4096)];
    let mut rig = Rig::new(config(), &sizes);
    rig.start();
    // Dirty pages.
    let precopy = grew(&rig, 0, BITS);
    rig.source.switch(vec![7; 100_000]).expect("in precopy");
    grew(&rig, precopy, 100_000..=110_000);
    let mut rig = Rig::switched(config(), &sizes);
    let postcopy = rig.source.memory();
    rig.ask(0, 4096, 4096).expect("a page");
    let postcopy = grew(&rig, postcopy, PAGE);
    rig.cut();
    rig.resume();
    rig.step(Channel::Main);
    // Pages that had never been handed out, until all bitmaps are received.
    let block = rig.name(0);
    let message = Message::RecvBitmap {
        block: block.name(),
    };
    let bits = vec![0; 1 << 10];
    let bitmap = Bitmap::new(&bits);
    for item in [
        Item::Message { offset: 0, message },
        Item::Bitmap { offset: 0, bitmap },
    ] {
        rig.source.message(item, 0).expect("valid bitmap");
    }
    grew(&rig, postcopy, BITS);
}
