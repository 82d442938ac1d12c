//! The main channel apart from pages: header, sections, commands and the package.
//!
//! Every function appends to the main channel's bytes. None can fail: names and
//! lengths have been checked before.

use retpath_codec::command::{Command, PageSizes, RangeBuf};
use retpath_codec::forward::{Subsection, write};
use retpath_codec::wire::value::{
    PING_AFTER_PACKAGE, PING_BEFORE_PACKAGE, PING_IN_PACKAGE, PING_OPENED, PING_PACKAGE_LOADED,
};
use retpath_codec::{BlockName, Encode, Name};

use crate::blocks::Blocks;

use super::config::Config;

/// Sent twice after the preempt channel is connected: a QEMU without the capability
/// closes the channel in the turn of its main loop that answers the first one.
pub(super) const PING_PREEMPT: u32 = 5;

/// Maximum size of a device state in bytes: a package holds 2^32 - 1 bytes, 28 of which
/// are its commands.
pub const MAX_DEVICE_STATE: u64 = 0xffff_ffff - (5 + 9 + 9 + 5);

/// Appends everything up to the end of the block list.
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
    ping(PING_OPENED, out);
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

/// Ends a section of `ram`.
pub(super) fn end_section(config: &Config, out: &mut Vec<u8>) {
    write::eos(out);
    if config.footers {
        write::footer(config.section, out);
    }
}

/// Appends the package: LISTEN, the device state and RUN, with the PINGs in and around it.
pub(super) fn package(config: &Config, device_state: &[u8], out: &mut Vec<u8>) {
    if config.outer_pings {
        ping(PING_BEFORE_PACKAGE, out);
    }
    // The size of the nested stream is filled in afterwards.
    command(Command::Packaged { size: 0 }, out);
    let start = out.len();
    command(Command::PostcopyListen, out);
    out.extend_from_slice(device_state);
    ping(PING_IN_PACKAGE, out);
    if config.ping_loaded {
        ping(PING_PACKAGE_LOADED, out);
    }
    command(Command::PostcopyRun, out);
    let size = u32::try_from(out.len() - start).expect("checked by Source::switch");
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
    if config.outer_pings {
        ping(PING_AFTER_PACKAGE, out);
    }
}

/// Appends the last section of `ram` and the end of the stream.
pub(super) fn end(config: &Config, out: &mut Vec<u8>) {
    write::end(config.section, out);
    end_section(config, out);
    write::eof(out);
}

pub(super) fn ping(value: u32, out: &mut Vec<u8>) {
    command(Command::Ping { value }, out);
}

pub(super) fn command(command: Command<Name<'_>, RangeBuf>, out: &mut Vec<u8>) {
    command
        .encode(out)
        .expect("a command of checked parts can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_the_largest_device_state() {
        let config = Config {
            outer_pings: false,
            ping_loaded: true,
            ..Config::new("pc-i440fx-10.0")
        };
        let mut out = Vec::new();
        package(&config, &[], &mut out);
        let command = 5 + 4;
        let commands = (out.len() - command) as u64;
        assert_eq!(MAX_DEVICE_STATE + commands, u32::MAX.into());
    }
}
