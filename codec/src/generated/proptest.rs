//! Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.
//!
//! Strategies for valid messages, all kinds equally often.

use ::proptest::arbitrary::{Arbitrary, any};
use ::proptest::strategy::{BoxedStrategy, Just, Strategy, Union};

use super::{qemu, v7, command};
use crate::name::NameBuf;
use crate::proptest as kind;
use crate::ranges::{PageSizes, RangeBuf};

impl Arbitrary for qemu::Message<NameBuf> {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): Self::Parameters) -> Self::Strategy {
        Union::new([
            any::<u32>().prop_map(|value| qemu::Message::Shut { value }).boxed(),
            any::<u32>().prop_map(|value| qemu::Message::Pong { value }).boxed(),
            (kind::span(), any::<NameBuf>()).prop_map(|((start, len), block)| qemu::Message::ReqPagesId { start, len, block }).boxed(),
            kind::span().prop_map(|(start, len)| qemu::Message::ReqPages { start, len }).boxed(),
            any::<NameBuf>().prop_map(|block| qemu::Message::RecvBitmap { block }).boxed(),
            Just(qemu::Message::ResumeAck).boxed(),
            Just(qemu::Message::SwitchoverAck).boxed(),
        ])
        .boxed()
    }
}

impl Arbitrary for v7::Message<NameBuf> {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): Self::Parameters) -> Self::Strategy {
        Union::new([
            any::<u32>().prop_map(|value| v7::Message::Shut { value }).boxed(),
            any::<u32>().prop_map(|value| v7::Message::Pong { value }).boxed(),
            (kind::even_span(), any::<Option<NameBuf>>()).prop_map(|((start, len), block)| v7::Message::ReqPages { start, len, block }).boxed(),
        ])
        .boxed()
    }
}

impl Arbitrary for command::Command<NameBuf, RangeBuf> {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): Self::Parameters) -> Self::Strategy {
        Union::new([
            Just(command::Command::OpenReturnPath).boxed(),
            any::<u32>().prop_map(|value| command::Command::Ping { value }).boxed(),
            any::<Option<PageSizes>>().prop_map(|sizes| command::Command::PostcopyAdvise { sizes }).boxed(),
            Just(command::Command::PostcopyListen).boxed(),
            Just(command::Command::PostcopyRun).boxed(),
            (any::<NameBuf>(), any::<RangeBuf>()).prop_map(|(block, ranges)| command::Command::PostcopyRamDiscard { block, ranges }).boxed(),
            any::<u32>().prop_map(|size| command::Command::Packaged { size }).boxed(),
            Just(command::Command::EnableColo).boxed(),
            Just(command::Command::PostcopyResume).boxed(),
            any::<NameBuf>().prop_map(|block| command::Command::RecvBitmap { block }).boxed(),
            Just(command::Command::SwitchoverStart).boxed(),
        ])
        .boxed()
    }
}
