//! Commands in the wrong phase, or inconsistent with the RAM blocks.

use retpath_codec::Rule;
use retpath_codec::command::Command;

use crate::kit::{
    Owned, PAGE, RAM, ROM, Stream, advise, discard, drain, fresh, refuse, refuse_with,
};

fn command(command: Owned) -> Stream {
    Stream::default().command(command)
}

fn turn(state: &'static str) -> Rule {
    Rule::OutOfTurn { state }
}

/// A package with this content and room for what must follow.
fn inside(package: &Stream) -> Stream {
    Stream::discarded()
        .command(Command::Packaged { size: 1000 })
        .raw(package)
}

#[test]
fn refuses_a_defect_of_the_frame_at_its_offset() {
    let rule = Rule::Unknown { number: 256 };
    refuse(&Stream::advised(), [8, 1, 0, 0, 0], rule, 1);
    refuse(&Stream::advised(), [8, 0, 0, 0, 0], Rule::Reserved, 1);
    let (len, min, max) = (1, 4, 4);
    refuse(
        &Stream::advised(),
        [8, 0, 2, 0, 1],
        Rule::Length { len, min, max },
        3,
    );
}

#[test]
fn refuses_a_ping_before_the_return_path() {
    let ping = command(Command::Ping { value: 1 });
    refuse(&Stream::configured(), ping, Rule::NoReturnPath, 0);
}

#[test]
fn accepts_a_second_open_return_path() {
    let twice = Stream::advised().command(Command::OpenReturnPath);
    drain(&mut fresh(), &twice.0, |_, _, _| {}).unwrap();
}

#[test]
fn refuses_advise_twice_or_late() {
    let advise = || command(advise(PAGE, PAGE));
    refuse(
        &Stream::advised(),
        advise(),
        turn("after POSTCOPY_ADVISE"),
        0,
    );
    refuse(
        &Stream::configured().list(),
        advise(),
        turn("after the first section"),
        0,
    );
    refuse(&Stream::switched(), advise(), turn("after POSTCOPY_RUN"), 0);
}

#[test]
fn refuses_invalid_page_sizes() {
    let start = Stream::configured();
    for (target, size) in [(0, 0), (512, 512), (4097, 4097), (1 << 17, 1 << 17)] {
        refuse(
            &start,
            command(advise(PAGE, target)),
            Rule::TargetPage { size },
            13,
        );
    }
    for summary in [0, 1, 2048, PAGE | 512] {
        refuse(
            &start,
            command(advise(summary, PAGE)),
            Rule::PageSummary { summary },
            5,
        );
    }
    let bits = b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0d";
    let (got, want) = (4096, 8192);
    let start = start.raw(bits);
    refuse(
        &start,
        command(advise(PAGE, PAGE)),
        Rule::Value { got, want },
        13,
    );
}

#[test]
fn refuses_discards_out_of_turn() {
    let discard = || command(discard(RAM.0, 0, PAGE));
    let early = Stream::configured().list();
    refuse(&early, discard(), turn("before POSTCOPY_ADVISE"), 0);
    refuse(
        &Stream::switched(),
        discard(),
        turn("after POSTCOPY_RUN"),
        0,
    );
    refuse(
        &inside(&Stream::default().listen()),
        discard(),
        Rule::InPackage,
        0,
    );
    // ADVISE for dirty bitmaps only.
    let bitmaps = Stream::configured()
        .command(Command::PostcopyAdvise { sizes: None })
        .list();
    let rule = turn("without page sizes in POSTCOPY_ADVISE");
    refuse(&bitmaps, discard(), rule, 0);
}

#[test]
fn refuses_discards_outside_of_their_block() {
    let start = Stream::listed();
    let rule = Rule::UnknownBlock;
    refuse(&start, command(discard(b"vga.vram", 0, PAGE)), rule, 6);
    refuse(
        &Stream::advised(),
        command(discard(RAM.0, 0, PAGE)),
        rule,
        6,
    );
    // Frame, version, name, terminator.
    let first = 5 + 1 + 1 + 3 + 1;
    let (start_at, len) = (PAGE, ROM.1);
    let past = Rule::PastBlock {
        start: start_at,
        len,
    };
    refuse(&start, command(discard(ROM.0, PAGE, 2 * PAGE)), past, first);
    let far = Rule::PastBlock {
        start: 1 << 63,
        len,
    };
    refuse(&start, command(discard(ROM.0, 1 << 63, PAGE)), far, first);
    for (begin, len, value) in [(1, PAGE, 1), (512, PAGE, 512), (0, 100, 100)] {
        let rule = Rule::Misaligned { value, page: PAGE };
        refuse(&start, command(discard(ROM.0, begin, len)), rule, first);
    }
}

#[test]
fn reports_the_offset_of_the_wrong_range() {
    let start = Stream::listed();
    let good = command(discard(ROM.0, 0, PAGE));
    let mut bytes = good.0;
    bytes[4] += 16;
    bytes.extend((7 * PAGE).to_be_bytes());
    bytes.extend(PAGE.to_be_bytes());
    let rule = Rule::PastBlock {
        start: 7 * PAGE,
        len: ROM.1,
    };
    refuse(&start, bytes, rule, 11 + 16);
}

#[test]
fn refuses_a_range_smaller_than_a_huge_page() {
    let huge = 2 << 20;
    let mut out = Stream::configured().command(advise(huge | PAGE, PAGE)).0;
    retpath_codec::forward::write::ram_start(1, &mut out);
    retpath_codec::forward::write::mem_size(2 * huge, &mut out).unwrap();
    let name = crate::kit::name(b"hugemem");
    retpath_codec::forward::write::block(name, 2 * huge, Some(huge), None, &mut out);
    let start = Stream(out).eos(1);
    let rule = Rule::Misaligned {
        value: PAGE,
        page: huge,
    };
    refuse(&start, command(discard(b"hugemem", PAGE, huge)), rule, 15);
    refuse(&start, command(discard(b"hugemem", 0, PAGE)), rule, 15);
    let whole = start.command(discard(b"hugemem", huge, huge));
    drain(&mut fresh(), &whole.0, |_, _, _| {}).unwrap();
}

#[test]
fn refuses_a_package_out_of_turn() {
    let package = || command(Command::Packaged { size: 19 });
    let rule = turn("before POSTCOPY_ADVISE");
    refuse(&Stream::configured(), package(), rule, 0);
    refuse(
        &Stream::switched(),
        package(),
        turn("after POSTCOPY_RUN"),
        0,
    );
}

#[test]
fn refuses_a_package_inside_a_package() {
    let nested = command(Command::Packaged { size: 19 });
    refuse(
        &inside(&Stream::default().listen()),
        nested,
        Rule::InPackage,
        0,
    );
}

#[test]
fn refuses_listen_and_run_outside_a_package() {
    let listen = command(Command::PostcopyListen);
    let run = command(Command::PostcopyRun);
    for start in [Stream::listed(), Stream::discarded(), Stream::switched()] {
        refuse(&start, &listen, Rule::NotInPackage, 0);
        refuse(&start, &run, Rule::NotInPackage, 0);
    }
}

#[test]
fn refuses_listen_twice_and_run_before_it() {
    let listening = inside(&Stream::default().listen());
    let rule = turn("after POSTCOPY_LISTEN");
    refuse(&listening, command(Command::PostcopyListen), rule, 0);
    let rule = turn("after POSTCOPY_RAM_DISCARD");
    let empty = inside(&Stream::default());
    refuse(&empty, command(Command::PostcopyRun), rule, 0);
    refuse(&empty, command(Command::Ping { value: 3 }), rule, 0);
}

#[test]
fn refuses_bytes_after_run_in_a_package() {
    let package = Stream::default().listen().run().raw([0; 7]);
    let start = Stream::discarded().command(Command::Packaged { size: 26 });
    refuse(&start, package, Rule::AfterRun { count: 7 }, 19);
}

#[test]
fn refuses_a_package_without_run() {
    let package = Stream::default().listen();
    let start = Stream::discarded().command(Command::Packaged { size: 5 });
    refuse(&start, package, Rule::NoRun, 5);
    let empty = Stream::default().command(Command::Packaged { size: 0 });
    refuse(&Stream::discarded(), empty, Rule::NoRun, 9);
}

#[test]
fn refuses_items_that_exceed_the_package() {
    let package = Stream::default().listen().run();
    let start = Stream::discarded().command(Command::Packaged { size: 18 });
    refuse(&start, package, Rule::PackageEnd, 14);
}

#[test]
fn refuses_recovery_on_a_fresh_channel() {
    let rule = turn("outside a recovery");
    let block = retpath_codec::NameBuf::new(RAM.0).unwrap();
    for start in [Stream::advised(), Stream::switched()] {
        refuse(&start, command(Command::PostcopyResume), rule, 0);
        let bitmap = command(Command::RecvBitmap {
            block: block.clone(),
        });
        refuse(&start, bitmap, rule, 0);
    }
}

#[test]
fn refuses_defects_of_a_recovery() {
    let mut first = fresh();
    drain(&mut first, &Stream::switched().0, |_, _, _| {}).unwrap();
    let second = || first.resume();
    let none = Stream::default();
    let block = retpath_codec::NameBuf::new("vga.vram").unwrap();
    let bitmap = command(Command::RecvBitmap { block });
    refuse_with(second(), &none, bitmap, Rule::UnknownBlock, 5);
    let early = turn("before POSTCOPY_RESUME");
    refuse_with(second(), &none, Stream::default().part(1), early, 0);
    refuse_with(second(), &none, [0], early, 0);
    refuse_with(second(), &none, command(Command::OpenReturnPath), early, 0);
    refuse_with(second(), &none, command(discard(RAM.0, 0, PAGE)), early, 0);
    let resumed = command(Command::PostcopyResume);
    let again = turn("outside a recovery");
    refuse_with(
        second(),
        &resumed,
        command(Command::PostcopyResume),
        again,
        0,
    );
    let resumed = resumed.part(1);
    refuse_with(second(), &resumed, 0x22_u64.to_be_bytes(), Rule::NoBlock, 0);
}

#[test]
fn refuses_precopy_commands_after_the_switch() {
    let rule = turn("after POSTCOPY_RUN");
    for late in [
        Command::OpenReturnPath,
        Command::EnableColo,
        Command::SwitchoverStart,
    ] {
        refuse(&Stream::switched(), command(late), rule, 0);
    }
    let ping = Stream::switched().command(Command::Ping { value: 4 });
    drain(&mut fresh(), &ping.0, |_, _, _| {}).unwrap();
}
