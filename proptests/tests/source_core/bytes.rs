//! The bytes of the main channel.

use retpath_engine::Channel;
use retpath_engine::blocks::{Block, Blocks};

use retpath_codec::{BlockName, Message, NameBuf, stream::Item};
use retpath_engine::source::{Config, Gather, Next, Preempt, Source, SourcePhase};
use retpath_proptests::source::blocks;

/// All bytes of a source's main channel. Memory is zero except for the pages in `data`.
fn stream(config: Config, blocks: Blocks, device_state: &[u8], data: &[u64]) -> Vec<u8> {
    let mut source = Source::new(config, blocks.clone()).expect("valid configuration");
    let (mut bytes, mut gather, mut switched) = (Vec::new(), Gather::new(), false);
    loop {
        let next = source.next(Channel::Main, 0, &mut bytes);
        match next {
            Next::Urgent(run) | Next::Sweep(run) => {
                let mut pages = vec![0; run.len as usize];
                for (offset, page) in run.offsets().zip(pages.chunks_mut(4096)) {
                    page.fill(u8::from(data.contains(&offset)));
                }
                let name = blocks.block(run.block).expect("a known block").name.name();
                gather.lay(&run, name, &pages);
                bytes.extend(gather.slices(&pages).flatten());
            }
            Next::Write if source.phase() == SourcePhase::Precopy && !switched => {
                switched = true;
                source.switch(device_state.to_vec()).expect("in precopy");
            }
            Next::Write => {}
            Next::Connect | Next::Wait { .. } | Next::Stop => return bytes,
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('"') {
            Some(word) => bytes.extend(word.trim_end_matches('"').bytes()),
            None => {
                bytes.extend((0..word.len()).step_by(2).map(|at| {
                    u8::from_str_radix(&word[at..at + 2], 16).expect("hexadecimal digits")
                }))
            }
        }
    }
    bytes
}

#[test]
fn writes_the_smallest_stream_that_qemu_completes() {
    let config = Config::new("pc-i440fx-10.0").outer_pings(false);
    let got = stream(config, blocks(&[(4096, 4096)]), b"", &[2 * 4096]);
    let mut want = hex(r#"
        5145564d 00000003
        07 0000000e "pc-i440fx-10.0"
        08 0001 0000
        08 0002 0004 00000001
        08 0003 0010 0000000000001000 0000000000001000
        01 00000001 03 "ram" 00000000 00000004
        0000000001000004
        06 "pc.ram" 0000000001000000
        0000000000000010 7e 00000001
        08 0006 0019 00 06 "pc.ram" 00 0000000000000000 0000000001000000
        08 0007 0004 00000013
        08 0004 0000
        08 0002 0004 00000003
        08 0005 0000
        02 00000001
        0000000000000002 06 "pc.ram" 00
        0000000000001022 00
        0000000000002028
        "#);
    assert_eq!(want.len(), 0xcb + 8);
    want.extend([1; 4096]);
    for page in 3..4096_u64 {
        want.extend(((page * 4096) | 0x22).to_be_bytes());
        want.push(0);
    }
    want.extend(hex("0000000000000010 7e 00000001"));
    want.extend(hex("03 00000001 0000000000000010 7e 00000001"));
    want.extend(hex("00"));
    assert!(
        got == want,
        "differs at {:?}",
        got.iter().zip(&want).position(|(a, b)| a != b)
    );
}

#[test]
fn writes_the_commands_around_the_package_like_qemu() {
    let config = Config::new("")
        .switchover_start(true)
        .page_bits(true)
        .section(7)
        .machine(b"virt-10.2".to_vec());
    let got = stream(config, blocks(&[(1, 4096)]), b"devices", &[]);
    let want = hex(r#"
        5145564d 00000003
        07 00000009 "virt-10.2"
        05 1e "configuration/target-page-bits" 00000001 0000000c
        08 0001 0000
        08 0002 0004 00000001
        08 0003 0010 0000000000001000 0000000000001000
        01 00000007 03 "ram" 00000000 00000004
        0000000000001004
        06 "pc.ram" 0000000000001000
        0000000000000010 7e 00000007
        08 000b 0000
        08 0006 0019 00 06 "pc.ram" 00 0000000000000000 0000000000001000
        08 0002 0004 00000002
        08 0007 0004 0000001a
        08 0004 0000
        "devices"
        08 0002 0004 00000003
        08 0005 0000
        08 0002 0004 00000004
        02 00000007
        0000000000000002 06 "pc.ram" 00
        0000000000000010 7e 00000007
        03 00000007
        0000000000000010 7e 00000007
        00
        "#);
    assert_eq!(got, want);
}

#[test]
fn writes_neither_configuration_nor_footers_for_old_machines() {
    let config = Config::new("pc-i440fx-2.3")
        .configuration(false)
        .footers(false)
        .outer_pings(false);
    let got = stream(config, blocks(&[(1, 4096)]), b"", &[]);
    assert_eq!(got[8..11], [8, 0, 1]);
    assert!(!got.contains(&0x7e));
    assert!(got.ends_with(&hex("0000000000000010 03 00000001 0000000000000010 00")));
}

#[test]
fn announces_page_sizes_other_than_the_host_page_size() {
    let mut blocks = Blocks::new(4096).expect("valid page size");
    for (name, page) in [("a", 4096), ("b", 65536), ("c", 2 << 20)] {
        let name = NameBuf::new(name).expect("valid name");
        blocks
            .add(Block {
                name,
                len: 2 << 20,
                page,
            })
            .expect("valid block");
    }
    let list = |host_page, want: &str| {
        let config = Config::new("pc").host_page(host_page);
        let mut source = Source::new(config, blocks.clone()).expect("valid configuration");
        let mut out = Vec::new();
        assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
        let advise = hex("08 0003 0010 0000000000211000 0000000000001000");
        assert!(out.windows(21).any(|window| window == advise));
        let want = hex(&format!(
            "0000000000600004 {want} 0000000000000010 7e 00000001"
        ));
        assert!(out.ends_with(&want), "host page {host_page}");
    };
    list(
        4096,
        r#"01 "a" 0000000000200000 01 "b" 0000000000200000 0000000000010000
           01 "c" 0000000000200000 0000000000200000"#,
    );
    list(
        65536,
        r#"01 "a" 0000000000200000 0000000000001000 01 "b" 0000000000200000
           01 "c" 0000000000200000 0000000000200000"#,
    );
}

#[test]
fn begins_a_resumed_channel_with_its_commands() {
    let mut source = Source::new(Config::new("pc"), blocks(&[(1, 4096), (1, 4096)])).expect("good");
    let mut out = Vec::new();
    assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
    source.switch(Vec::new()).expect("in precopy");
    assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
    source.link_lost().expect("recoverable");
    source.resume(0).expect("paused");
    out.clear();
    assert_eq!(source.next(Channel::Main, 0, &mut out), Next::Write);
    assert_eq!(
        out,
        hex(r#"08 000a 0007 06 "pc.ram" 08 000a 0007 06 "block1""#)
    );
}

#[test]
fn ends_only_an_early_preempt_channel_with_a_record() {
    for preempt in [Preempt::Early, Preempt::Late] {
        let config = Config::new("pc").preempt(Some(preempt));
        let mut source = Source::new(config, blocks(&[(1, 4096)])).expect("good");
        let mut out = Vec::new();
        let pong = Item::Message {
            offset: 0,
            message: Message::Pong { value: 1 },
        };
        while source.phase() != SourcePhase::Completing {
            match source.next(Channel::Main, 0, &mut out) {
                Next::Connect => source.preempt_connected(0).expect("wanted"),
                Next::Write if source.phase() == SourcePhase::Precopy => {
                    source.message(pong, 0).expect("valid answer");
                    source.switch(Vec::new()).expect("in precopy");
                }
                Next::Write | Next::Sweep(_) => {}
                other => panic!("{other:?}"),
            }
        }
        out.clear();
        let next = source.next(Channel::Preempt, 0, &mut out);
        if preempt == Preempt::Early {
            assert_eq!(
                (next, &out[..]),
                (Next::Write, &[0, 0, 0, 0, 0, 0, 0, 16][..])
            );
            out.clear();
        }
        let next = source.next(Channel::Preempt, 0, &mut out);
        assert_eq!((next, &out[..]), (Next::Wait { until: None }, &[][..]));
    }
}
