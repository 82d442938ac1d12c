//! What a hostile peer says.

use std::collections::VecDeque;

use retpath_codec::command::{Command, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{Identity, SectionKind, Subsection, write};
use retpath_codec::{Encode, Message, Name, NameBuf};

use crate::choices::Choices;

/// Maximum number of bytes of a flood.
const FLOOD: usize = 1 << 20;

/// Names of blocks; the first three are those of the machine.
const NAMES: [&[u8]; 4] = [b"block0", b"block1", b"block2", b"\xff"];

/// Appends an item of a forward stream, sometimes many times.
pub(super) fn forward(choices: &mut Choices<'_>, out: &mut VecDeque<u8>) {
    let mut item = Vec::new();
    one_forward(choices, &mut item);
    repeat(choices, &item, out);
}

/// Appends a message of the return path, sometimes many times.
pub(super) fn back(choices: &mut Choices<'_>, out: &mut VecDeque<u8>) {
    let mut item = Vec::new();
    one_back(choices, &mut item);
    repeat(choices, &item, out);
}

fn repeat(choices: &mut Choices<'_>, item: &[u8], out: &mut VecDeque<u8>) {
    let size = match choices.byte() {
        0 => FLOOD,
        1..8 => FLOOD / 32,
        8..16 => 2 * item.len(),
        _ => item.len(),
    };
    while !item.is_empty() && out.len() < FLOOD {
        out.extend(item);
        if out.len() >= size {
            break;
        }
    }
}

fn name(choices: &mut Choices<'_>) -> Name<'static> {
    Name::new(NAMES[choices.index(NAMES.len())]).expect("valid name")
}

/// An offset or a length, usually of whole pages.
fn number(choices: &mut Choices<'_>) -> u64 {
    match choices.below(16) {
        0 => choices.any(),
        1 => choices.below(1 << 16),
        _ => choices.below(20) * 4096,
    }
}

fn raw(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    for _ in 0..1 + choices.below(9) {
        out.push(choices.byte());
    }
}

fn one_forward(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let id = u32::try_from(choices.below(4)).expect("fits in u32");
    let named = choices.one_in(2).then(|| name(choices));
    // Items that cannot be encoded are left out.
    let _ = match choices.below(24) {
        0 => {
            raw(choices, out);
            Ok(())
        }
        1 => {
            write::header(out);
            Ok(())
        }
        2 => write::configuration(b"pc", out),
        3 => {
            let bits = u32::try_from(choices.below(70)).expect("fits in u32");
            write::subsection(&Subsection::TargetPageBits(bits), out);
            Ok(())
        }
        4 | 5 => {
            let mut list = Vec::new();
            let mut total = 0_u64;
            for _ in 0..1 + choices.below(3) {
                let len = number(choices);
                total = total.wrapping_add(len);
                let page = choices.one_in(4).then(|| number(choices));
                write::block(name(choices), len, page, None, &mut list);
            }
            write::ram_start(id, out);
            write::mem_size(total, out).map(|()| {
                out.extend(list);
                write::eos(out);
            })
        }
        6 => {
            write::part(id, out);
            Ok(())
        }
        7 => {
            write::footer(id, out);
            Ok(())
        }
        8 => {
            write::eos(out);
            Ok(())
        }
        9 => {
            write::eof(out);
            Ok(())
        }
        10 => {
            write::description(id, out);
            Ok(())
        }
        11 => {
            let identity = Identity {
                idstr: b"cpu",
                instance: 0,
                version: 1,
            };
            write::section(SectionKind::Full, id, Some(identity), out)
        }
        12 | 13 => write::zero(number(choices), named, out),
        14 | 15 => write::page_header(number(choices), named, out).map(|()| {
            let size = [1024, 4096][choices.index(2)];
            out.resize(out.len() + size, 7);
        }),
        _ => command(choices).encode(out),
    };
}

fn command(choices: &mut Choices<'_>) -> Command<Name<'static>, RangeBuf> {
    let block = name(choices);
    match choices.below(12) {
        0 => Command::OpenReturnPath,
        1 | 2 => Command::Ping { value: 0x42 },
        3 => Command::PostcopyAdvise {
            sizes: Some(PageSizes {
                summary: 4096,
                target: [1024, 4096][choices.index(2)],
            }),
        },
        4 => Command::PostcopyListen,
        5 => Command::PostcopyRun,
        6 | 7 => {
            let ranges = (0..1 + choices.below(3)).filter_map(|_| {
                let (start, len) = (number(choices), number(choices));
                Range::new(start, len).ok()
            });
            match RangeBuf::new(ranges.collect::<Vec<_>>()) {
                Ok(ranges) => Command::PostcopyRamDiscard { block, ranges },
                Err(_) => Command::PostcopyListen,
            }
        }
        8 => Command::Packaged {
            size: u32::from(choices.byte()),
        },
        9 => Command::PostcopyResume,
        10 => Command::SwitchoverStart,
        _ => Command::RecvBitmap { block },
    }
}

fn one_back(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let block: NameBuf = name(choices).to_buf();
    let (start, len) = (number(choices), number(choices));
    let len = u32::try_from(len).unwrap_or(4096);
    let message = match choices.below(16) {
        0 => return raw(choices, out),
        1 => Message::Shut {
            value: u32::from(choices.one_in(2)),
        },
        2 => Message::Pong {
            value: [1, 2, 4, 0x42][choices.index(4)],
        },
        3 => Message::ResumeAck,
        4 => Message::SwitchoverAck,
        5 | 6 => {
            let message = Message::RecvBitmap { block };
            let _ = message.encode(out);
            let size = choices.below(5) * 8;
            out.extend(size.to_be_bytes());
            for _ in 0..size {
                out.push(choices.byte());
            }
            out.extend(0x0123_4567_89ab_cdef_u64.to_be_bytes());
            return;
        }
        7..11 => Message::ReqPages { start, len },
        _ => Message::ReqPagesId { start, len, block },
    };
    // Out of range for the message: left out.
    let _ = message.encode(out);
}
