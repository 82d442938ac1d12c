//! The state that a decoder reports, and the item in which a channel is cut.

use retpath_codec::command::{Command, PageSizes};
use retpath_codec::forward::{
    Decoded, Decoder, Event, Options, ResumeState, SectionKind, StreamBlock,
};
use retpath_codec::wire::{ram, section};
use retpath_codec::{NameBuf, Rule};

use crate::device::old;
use crate::kit::{PAGE, RAM, ROM, Stream, advise, drain, error, events, fresh};

fn feed(decoder: &mut Decoder, bytes: &Stream) {
    let left = drain(decoder, &bytes.0, |_, _, _| {}).expect("is valid");
    assert_eq!(left, b"");
}

#[test]
fn reports_the_phase_of_the_migration() {
    let mut decoder = fresh();
    let progress = |decoder: &Decoder| {
        (
            decoder.is_listening(),
            decoder.is_running(),
            decoder.package(),
            decoder.has_ended(),
        )
    };
    feed(&mut decoder, &Stream::discarded());
    assert_eq!(progress(&decoder), (false, false, None, false));
    let size = 5 + 9 + 5;
    let package = Stream::default().command(Command::Packaged { size });
    feed(&mut decoder, &package);
    assert_eq!(progress(&decoder), (false, false, Some(19), false));
    feed(&mut decoder, &Stream::default().listen());
    assert_eq!(progress(&decoder), (true, false, Some(14), false));
    feed(&mut decoder, &Stream::default().run());
    // The end of the package has no bytes.
    assert_eq!(progress(&decoder), (true, true, None, false));
    feed(&mut decoder, &Stream::default().end(1).eos(1));
    assert_eq!(progress(&decoder), (true, true, None, false));
    feed(&mut decoder, &Stream::default().eof());
    assert_eq!(progress(&decoder), (true, true, None, true));

    let resumed = decoder.resume();
    assert_eq!(progress(&resumed), (true, true, None, false));
    assert_eq!(progress(&decoder.preempt()), (true, true, None, false));
    let blind = Decoder::blind_resumed(Options::default());
    assert_eq!(progress(&blind), (true, true, None, false));
    let blind = Decoder::blind_preempt(Options::default());
    assert_eq!(progress(&blind), (true, true, None, false));
}

#[test]
fn reports_the_end_from_eof_on() {
    let mut decoder = fresh();
    feed(&mut decoder, &Stream::listed().end(1).eos(1));
    assert!(!decoder.has_ended());
    feed(&mut decoder, &Stream::default().eof());
    assert!(decoder.has_ended());
    for byte in Stream::default().description(b"{}").0.chunks(5) {
        feed(&mut decoder, &Stream(byte.to_vec()));
        assert!(decoder.has_ended());
    }
}

#[test]
fn accepts_an_empty_description() {
    let bytes = Stream::listed().end(1).eos(1).eof().description(b"");
    let events = events(&mut fresh(), &bytes.0);
    assert_eq!(events.last(), Some(&Event::Description { size: 0 }));
    let more = bytes.raw(b"{");
    let error = error(&mut fresh(), &more.0);
    assert_eq!(error.rule, Rule::AfterEnd);
}

#[test]
fn reports_what_the_stream_stated() {
    let mut decoder = fresh();
    assert_eq!(decoder.page_sizes(), None);
    assert_eq!(decoder.has_footers(), None);
    feed(
        &mut decoder,
        &Stream::configured().command(advise(1 << 21 | 8192, 8192)),
    );
    let (summary, target) = (1 << 21 | 8192, 8192);
    assert_eq!(decoder.page_sizes(), Some(PageSizes { summary, target }));
    assert_eq!(decoder.target_page(), 8192);

    let mut decoder = fresh();
    feed(&mut decoder, &Stream::listed());
    assert_eq!(decoder.has_footers(), Some(true));
    assert_eq!(decoder.target_page(), PAGE);
    let ids = [RAM.0, ROM.0].map(|name| decoder.block(name).expect("is listed"));
    assert_eq!(ids.map(|id| id.index()), [0, 1]);
    assert_eq!(decoder.block(b"pc.ra"), None);
    assert_eq!(decoder.section(1), Some(&b"ram"[..]));
    assert_eq!(decoder.section(2), None);
    // Devices have one part.
    feed(
        &mut decoder,
        &Stream::default()
            .device(2, b"timer", b"x")
            .command(Command::EnableColo),
    );
    assert_eq!(decoder.section(2), None);
}

#[test]
fn names_the_item_that_is_cut_short() {
    let listed = Stream::listed;
    for (bytes, message) in [
        (Stream::default(), Some("HEADER")),
        (Stream::default().raw(b"QEV"), Some("HEADER")),
        (Stream::default().raw(b"QEVM\0\0\0\x03"), None),
        (
            Stream::default().raw(b"QEVM\0\0\0\x03\x07\0"),
            Some("CONFIGURATION"),
        ),
        (Stream::configured().raw([5, 30]), Some("SUBSECTION")),
        (Stream::configured().raw([8]), Some("COMMAND")),
        (listed(), None),
        (listed().raw([2, 0, 0]), Some("SECTION_PART")),
        (listed().part(1), Some("RAM")),
        (
            Stream::advised()
                .raw(b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04")
                .word(PAGE | 4),
            Some("BLOCK"),
        ),
        (
            listed().part(1).word(0x10).raw([0x7e]),
            Some("SECTION_FOOTER"),
        ),
        (
            listed().head(SectionKind::Full, 5, b"timer").raw([1]),
            Some("DEVICE_STATE"),
        ),
        (
            listed().head(SectionKind::Start, 2, b"dirty-bitmap"),
            Some("SECTION"),
        ),
        (old().end(1), Some("RAM")),
        (listed().end(1).eos(1).eof().raw([6]), Some("VMDESCRIPTION")),
        (
            listed().end(1).eos(1).eof().raw([6, 0, 0, 0, 9, b'{']),
            Some("VMDESCRIPTION"),
        ),
    ] {
        let error = error(&mut fresh(), &bytes.0);
        assert!(matches!(error.rule, Rule::CutShort { .. }), "{error}");
        assert_eq!(error.message, message, "{error}");
    }
    let mut preempt = Decoder::blind_preempt(Options::default());
    assert_eq!(error(&mut preempt, &[0; 7]).message, Some("RAM"));
}

#[test]
fn refuses_an_unskippable_section_on_a_resumed_channel() {
    let mut first = fresh();
    let start = Stream::listed().head(SectionKind::Start, 2, b"0000:00:02.0/vfio");
    let error = error(&mut first, &start.clone().raw([0]).0);
    assert_eq!(error.rule, Rule::Unskippable { id: 2 });
    let resumed = Stream::default().command(Command::PostcopyResume).part(2);
    let error = crate::kit::error(&mut first.resume(), &resumed.raw([0]).0);
    assert_eq!(error.rule, Rule::Unskippable { id: 2 });
}

#[test]
fn a_block_has_a_number_of_32_bits_whatever_the_caller_allows() {
    let options = Options::default().max_blocks(usize::MAX);
    let mut decoder = Decoder::blind_preempt(options);
    let mut bytes = Stream::default();
    for name in [&b"a"[..], b"b", b"c"] {
        bytes = bytes.zero(0, Some(name));
    }
    feed(&mut decoder, &bytes);
    assert_eq!(decoder.blocks().len(), 3);
}

#[test]
fn uses_the_target_page_size_of_the_options_on_a_preempt_channel() {
    let options = Options::default()
        .target_page(1024)
        .page_sizes(vec![(NameBuf::new("a").expect("a name"), 4096)]);
    let mut decoder = Decoder::blind_preempt(options);
    let bytes = Stream::default().word(0x408).raw(b"\x01a").raw([7; 1024]);
    let Ok(Decoded::Event { size, .. }) = decoder.next(&bytes.0) else {
        panic!("no page of 1 KiB");
    };
    assert_eq!(size, bytes.0.len());
    assert_eq!(decoder.blocks()[0].page_size, 4096);
}

#[test]
fn labels_every_flag_of_a_record() {
    let labels: Vec<&str> = (0..64).filter_map(|bit| ram::label(1 << bit)).collect();
    assert_eq!(
        labels,
        [
            "FULL",
            "ZERO",
            "MEM_SIZE",
            "PAGE",
            "EOS",
            "CONTINUE",
            "XBZRLE",
            "HOOK",
            "COMPRESS_PAGE",
            "MULTIFD_FLUSH",
        ]
    );
    assert_eq!(ram::label(ram::PAGE | ram::CONTINUE), None);
}

#[test]
fn labels_every_section_type() {
    let labels: Vec<(u8, &str)> = (0..=u8::MAX)
        .filter_map(|byte| section::label(byte).map(|label| (byte, label)))
        .collect();
    assert_eq!(
        labels,
        [
            (0, "EOF"),
            (1, "SECTION_START"),
            (2, "SECTION_PART"),
            (3, "SECTION_END"),
            (4, "SECTION_FULL"),
            (5, "SUBSECTION"),
            (6, "VMDESCRIPTION"),
            (7, "CONFIGURATION"),
            (8, "COMMAND"),
            (0x7e, "SECTION_FOOTER"),
        ]
    );
}

#[test]
fn setters_set_the_option_of_their_name() {
    let name = NameBuf::new("a").unwrap();
    let options = Options::default()
        .target_page(1024)
        .host_page(8192)
        .page_sizes([(name.clone(), 4096)])
        .nonzero_fill(true)
        .max_machine_name(1)
        .max_description(2)
        .max_package(3)
        .max_blocks(4)
        .max_sections(5);
    assert_eq!((options.target_page, options.host_page), (1024, 8192));
    assert_eq!(options.page_sizes, [(name, 4096)]);
    assert!(options.nonzero_fill);
    let limits = (
        options.max_machine_name,
        options.max_description,
        options.max_package,
    );
    assert_eq!(limits, (1, 2, 3));
    assert_eq!((options.max_blocks, options.max_sections), (4, 5));
}

#[test]
fn resume_state_can_be_put_together_again() {
    let mut decoder = fresh();
    events(&mut decoder, &Stream::switched().eof().0);
    let state = decoder.resume_state().expect("RAM is listed");
    let blocks = state
        .blocks
        .iter()
        .map(|block| StreamBlock::new(block.name.clone(), block.len, block.page_size))
        .collect();
    let again = ResumeState::new(state.target_page, blocks, state.ram_section, state.footers);
    assert_eq!(again, state);
}
