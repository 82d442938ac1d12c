//! Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.
//!
//! Valid messages from unstructured bytes, all kinds equally often.

use ::arbitrary::{Arbitrary, Result, Unstructured};

use super::{qemu, v7, command};
use crate::arbitrary as kind;

impl<'a, N: Arbitrary<'a>> Arbitrary<'a> for qemu::Message<N> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        match u.int_in_range(0..=6)? {
            0 => {
                let value = u.arbitrary()?;
                Ok(qemu::Message::Shut { value })
            }
            1 => {
                let value = u.arbitrary()?;
                Ok(qemu::Message::Pong { value })
            }
            2 => {
                let (start, len) = kind::span(u)?;
                let block = u.arbitrary()?;
                Ok(qemu::Message::ReqPagesId { start, len, block })
            }
            3 => {
                let (start, len) = kind::span(u)?;
                Ok(qemu::Message::ReqPages { start, len })
            }
            4 => {
                let block = u.arbitrary()?;
                Ok(qemu::Message::RecvBitmap { block })
            }
            5 => Ok(qemu::Message::ResumeAck),
            _ => Ok(qemu::Message::SwitchoverAck),
        }
    }
}

impl<'a, N: Arbitrary<'a>> Arbitrary<'a> for v7::Message<N> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        match u.int_in_range(0..=2)? {
            0 => {
                let value = u.arbitrary()?;
                Ok(v7::Message::Shut { value })
            }
            1 => {
                let value = u.arbitrary()?;
                Ok(v7::Message::Pong { value })
            }
            _ => {
                let (start, len) = kind::even_span(u)?;
                let block = u.arbitrary()?;
                Ok(v7::Message::ReqPages { start, len, block })
            }
        }
    }
}

impl<'a, N: Arbitrary<'a>, R: Arbitrary<'a>> Arbitrary<'a> for command::Command<N, R> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        match u.int_in_range(0..=10)? {
            0 => Ok(command::Command::OpenReturnPath),
            1 => {
                let value = u.arbitrary()?;
                Ok(command::Command::Ping { value })
            }
            2 => {
                let sizes = u.arbitrary()?;
                Ok(command::Command::PostcopyAdvise { sizes })
            }
            3 => Ok(command::Command::PostcopyListen),
            4 => Ok(command::Command::PostcopyRun),
            5 => {
                let block = u.arbitrary()?;
                let ranges = u.arbitrary()?;
                Ok(command::Command::PostcopyRamDiscard { block, ranges })
            }
            6 => {
                let size = u.arbitrary()?;
                Ok(command::Command::Packaged { size })
            }
            7 => Ok(command::Command::EnableColo),
            8 => Ok(command::Command::PostcopyResume),
            9 => {
                let block = u.arbitrary()?;
                Ok(command::Command::RecvBitmap { block })
            }
            _ => Ok(command::Command::SwitchoverStart),
        }
    }
}
