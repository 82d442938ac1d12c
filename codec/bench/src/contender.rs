//! The interface of the contenders. Those that borrow from their input produce the
//! codec's [`Message`] with its [`Name`], so that all check names in the same way.

use std::fmt::Debug;

use retpath_codec::{Decoded, Message, Name};

/// The result of [`Parse::parse`]: a message and the rest of the input, or the
/// minimum number of missing bytes.
pub(crate) type Parsed<'a, P> = Result<Decoded<'a, <P as Parse>::Message<'a>>, <P as Parse>::Error>;

/// A parser of the return path. Must not be inlined, so that every contender pays
/// for one call per message.
pub(crate) trait Parse {
    const NAME: &'static str;
    type Message<'a>: View;
    type Error: Debug;

    /// Parses one message from the start of `input`.
    fn parse(input: &[u8]) -> Parsed<'_, Self>;
}

/// A writer of the return path.
pub(crate) trait Write: Parse {
    type Refusal: Debug;

    /// Makes a page request; the fields need not be checked.
    fn request(start: u64, len: u32) -> Self::Message<'static>;

    /// Appends a message; refuses a value that a receiver would refuse.
    fn encode(message: &Self::Message<'_>, out: &mut Vec<u8>) -> Result<(), Self::Refusal>;
}

/// A writer to a slice.
pub(crate) trait WriteSlice: Write {
    /// Writes a message to the start of `out` and returns its size.
    fn encode_into(message: &Self::Message<'_>, out: &mut [u8]) -> Result<usize, Self::Refusal>;
}

/// Converts a contender's message to that of the codec.
pub(crate) trait View {
    fn view(&self) -> Message<Name<'_>>;
}

impl View for Message<Name<'_>> {
    fn view(&self) -> Message<Name<'_>> {
        *self
    }
}
