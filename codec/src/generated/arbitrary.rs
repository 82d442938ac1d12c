//! Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.
//!
//! Valid messages from unstructured bytes, all kinds equally often.

use ::arbitrary::{Arbitrary, Result, Unstructured};

use super::{qemu, v7, command};
use crate::arbitrary as kind;

impl<'a, N: Arbitrary<'a>> Arbitrary<'a> for qemu::Message<N> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        match kind::number(u, 0..=6) {
            0 => u.arbitrary().map(|value| qemu::Message::Shut { value }),
            1 => u.arbitrary().map(|value| qemu::Message::Pong { value }),
            2 => {
                let (start, len) = kind::span(u);
                u.arbitrary().map(|block| qemu::Message::ReqPagesId { start, len, block })
            }
            3 => {
                let (start, len) = kind::span(u);
                Ok(qemu::Message::ReqPages { start, len })
            }
            4 => u.arbitrary().map(|block| qemu::Message::RecvBitmap { block }),
            5 => Ok(qemu::Message::ResumeAck),
            _ => Ok(qemu::Message::SwitchoverAck),
        }
    }
}

impl<'a, N: Arbitrary<'a>> Arbitrary<'a> for v7::Message<N> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        match kind::number(u, 0..=2) {
            0 => u.arbitrary().map(|value| v7::Message::Shut { value }),
            1 => u.arbitrary().map(|value| v7::Message::Pong { value }),
            _ => {
                let (start, len) = kind::even_span(u);
                u.arbitrary().map(|block| v7::Message::ReqPages { start, len, block })
            }
        }
    }
}

impl<'a, N: Arbitrary<'a>, R: Arbitrary<'a>> Arbitrary<'a> for command::Command<N, R> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        match kind::number(u, 0..=10) {
            0 => Ok(command::Command::OpenReturnPath),
            1 => u.arbitrary().map(|value| command::Command::Ping { value }),
            2 => u.arbitrary().map(|sizes| command::Command::PostcopyAdvise { sizes }),
            3 => Ok(command::Command::PostcopyListen),
            4 => Ok(command::Command::PostcopyRun),
            5 => {
                let block = u.arbitrary()?;
                u.arbitrary().map(|ranges| command::Command::PostcopyRamDiscard { block, ranges })
            }
            6 => u.arbitrary().map(|size| command::Command::Packaged { size }),
            7 => Ok(command::Command::EnableColo),
            8 => Ok(command::Command::PostcopyResume),
            9 => u.arbitrary().map(|block| command::Command::RecvBitmap { block }),
            _ => Ok(command::Command::SwitchoverStart),
        }
    }
}
