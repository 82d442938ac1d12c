//! Written by `cargo rp-gen` from spec/src/table. Edit the table, not this file.
//!
//! Messages for serde, by their labels. What is no valid message is refused.

use ::serde::de::{Deserialize, Deserializer, Error};
use ::serde::ser::{Serialize, Serializer};

use super::{qemu, v7, command};
use crate::name::BlockName;
use crate::ranges::{PageSizes, RangeList};

#[derive(::serde::Serialize, ::serde::Deserialize)]
#[serde(rename = "Message", deny_unknown_fields)]
enum QemuMirror<N> {
    #[serde(rename = "SHUT")]
    Shut { value: u32 },
    #[serde(rename = "PONG")]
    Pong { value: u32 },
    #[serde(rename = "REQ_PAGES_ID")]
    ReqPagesId { start: u64, len: u32, block: N },
    #[serde(rename = "REQ_PAGES")]
    ReqPages { start: u64, len: u32 },
    #[serde(rename = "RECV_BITMAP")]
    RecvBitmap { block: N },
    #[serde(rename = "RESUME_ACK")]
    ResumeAck,
    #[serde(rename = "SWITCHOVER_ACK")]
    SwitchoverAck,
}

impl<N: Serialize> Serialize for qemu::Message<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mirror = match self {
            qemu::Message::Shut { value } => QemuMirror::Shut { value: *value },
            qemu::Message::Pong { value } => QemuMirror::Pong { value: *value },
            qemu::Message::ReqPagesId { start, len, block } => QemuMirror::ReqPagesId { start: *start, len: *len, block },
            qemu::Message::ReqPages { start, len } => QemuMirror::ReqPages { start: *start, len: *len },
            qemu::Message::RecvBitmap { block } => QemuMirror::RecvBitmap { block },
            qemu::Message::ResumeAck => QemuMirror::ResumeAck,
            qemu::Message::SwitchoverAck => QemuMirror::SwitchoverAck,
        };
        mirror.serialize(to)
    }
}

impl<'de, N: BlockName + Deserialize<'de>> Deserialize<'de> for qemu::Message<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let message = match QemuMirror::<N>::deserialize(from)? {
            QemuMirror::Shut { value } => qemu::Message::Shut { value },
            QemuMirror::Pong { value } => qemu::Message::Pong { value },
            QemuMirror::ReqPagesId { start, len, block } => qemu::Message::ReqPagesId { start, len, block },
            QemuMirror::ReqPages { start, len } => qemu::Message::ReqPages { start, len },
            QemuMirror::RecvBitmap { block } => qemu::Message::RecvBitmap { block },
            QemuMirror::ResumeAck => qemu::Message::ResumeAck,
            QemuMirror::SwitchoverAck => qemu::Message::SwitchoverAck,
        };
        message.check().map_err(D::Error::custom)?;
        Ok(message)
    }
}

#[derive(::serde::Serialize, ::serde::Deserialize)]
#[serde(rename = "Message", deny_unknown_fields)]
enum V7Mirror<N> {
    #[serde(rename = "SHUT")]
    Shut { value: u32 },
    #[serde(rename = "PONG")]
    Pong { value: u32 },
    #[serde(rename = "REQ_PAGES")]
    ReqPages { start: u64, len: u64, block: Option<N> },
}

impl<N: Serialize> Serialize for v7::Message<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mirror = match self {
            v7::Message::Shut { value } => V7Mirror::Shut { value: *value },
            v7::Message::Pong { value } => V7Mirror::Pong { value: *value },
            v7::Message::ReqPages { start, len, block } => V7Mirror::ReqPages { start: *start, len: *len, block: block.as_ref() },
        };
        mirror.serialize(to)
    }
}

impl<'de, N: BlockName + Deserialize<'de>> Deserialize<'de> for v7::Message<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let message = match V7Mirror::<N>::deserialize(from)? {
            V7Mirror::Shut { value } => v7::Message::Shut { value },
            V7Mirror::Pong { value } => v7::Message::Pong { value },
            V7Mirror::ReqPages { start, len, block } => v7::Message::ReqPages { start, len, block },
        };
        message.check().map_err(D::Error::custom)?;
        Ok(message)
    }
}

#[derive(::serde::Serialize, ::serde::Deserialize)]
#[serde(rename = "Command", deny_unknown_fields)]
enum CommandsMirror<N, R> {
    #[serde(rename = "OPEN_RETURN_PATH")]
    OpenReturnPath,
    #[serde(rename = "PING")]
    Ping { value: u32 },
    #[serde(rename = "POSTCOPY_ADVISE")]
    PostcopyAdvise { sizes: Option<PageSizes> },
    #[serde(rename = "POSTCOPY_LISTEN")]
    PostcopyListen,
    #[serde(rename = "POSTCOPY_RUN")]
    PostcopyRun,
    #[serde(rename = "POSTCOPY_RAM_DISCARD")]
    PostcopyRamDiscard { block: N, ranges: R },
    #[serde(rename = "PACKAGED")]
    Packaged { size: u32 },
    #[serde(rename = "ENABLE_COLO")]
    EnableColo,
    #[serde(rename = "POSTCOPY_RESUME")]
    PostcopyResume,
    #[serde(rename = "RECV_BITMAP")]
    RecvBitmap { block: N },
    #[serde(rename = "SWITCHOVER_START")]
    SwitchoverStart,
}

impl<N: Serialize, R: Serialize> Serialize for command::Command<N, R> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mirror = match self {
            command::Command::OpenReturnPath => CommandsMirror::OpenReturnPath,
            command::Command::Ping { value } => CommandsMirror::Ping { value: *value },
            command::Command::PostcopyAdvise { sizes } => CommandsMirror::PostcopyAdvise { sizes: *sizes },
            command::Command::PostcopyListen => CommandsMirror::PostcopyListen,
            command::Command::PostcopyRun => CommandsMirror::PostcopyRun,
            command::Command::PostcopyRamDiscard { block, ranges } => CommandsMirror::PostcopyRamDiscard { block, ranges },
            command::Command::Packaged { size } => CommandsMirror::Packaged { size: *size },
            command::Command::EnableColo => CommandsMirror::EnableColo,
            command::Command::PostcopyResume => CommandsMirror::PostcopyResume,
            command::Command::RecvBitmap { block } => CommandsMirror::RecvBitmap { block },
            command::Command::SwitchoverStart => CommandsMirror::SwitchoverStart,
        };
        mirror.serialize(to)
    }
}

impl<'de, N: BlockName + Deserialize<'de>, R: RangeList + Deserialize<'de>> Deserialize<'de> for command::Command<N, R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let message = match CommandsMirror::<N, R>::deserialize(from)? {
            CommandsMirror::OpenReturnPath => command::Command::OpenReturnPath,
            CommandsMirror::Ping { value } => command::Command::Ping { value },
            CommandsMirror::PostcopyAdvise { sizes } => command::Command::PostcopyAdvise { sizes },
            CommandsMirror::PostcopyListen => command::Command::PostcopyListen,
            CommandsMirror::PostcopyRun => command::Command::PostcopyRun,
            CommandsMirror::PostcopyRamDiscard { block, ranges } => command::Command::PostcopyRamDiscard { block, ranges },
            CommandsMirror::Packaged { size } => command::Command::Packaged { size },
            CommandsMirror::EnableColo => command::Command::EnableColo,
            CommandsMirror::PostcopyResume => command::Command::PostcopyResume,
            CommandsMirror::RecvBitmap { block } => command::Command::RecvBitmap { block },
            CommandsMirror::SwitchoverStart => command::Command::SwitchoverStart,
        };
        message.check().map_err(D::Error::custom)?;
        Ok(message)
    }
}
