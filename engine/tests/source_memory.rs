//! Resident memory of a source with 8 GiB: less than 16 MiB plus 3 bits per page, whatever the
//! destination requests.

use retpath_codec::bitmap::Bitmap;
use retpath_codec::stream::Item;
use retpath_codec::{BlockName, Message, Name, NameBuf};
use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};
use retpath_engine::source::{Config, Next, Source, SourcePhase};

const PAGES: u64 = 1 << 21;

/// Returns the peak resident memory of this process in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux provides it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("Linux provides it")
        * 1024
}

fn say(source: &mut Source, message: Message<Name<'_>>) {
    let item = Item::Message { offset: 0, message };
    source.message(item, 0).expect("valid message");
}

fn sweep(source: &mut Source, out: &mut Vec<u8>) {
    while let Next::Sweep(_) = source.next(Channel::Main, 0, out) {
        out.clear();
    }
    out.clear();
}

#[test]
fn uses_at_most_3_bits_per_page_and_16_mib() {
    let name = NameBuf::new("pc.ram").expect("valid name");
    let before = peak();

    let mut blocks = Blocks::new(4096).expect("valid page size");
    let block = Block {
        name: name.clone(),
        len: PAGES * 4096,
        page: 4096,
    };
    blocks.add(block).expect("valid block");
    let mut source =
        Source::new(Config::new("pc-i440fx-10.0"), blocks).expect("valid configuration");
    let mut out = Vec::new();
    assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
    sweep(&mut source, &mut out);

    // The longest discard list: every other page.
    for page in (0..PAGES).step_by(2) {
        source
            .mark_dirty(0, page * 4096, 1)
            .expect("range lies in the block");
    }
    source.switch(vec![0; 1 << 20]).expect("phase is precopy");
    while source.phase() == SourcePhase::Switching {
        assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
        out.clear();
    }
    assert_eq!(source.stats().discarded, PAGES / 2);

    // Request every page, from the end, several times.
    for _ in 0..2 {
        for page in (0..PAGES).rev() {
            let (start, len, block) = (page * 4096, 4096, name.name());
            say(&mut source, Message::ReqPagesId { start, len, block });
        }
    }
    assert_eq!(source.waiting(), PAGES / 2);
    while let Next::Urgent(_) = source.next(Channel::Main, 0, &mut out) {
        out.clear();
    }

    // Recover repeatedly from a destination that lost all pages.
    let bits = vec![0; PAGES as usize / 8];
    for _ in 0..2 {
        source.link_lost().expect("phase allows recovery");
        source.resume(0).expect("phase is paused");
        assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
        say(&mut source, Message::RecvBitmap { block: name.name() });
        let item = Item::Bitmap {
            offset: 0,
            bitmap: Bitmap::new(&bits),
        };
        source.message(item, 0).expect("valid bitmap");
        assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
        say(&mut source, Message::ResumeAck);
        assert_eq!(source.remaining(), PAGES * 4096);
        out.clear();
        sweep(&mut source, &mut out);
    }

    let grown = peak() - before;
    let law = (16 << 20) + PAGES * 3 / 8;
    assert!(grown < law, "{grown} bytes more than before, {law} allowed");
    println!("{grown} bytes at most, {law} allowed");
}
