//! What a source makes of a return path: the messages that it takes, with
//! their values, and how it ends.

use std::fmt;

/// A message that was taken, with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// SHUT with its value.
    Shut(u32),
    /// PONG with its value.
    Pong(u32),
    /// A request for pages, named or not.
    Request {
        /// Whether the message has the block's name.
        named: bool,
        /// The block that it means.
        block: Vec<u8>,
        /// First byte wanted.
        start: u64,
        /// How much is wanted, in bytes.
        len: u64,
    },
    /// RECV_BITMAP and the bitmap of this block.
    Bitmap(Vec<u8>),
    /// RESUME_ACK.
    ResumeAck,
    /// SWITCHOVER_ACK.
    SwitchoverAck,
}

impl Said {
    /// The message's label in the table.
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

/// How a source leaves a return path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It took SHUT.
    Shut,
    /// The message behind those that it took is no good, or not all there.
    Refused(Fault),
    /// It waits for more.
    Open,
}

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Label of the message, or of the one that must be the last; empty if
    /// there is none such.
    pub(crate) label: &'static str,
    /// Name of the rule.
    pub(crate) rule: &'static str,
    /// In words.
    pub(crate) why: String,
}

/// What a source makes of a return path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) taken: Vec<Said>,
    pub(crate) end: End,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, said) in self.taken.iter().enumerate() {
            writeln!(f, "  {number}: {said:?}")?;
        }
        match &self.end {
            End::Refused(fault) => write!(f, "  then refuses: {}", fault.why),
            end => write!(f, "  then: {end:?}"),
        }
    }
}
