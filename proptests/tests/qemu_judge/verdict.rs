//! A source's verdict on a return path: the accepted messages with their values,
//! and how reading ended.

use std::fmt;

/// An accepted message and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// SHUT with its value.
    Shut(u32),
    /// PONG with its value.
    Pong(u32),
    /// A page request, with or without a block name.
    Request {
        /// Whether the message carries the block name.
        named: bool,
        /// The block requested.
        block: Vec<u8>,
        /// First byte requested.
        start: u64,
        /// Number of bytes requested.
        len: u64,
    },
    /// RECV_BITMAP and its bitmap, for this block.
    Bitmap(Vec<u8>),
    /// RESUME_ACK.
    ResumeAck,
    /// SWITCHOVER_ACK.
    SwitchoverAck,
}

impl Accepted {
    /// Returns the message's label in the table.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Shut(_) => "SHUT",
            Self::Pong(_) => "PONG",
            Self::Request { named: true, .. } => "REQ_PAGES_ID",
            Self::Request { named: false, .. } => "REQ_PAGES",
            Self::Bitmap(_) => "RECV_BITMAP",
            Self::ResumeAck => "RESUME_ACK",
            Self::SwitchoverAck => "SWITCHOVER_ACK",
        }
    }
}

/// How a source stopped reading a return path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It accepted SHUT.
    Shut,
    /// It refused the message after the accepted ones, or that message is incomplete.
    Refused(Fault),
    /// It waits for more bytes.
    Open,
}

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Label of the message, or of the message that must be last; empty if
    /// unknown.
    pub(crate) label: &'static str,
    /// Name of the violated rule.
    pub(crate) rule: &'static str,
    /// Error text.
    pub(crate) why: String,
}

/// A source's verdict on a return path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) taken: Vec<Accepted>,
    pub(crate) end: End,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, accepted) in self.taken.iter().enumerate() {
            writeln!(f, "  {number}: {accepted:?}")?;
        }
        match &self.end {
            End::Refused(fault) => write!(f, "  then refuses: {}", fault.why),
            end => write!(f, "  then: {end:?}"),
        }
    }
}
