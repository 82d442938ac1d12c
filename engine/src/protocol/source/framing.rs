//! What stands around the pages: the stream's head, sections, the package.
//!
//! Everything here appends to the main channel's bytes and cannot fail: names
//! and lengths have been checked before.

use retpath_codec::command::{Command, PageSizes, RangeBuf};
use retpath_codec::forward::{Subsection, write};
use retpath_codec::{BlockName, Encode, Name};

use crate::blocks::Blocks;

use super::config::Config;

/// Asked with the return path, before anything else.
pub(super) const PING_START: u32 = 1;
/// Asked before the package.
pub(super) const PING_BEFORE: u32 = 2;
/// Asked at the end of the package.
pub(super) const PING_PACKAGE: u32 = 3;
/// Asked behind the package.
pub(super) const PING_BEHIND: u32 = 4;
/// Asked twice behind the preempt channel's connection: a QEMU that does not
/// want it closes it in the turn of its main loop that answers the first one.
pub(super) const PING_PREEMPT: u32 = 5;
/// Asked at the end of the package: has the device state been loaded?
pub(super) const PING_LOADED: u32 = 0x42;

/// Bytes of the commands in a package.
const PACKAGE_COMMANDS: usize = 5 + 9 + 9 + 5;

/// Whether a device state of so many bytes fits a package.
pub(super) fn fits_package(device_state: usize) -> bool {
    device_state
        .checked_add(PACKAGE_COMMANDS)
        .is_some_and(|size| u32::try_from(size).is_ok())
}

/// Everything up to the end of the block list.
pub(super) fn head(config: &Config, blocks: &Blocks, out: &mut Vec<u8>) {
    write::header(out);
    if config.configuration {
        write::configuration(&config.machine, out).expect("checked by Config::check");
        if config.page_bits {
            let bits = blocks.target().trailing_zeros();
            write::subsection(&Subsection::TargetPageBits(bits), out);
        }
    }
    command(Command::OpenReturnPath, out);
    ping(PING_START, out);
    let sizes = PageSizes {
        summary: blocks.page_summary(),
        target: blocks.target(),
    };
    command(Command::PostcopyAdvise { sizes: Some(sizes) }, out);
    out.extend_from_slice(&config.early_state);
    write::ram_start(config.section, out);
    let total = blocks.iter().map(|block| block.len).sum();
    write::mem_size(total, out).expect("made of whole target pages");
    let ordinary = config.host_page.max(blocks.target());
    for block in blocks.iter() {
        let page = (block.page != ordinary).then_some(block.page);
        write::block(block.name.name(), block.len, page, None, out);
    }
    end_section(config, out);
}

/// Opens a further piece of `ram`.
pub(super) fn open_section(config: &Config, out: &mut Vec<u8>) {
    write::part(config.section, out);
}

/// Ends a piece of `ram`.
pub(super) fn end_section(config: &Config, out: &mut Vec<u8>) {
    write::eos(out);
    if config.footers {
        write::footer(config.section, out);
    }
}

/// LISTEN, the device state and RUN, and the PINGs among and around them.
pub(super) fn package(config: &Config, device_state: &[u8], out: &mut Vec<u8>) {
    if config.outer_pings {
        ping(PING_BEFORE, out);
    }
    // The size of the nested stream is known once it has been written.
    command(Command::Packaged { size: 0 }, out);
    let start = out.len();
    command(Command::PostcopyListen, out);
    out.extend_from_slice(device_state);
    ping(PING_PACKAGE, out);
    if config.ping_loaded {
        ping(PING_LOADED, out);
    }
    command(Command::PostcopyRun, out);
    let size = u32::try_from(out.len() - start).expect("checked by fits_package");
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
    if config.outer_pings {
        ping(PING_BEHIND, out);
    }
}

/// The last piece of `ram` and the end of the stream.
pub(super) fn end(config: &Config, out: &mut Vec<u8>) {
    write::end(config.section, out);
    end_section(config, out);
    write::eof(out);
}

/// The end of an early preempt channel.
pub(super) fn end_preempt(out: &mut Vec<u8>) {
    write::eos(out);
}

/// SWITCHOVER_START.
pub(super) fn switchover_start(out: &mut Vec<u8>) {
    command(Command::SwitchoverStart, out);
}

/// Asks for the received bitmap of every block.
pub(super) fn ask_bitmaps(blocks: &Blocks, out: &mut Vec<u8>) {
    for block in blocks.iter() {
        command(
            Command::RecvBitmap {
                block: block.name.name(),
            },
            out,
        );
    }
}

/// POSTCOPY_RESUME.
pub(super) fn resume(config: &Config, out: &mut Vec<u8>) {
    command(Command::PostcopyResume, out);
    if config.probe {
        ping(PING_BEHIND, out);
    }
}

pub(super) fn ping(value: u32, out: &mut Vec<u8>) {
    command(Command::Ping { value }, out);
}

fn command(command: Command<Name<'_>, RangeBuf>, out: &mut Vec<u8>) {
    command
        .encode(out)
        .expect("a command of checked parts can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_largest_device_state() {
        let config = Config {
            outer_pings: false,
            ping_loaded: true,
            ..Config::new("pc-i440fx-10.0")
        };
        let mut out = Vec::new();
        package(&config, &[], &mut out);
        let command = 5 + 4;
        let commands = out.len() - command;
        let most = usize::try_from(u32::MAX).expect("64 bits") - commands;
        assert!(fits_package(0) && fits_package(most));
        assert!(!fits_package(most + 1) && !fits_package(usize::MAX));
    }
}
