//! A small machine, and the byte stream of its migration as written by the source core.

use std::ops::Range;

use retpath_codec::forward::{Decoded, Decoder, Event, Options};
use retpath_codec::{BlockName, Encode, NameBuf, command::Command};
use retpath_engine::Channel;
use retpath_engine::blocks::Blocks;
use retpath_engine::source::{Config, Gather, Next, PageSource, Preempt, Source, SourcePhase};

use super::loops;
pub use super::loops::PAGE;

/// Pages of the machine.
pub const PAGES: u64 = 24;

/// Returns the name of its RAM block.
pub fn name() -> NameBuf {
    NameBuf::new("pc.ram").expect("valid name")
}

pub fn blocks() -> Blocks {
    loops::blocks(&[("pc.ram", PAGES * PAGE)])
}

/// Returns its memory: every fourth page is zero, and all others differ.
pub fn image() -> Vec<u8> {
    let byte = |page: u64, at: u64| match page % 4 {
        3 => 0,
        _ => (page * 37 + at / 16) as u8 | 1,
    };
    let page = |page| (0..PAGE).map(move |at| byte(page, at));
    (0..PAGES).flat_map(page).collect()
}

pub fn config(preempt: Option<Preempt>) -> Config {
    Config::new("pc-i440fx-10.0")
        .preempt(preempt)
        // Send one page per run.
        .run(PAGE)
}

/// A complete main channel.
pub struct Recording {
    pub bytes: Vec<u8>,
    /// End of the package, after which the guest may run.
    pub package: usize,
}

/// Records the source core's output, with `precopy` runs of pages before the switch.
pub fn recording(precopy: usize) -> Recording {
    let mut core = Source::new(config(None), blocks()).expect("valid configuration");
    let memory = vec![image()];
    let (mut bytes, mut package, mut swept) = (Vec::new(), None, 0);
    let mut gather = Gather::new();
    loop {
        match core.next(Channel::Main, 0, &mut bytes) {
            Next::Urgent(run) | Next::Sweep(run) => {
                let len = usize::try_from(run.len).expect("fits in usize");
                let page = memory
                    .lend(run.block, run.offset, len)
                    .expect("range lies in the block");
                let zeros = gather.lay(&run, name().name(), page);
                gather.slices(page).for_each(|part| bytes.extend(part));
                core.written(&run, zeros);
                swept += 1;
            }
            Next::Write => {}
            Next::Wait { .. } => break,
            next => panic!("{next:?}"),
        }
        if core.phase() == SourcePhase::Precopy && swept == precopy {
            core.switch(Vec::new()).expect("phase is precopy");
        }
        if core.guest_left() {
            package.get_or_insert(bytes.len());
        }
    }
    assert_eq!(core.phase(), SourcePhase::Completing);
    let package = package.expect("the switch was sent");
    Recording { bytes, package }
}

/// Returns the byte ranges of a stream's items: headers, commands, records.
pub fn pieces(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut decoder = Decoder::new(Options::default());
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Decoded::Event { size, .. } = decoder.next(&bytes[at..]).expect("valid stream") {
        if size > 0 {
            pieces.push(at..at + size);
        }
        at += size;
    }
    assert_eq!(at, bytes.len());
    pieces
}

/// Returns the offset behind the header of the first section, from which on a connection
/// counts as a source.
pub fn first_section(bytes: &[u8]) -> usize {
    let mut decoder = Decoder::new(Options::default());
    let mut at = 0;
    loop {
        let next = decoder.next(&bytes[at..]).expect("valid stream");
        let Decoded::Event { event, size } = next else {
            panic!("no section");
        };
        at += size;
        if matches!(event, Event::Section { .. }) {
            return at;
        }
    }
}

/// Returns the start of a recovery: RECV_BITMAP of the only block.
pub fn question() -> Vec<u8> {
    let mut bytes = Vec::new();
    let name = name();
    command(Command::RecvBitmap { block: name.name() }, &mut bytes);
    bytes
}

pub fn command(
    command: Command<retpath_codec::Name<'_>, retpath_codec::command::Ranges<'_>>,
    out: &mut Vec<u8>,
) {
    command.encode(out).expect("valid command");
}

/// POSTCOPY_RUN.
pub const RUN: u8 = 5;

/// PACKAGED.
pub const PACKAGED: u8 = 7;

/// Finds the first command with this number.
pub fn find(stream: &[u8], number: u8) -> Range<usize> {
    let is = |piece: &Range<usize>| stream[piece.clone()].starts_with(&[8, 0, number]);
    let found = pieces(stream).into_iter().find(is);
    found.expect("the stream has such a command")
}
