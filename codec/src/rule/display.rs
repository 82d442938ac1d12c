//! A sentence for each rule: what is wrong, and what to do where the reader can
//! do something.

use core::fmt;

use super::Rule;
use crate::generated::BITMAP_END;
use crate::generated::ram::{MAX_TARGET_PAGE, MIN_TARGET_PAGE};
use crate::generated::section::MAGIC;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Rule::Lead => f.write_str("a command must start with byte 0x08"),
            Rule::Reserved => f.write_str("message number 0 is reserved"),
            Rule::Unknown { number } => {
                write!(f, "unknown message number {number} (0x{number:04x})")
            }
            Rule::TooLong { len, limit } => {
                write!(f, "length is {len} bytes, but the maximum is {limit}")
            }
            Rule::Length { len, min, max } if min == max => {
                write!(f, "payload length is {len} bytes, must be {min}")
            }
            Rule::Length { len, min, max } => {
                write!(f, "payload length is {len} bytes, must be {min} to {max}")
            }
            Rule::Short => f.write_str("the payload ends inside this field"),
            Rule::Leftover { count } => {
                write!(f, "the payload has {count} bytes after its last field")
            }
            Rule::Value { got, want } => write!(f, "is {got}, must be {want}"),
            Rule::Zero => f.write_str("length is 0"),
            Rule::Overflow { start, len } => {
                write!(f, "start 0x{start:x} + length 0x{len:x} exceeds 2^64 - 1")
            }
            Rule::Odd => {
                f.write_str("length is odd, but its lowest bit is the flag for a block name")
            }
            Rule::EmptyName => f.write_str("block name is empty"),
            Rule::NameTooLong => f.write_str("name is longer than 255 bytes"),
            Rule::NulInName => f.write_str("block name contains a NUL byte"),
            Rule::BitmapSize { size } => write!(
                f,
                "bitmap size is {size} bytes, must be a positive multiple of 8"
            ),
            Rule::BitmapLimit { size, limit } => write!(
                f,
                "bitmap size is {size} bytes, but this reader accepts at most {limit}"
            ),
            Rule::BitmapMismatch { size, want } => write!(
                f,
                "bitmap size is {size} bytes, but the block needs {want}"
            ),
            Rule::BitmapTail => {
                f.write_str("the bitmap has bits set after the last page of the block")
            }
            Rule::BitmapEnd { got } => write!(
                f,
                "bitmap ends with {got:#018x}, must end with {BITMAP_END:#018x}"
            ),
            Rule::AfterShut => f.write_str("SHUT must be the last message, but bytes follow it"),
            Rule::CutShort { have: 0, need } => write!(
                f,
                "unexpected end: at least {need} more bytes are required here"
            ),
            Rule::CutShort { have, need } => write!(
                f,
                "unexpected end inside a message: {have} bytes are present, at least {need} more are required"
            ),
            Rule::NoRoom => f.write_str("the output buffer is too small"),
            Rule::Magic { got } => write!(
                f,
                "starts with {got:#010x} instead of {MAGIC:#010x} (\"QEVM\"): not a forward stream, or not its beginning"
            ),
            Rule::SectionType { byte } => {
                write!(f, "byte {byte:#04x} is not a section type allowed here")
            }
            Rule::UnknownSection { id } => write!(f, "section {id} was not started"),
            Rule::SectionTwice { id } => write!(f, "section id {id} is already in use"),
            Rule::SectionEnded { id } => write!(f, "section {id} has already ended"),
            Rule::Unskippable { id } => write!(
                f,
                "section {id} is not RAM and its length is not in the stream, so it cannot be skipped: migrate without the capability or device that it belongs to"
            ),
            Rule::NoFooter { got } => write!(
                f,
                "expected a section footer, as after earlier sections, but found byte {got:#04x}"
            ),
            Rule::UnknownSubsection => f.write_str("unknown subsection of the configuration"),
            Rule::UnknownCapability => {
                f.write_str("unknown capability, which may change the format of the stream")
            }
            Rule::MappedRam => f.write_str(
                "pages are stored outside of the stream (capability mapped-ram): migrate without that capability",
            ),
            Rule::Repeated => f.write_str("appears twice"),
            Rule::TargetPage { size } => write!(
                f,
                "target page size is {size} bytes, must be a power of two from {MIN_TARGET_PAGE} to {MAX_TARGET_PAGE}"
            ),
            Rule::HostPage { size } => {
                write!(f, "page size is {size} bytes, must be a power of two")
            }
            Rule::PageSummary { summary } => write!(
                f,
                "page sizes are {summary:#x}, must contain at least one size and none below the target page size"
            ),
            Rule::NotAdvised { size, summary } => write!(
                f,
                "page size is {size:#x}, but POSTCOPY_ADVISE announced only {summary:#x}"
            ),
            Rule::BlockPage { got, want } => write!(
                f,
                "page size of the block is {got} bytes in the stream, but {want} were configured: correct the configured size or leave it out"
            ),
            Rule::OutOfTurn { state } => write!(f, "not allowed {state}"),
            Rule::NoReturnPath => {
                f.write_str("requires an answer, but OPEN_RETURN_PATH has not been sent")
            }
            Rule::InPackage => f.write_str("not allowed inside a package"),
            Rule::NotInPackage => f.write_str("only allowed inside a package"),
            Rule::PackageEnd => f.write_str("the package ends inside this item"),
            Rule::AfterRun { count } => write!(
                f,
                "POSTCOPY_RUN must be the last command of the package, but {count} bytes follow it"
            ),
            Rule::NoRun => f.write_str("the package ends without POSTCOPY_RUN"),
            Rule::AfterEnd => f.write_str("bytes follow the end of the stream"),
            Rule::Limit { got, limit } => {
                write!(f, "is {got}, but this reader accepts at most {limit}")
            }
            Rule::Flags { flags } => {
                write!(f, "flags {flags:#05x} do not identify a single RAM record")
            }
            Rule::Illegal { state } => write!(f, "not allowed {state}"),
            Rule::NoBlock => f.write_str(
                "the record continues the previous RAM block, but no earlier record of this channel names one",
            ),
            Rule::UnknownBlock => f.write_str("no RAM block has this name"),
            Rule::BlockTwice => f.write_str("the block list has two RAM blocks with this name"),
            Rule::PastTotal { len, left } => write!(
                f,
                "RAM block has {len} bytes, but only {left} remain of the announced total"
            ),
            Rule::PastBlock { start, len } => write!(
                f,
                "range from {start:#x} exceeds the RAM block, which has {len:#x} bytes"
            ),
            Rule::Misaligned { value, page } => {
                write!(f, "{value:#x} is not a multiple of the page size {page:#x}")
            }
            Rule::Fill { fill } => write!(
                f,
                "ZERO record fills the page with {fill:#04x}: only QEMU before 8.2 sends that, and this reader is not configured to accept it"
            ),
        }
    }
}

impl core::error::Error for Rule {}
