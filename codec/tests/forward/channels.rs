//! Several channels of a migration, and `continued_page`.

use retpath_codec::command::Command;
use retpath_codec::forward::{Decoder, Options};
use retpath_codec::{NameBuf, Rule};

use crate::kit::{PAGE, RAM, ROM, Stream, drain, error, events, fresh};

fn first() -> Decoder {
    let mut first = fresh();
    let bytes = Stream::switched().part(1).zero(0, Some(RAM.0));
    drain(&mut first, &bytes.0, |_, _, _| {}).unwrap();
    first
}

fn bitmap(block: &[u8]) -> Command<NameBuf, retpath_codec::command::RangeBuf> {
    let block = NameBuf::new(block).unwrap();
    Command::RecvBitmap { block }
}

#[test]
fn keeps_the_continued_block_across_sections_and_the_switch() {
    let bytes = Stream::listed()
        .part(1)
        .page(0, Some(RAM.0))
        .eos(1)
        .part(1)
        .zero(PAGE, None)
        .eos(1)
        .command(crate::kit::discard(RAM.0, 0, PAGE))
        .package(&Stream::default().listen().run())
        .part(1)
        .zero(0, None)
        .eos(1)
        .end(1)
        .eos(1)
        .eof();
    events(&mut fresh(), &bytes.0);
}

#[test]
fn learns_blocks_for_each_channel_separately() {
    let mut main = first();
    let mut urgent = main.preempt();
    let bytes = Stream::default().zero(PAGE, Some(ROM.0)).zero(0, None);
    events(&mut urgent, &bytes.0);
    // The continued block of the main channel is still the longer one.
    let more = Stream::default().zero(RAM.1 - PAGE, None);
    drain(&mut main, &more.0, |_, _, _| {}).unwrap();
    assert_eq!(main.offset() + 9, first().offset() + 18);
}

#[test]
fn keeps_sections_and_blocks_on_a_resumed_channel() {
    let mut ended = first();
    let bytes = Stream::default().eos(1).end(1).eos(1);
    drain(&mut ended, &bytes.0, |_, _, _| {}).unwrap();
    // A section that had ended may end again.
    for first in [first(), ended] {
        let bytes = Stream::default()
            .command(bitmap(RAM.0))
            .command(bitmap(ROM.0))
            .command(Command::PostcopyResume)
            .command(Command::Ping { value: 9 })
            .part(1)
            .zero(0, Some(ROM.0))
            .eos(1)
            .end(1)
            .eos(1)
            .eof();
        let mut second = first.resume();
        assert_eq!(second.offset(), 0);
        assert!(second.is_listening());
        events(&mut second, &bytes.0);
        assert_eq!(second.blocks(), first.blocks());
        // Repeatedly.
        events(&mut second.resume(), &bytes.0);
    }
}

#[test]
fn resumes_after_an_error_on_the_first_channel() {
    let mut broken = first();
    assert!(broken.next(&[0xff; 8]).is_err());
    let bytes = Stream::default().command(bitmap(RAM.0));
    drain(&mut broken.resume(), &bytes.0, |_, _, _| {}).unwrap();
}

#[test]
fn resumes_from_saved_state() {
    let first = first();
    let known = first.resume_state().expect("RAM is listed");
    let bytes = Stream::default()
        .command(bitmap(RAM.0))
        .command(Command::PostcopyResume)
        .part(1)
        .zero(0, Some(ROM.0))
        .eos(1)
        .end(1)
        .eos(1)
        .eof();
    let mut second = Decoder::resume_from(Options::default(), known.clone());
    events(&mut second, &bytes.0);
    second.finish(&[]).expect("whole");
    assert_eq!(second.blocks(), first.blocks());

    let mut unlike = known;
    unlike.target_page = 100;
    let error = error(
        &mut Decoder::resume_from(Options::default(), unlike),
        &bytes.0,
    );
    assert_eq!(error.rule, Rule::TargetPage { size: 100 });
}

#[test]
fn has_no_resume_state_before_the_block_list_ends() {
    let mut decoder = fresh();
    assert_eq!(decoder.resume_state(), None);
    // The block list without the end of its section: footers are still unknown.
    let bytes = Stream::listed();
    let cut = &bytes.0[..bytes.0.len() - 5];
    drain(&mut decoder, cut, |_, _, _| {}).unwrap();
    assert_eq!(decoder.blocks().len(), 2);
    assert_eq!(decoder.resume_state(), None);
}

#[test]
fn allows_ping_on_a_resumed_channel() {
    let bytes = Stream::default()
        .command(Command::PostcopyResume)
        .command(Command::Ping { value: 9 })
        .eof();
    for mut second in [fresh().resume(), Decoder::blind_resumed(Options::default())] {
        assert_eq!(events(&mut second, &bytes.0).len(), 3);
    }
}

#[test]
fn resumes_after_a_cut_inside_a_package() {
    let bytes = Stream::discarded().package(&Stream::default().listen().run());
    let mut first = fresh();
    let cut = &bytes.0[..bytes.0.len() - 7];
    drain(&mut first, cut, |_, _, _| {}).unwrap();
    let bytes = Stream::default().command(Command::PostcopyResume).eof();
    assert_eq!(events(&mut first.resume(), &bytes.0).len(), 2);
}

#[test]
fn learns_blocks_from_names_without_the_first_channel() {
    let options = Options::default()
        .page_sizes(vec![(NameBuf::new(RAM.0).unwrap(), 2 << 20)])
        .max_blocks(3);
    let mut decoder = Decoder::blind_resumed(options);
    let bytes = Stream::default()
        .command(bitmap(RAM.0))
        .command(Command::PostcopyResume)
        .part(7)
        .zero(1 << 40, Some(ROM.0))
        .zero(PAGE, None)
        .page(0, Some(RAM.0))
        .eos(7);
    drain(&mut decoder, &bytes.0, |_, _, _| {}).unwrap();
    let blocks: Vec<(&str, Option<u64>, u64)> =
        [("pc.ram", None, 2 << 20), ("rom", None, PAGE)].into();
    let found: Vec<(String, Option<u64>, u64)> = decoder
        .blocks()
        .iter()
        .map(|b| (b.name.to_string(), b.len, b.page_size))
        .collect();
    assert!(found.iter().map(|(n, l, p)| (&**n, *l, *p)).eq(blocks));
    assert_eq!(decoder.section(7), Some(&b"ram"[..]));

    // Another section, and too many blocks.
    let mut other = decoder.clone();
    let error = crate::kit::error(&mut other, &Stream::default().part(8).0);
    assert_eq!(error.rule, Rule::UnknownSection { id: 8 });
    let more = Stream::default()
        .part(7)
        .zero(0, Some(b"x"))
        .zero(0, Some(b"y"));
    let error = crate::kit::error(&mut decoder, &more.0);
    assert_eq!(error.rule, Rule::Limit { got: 4, limit: 3 });
}

#[test]
fn learns_no_block_from_an_incomplete_record() {
    let mut decoder = Decoder::blind_preempt(Options::default());
    let record = Stream::default().page(0, Some(RAM.0)).0;
    for size in 0..record.len() {
        decoder.next(&record[..size]).unwrap();
        assert!(decoder.blocks().is_empty());
    }
    decoder.next(&record).unwrap();
    assert_eq!(decoder.blocks().len(), 1);
}

#[test]
fn continued_page_agrees_with_next() {
    let bytes = Stream::default()
        .page(PAGE, None)
        .page(2 * PAGE, None)
        .zero(3 * PAGE, None)
        .page(RAM.1 - PAGE, None)
        .page(0, Some(ROM.0))
        .page(PAGE, None)
        .eos(1);
    for start in [first(), first().preempt()] {
        let mut slow = start.clone();
        let opening = Stream::default().zero(0, Some(RAM.0));
        drain(&mut slow, &opening.0, |_, _, _| {}).unwrap();
        let mut fast = slow.clone();
        let mut seen = Vec::new();
        let mut at = 0;
        while let Some(&word) = bytes.0[at..].first_chunk() {
            match fast.continued_page(word, true) {
                Some((block, offset)) => {
                    seen.push((block.index(), offset));
                    at += 8 + 4096;
                }
                None => match fast.next(&bytes.0[at..]).unwrap() {
                    retpath_codec::forward::Decoded::Event { size, .. } => at += size,
                    retpath_codec::forward::Decoded::Need(_) => break,
                },
            }
            let mut slow = slow.clone();
            drain(&mut slow, &bytes.0[..at], |_, _, _| {}).unwrap();
            assert_eq!(fast.offset(), slow.offset());
        }
        assert_eq!(
            seen,
            [(0, PAGE), (0, 2 * PAGE), (0, RAM.1 - PAGE), (1, PAGE)]
        );
    }
}

#[test]
fn continued_page_accepts_continued_pages_only() {
    let mut decoder = first();
    let before = decoder.offset();
    for word in [
        // With a name, ZERO, EOS, two flags, outside of the block.
        0x008_u64,
        0x022,
        0x010,
        0x02a,
        RAM.1 | 0x028,
        (u64::MAX - 4095) | 0x028,
    ] {
        assert_eq!(decoder.continued_page(word.to_be_bytes(), true), None);
    }
    assert_eq!(decoder.offset(), before);
    let good = 0x028_u64.to_be_bytes();
    // Before a name, outside a section, after an error.
    assert_eq!(decoder.preempt().continued_page(good, true), None);
    let mut outside = decoder.clone();
    drain(&mut outside, &Stream::default().eos(1).0, |_, _, _| {}).unwrap();
    assert_eq!(outside.continued_page(good, true), None);
    let mut broken = decoder.clone();
    assert!(broken.next(&[0xff; 8]).is_err());
    assert_eq!(broken.continued_page(good, true), None);
    assert!(decoder.continued_page(good, true).is_some());
}
