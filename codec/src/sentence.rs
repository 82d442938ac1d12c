//! What is wrong, in a sentence for each rule. Words only.

use core::fmt;

use crate::generated::BITMAP_END;
use crate::generated::ram::{MAX_TARGET_PAGE, MIN_TARGET_PAGE};
use crate::generated::section::MAGIC;
use crate::rule::Rule;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Rule::Lead => f.write_str("the frame does not open with the byte of its kind"),
            Rule::Reserved => f.write_str("message number 0 is never valid"),
            Rule::Unknown { number } => {
                write!(f, "no message has number {number} (0x{number:04x})")
            }
            Rule::TooLong { len, limit } => {
                write!(f, "payload of {len} bytes, but {limit} is the limit")
            }
            Rule::Length { len, min, max } if min == max => {
                write!(f, "payload of {len} bytes, must be {min}")
            }
            Rule::Length { len, min, max } => {
                write!(f, "payload of {len} bytes, must be {min} to {max}")
            }
            Rule::Short => f.write_str("does not fit what is left of the payload"),
            Rule::Leftover { count } => write!(f, "{count} bytes are left over in the payload"),
            Rule::Value { got, want } => write!(f, "is {got}, must be {want}"),
            Rule::Zero => f.write_str("a length of 0"),
            Rule::Overflow { start, len } => {
                write!(f, "start 0x{start:x} + length 0x{len:x} passes 2^64 - 1")
            }
            Rule::Odd => f.write_str("an odd length, but its lowest bit is the name flag"),
            Rule::EmptyName => f.write_str("an empty block name"),
            Rule::NameTooLong => f.write_str("a block name of more than 255 bytes"),
            Rule::NulInName => f.write_str("a block name with a NUL inside"),
            Rule::BitmapSize { size } => {
                write!(
                    f,
                    "bitmap of {size} bytes, must be a positive multiple of 8"
                )
            }
            Rule::BitmapLimit { size, limit } => {
                write!(
                    f,
                    "bitmap of {size} bytes, but {limit} is the most this reader allows"
                )
            }
            Rule::BitmapMismatch { size, want } => {
                write!(f, "bitmap of {size} bytes, but the block needs {want}")
            }
            Rule::BitmapTail => f.write_str("bitmap has bits set beyond the block's last page"),
            Rule::BitmapEnd { got } => {
                write!(
                    f,
                    "bitmap ends with {got:#018x} instead of {BITMAP_END:#018x}"
                )
            }
            Rule::AfterShut => f.write_str("bytes follow SHUT, which must be the last message"),
            Rule::CutShort { have: 0, need } => write!(
                f,
                "the stream ends too early: at least {need} more bytes belong to it"
            ),
            Rule::CutShort { have, need } => write!(
                f,
                "the stream ends inside a message: {have} bytes of it are there, at least {need} more are missing"
            ),
            Rule::NoRoom => f.write_str("the buffer to write to is too small"),
            Rule::Magic { got } => write!(
                f,
                "the stream opens with {got:#010x} instead of {MAGIC:#010x} (\"QEVM\"): it is no forward stream, or not its beginning"
            ),
            Rule::SectionType { byte } => write!(f, "no section may begin with byte {byte:#04x} here"),
            Rule::UnknownSection { id } => write!(f, "no section {id} has been started"),
            Rule::SectionTwice { id } => {
                write!(f, "section number {id} has been given to a section before")
            }
            Rule::SectionEnded { id } => write!(f, "section {id} has already ended"),
            Rule::Unskippable { id } => write!(
                f,
                "section {id} holds something other than RAM, and nothing in the stream says how much of it: migrate without the capability or device that it belongs to"
            ),
            Rule::NoFooter { got } => write!(
                f,
                "a footer must close the section, as it closed those before, but byte {got:#04x} follows"
            ),
            Rule::UnknownSubsection => f.write_str("the configuration has no such subsection"),
            Rule::UnknownCapability => {
                f.write_str("a capability that changes the stream in an unknown way")
            }
            Rule::MappedRam => f.write_str(
                "the pages lie outside the stream (mapped-ram): migrate without that capability",
            ),
            Rule::Repeated => f.write_str("is there a second time"),
            Rule::TargetPage { size } => write!(
                f,
                "target pages of {size} bytes, must be a power of two from {MIN_TARGET_PAGE} to {MAX_TARGET_PAGE}"
            ),
            Rule::HostPage { size } => {
                write!(f, "host pages of {size} bytes, must be a power of two")
            }
            Rule::PageSummary { summary } => write!(
                f,
                "page sizes {summary:#x}, must be at least one and none smaller than a target page"
            ),
            Rule::NotAdvised { size, summary } => write!(
                f,
                "pages of {size:#x} bytes, but POSTCOPY_ADVISE announced {summary:#x}"
            ),
            Rule::BlockPage { got, want } => write!(
                f,
                "the stream gives the block pages of {got} bytes, but {want} were expected: correct --block-page-size NAME=SIZE, or leave it out"
            ),
            Rule::OutOfTurn { state } => write!(f, "may not come {state}"),
            Rule::NoReturnPath => f.write_str("asks for an answer before OPEN_RETURN_PATH"),
            Rule::InPackage => f.write_str("may not stand in a package"),
            Rule::NotInPackage => f.write_str("may stand in a package only"),
            Rule::PackageEnd => f.write_str("does not fit what is left of the package"),
            Rule::AfterRun { count } => {
                write!(f, "{count} bytes are left of the package behind POSTCOPY_RUN")
            }
            Rule::NoRun => f.write_str("the package ends without POSTCOPY_RUN"),
            Rule::AfterEnd => f.write_str("bytes follow the end of the stream"),
            Rule::Limit { got, limit } => {
                write!(f, "is {got}, but {limit} is the most this reader allows")
            }
            Rule::Flags { flags } => {
                write!(f, "flags {flags:#05x} are not those of exactly one record")
            }
            Rule::Illegal { state } => write!(f, "may not stand {state}"),
            Rule::NoBlock => f.write_str(
                "goes on with the block of the record before, but no record on this channel named one",
            ),
            Rule::UnknownBlock => f.write_str("no RAM block has this name"),
            Rule::BlockTwice => f.write_str("the RAM block is in the list a second time"),
            Rule::PastTotal { len, left } => write!(
                f,
                "a RAM block of {len} bytes, but only {left} are left of the announced total"
            ),
            Rule::PastBlock { start, len } => write!(
                f,
                "what begins at {start:#x} passes the end of the RAM block at {len:#x}"
            ),
            Rule::Misaligned { value, page } => {
                write!(f, "{value:#x} is no multiple of the page size {page:#x}")
            }
            Rule::Fill { fill } => write!(
                f,
                "a page filled with {fill:#04x}: only QEMU before 8.2 may send one, and this reader was not told to take it"
            ),
        }
    }
}

impl core::error::Error for Rule {}
