//! What the contenders have in common. Those that can borrow from their input
//! make the codec's own [`Message`] with its [`Name`], and so check names alike:
//! what differs is how bytes become messages.

use std::fmt::Debug;

use retpath_codec::{Decoded, Dialect, Message, Name, Qemu};

/// What [`Parse::parse`] gives: a message and what follows it, or how many
/// bytes are missing at least.
pub(crate) type Parsed<'a, P> = Result<Decoded<'a, <P as Parse>::Message<'a>>, <P as Parse>::Error>;

/// One way to read the return path. Every contender pays one call for each
/// message: what is inlined into the loop around it would be the compiler's
/// choice, not the contender's.
pub(crate) trait Parse {
    const NAME: &'static str;
    type Message<'a>: View;
    type Error: Debug;

    /// One message from the front of `input`.
    fn parse(input: &[u8]) -> Parsed<'_, Self>;
}

/// One way to write it.
pub(crate) trait Write: Parse {
    type Refusal: Debug;

    /// A page request with these fields, checked or not.
    fn request(start: u64, len: u32) -> Self::Message<'static>;

    /// Appends a message; a value that a receiver would refuse is refused.
    fn encode(message: &Self::Message<'_>, out: &mut Vec<u8>) -> Result<(), Self::Refusal>;
}

/// One way to write it to a slice.
pub(crate) trait WriteSlice: Write {
    /// Writes a message to the front of `out`: how many bytes it took.
    fn encode_into(message: &Self::Message<'_>, out: &mut [u8]) -> Result<usize, Self::Refusal>;
}

/// Shows any contender's message in the codec's form.
pub(crate) trait View {
    fn view(&self) -> Message<Name<'_>>;
}

impl View for Message<Name<'_>> {
    fn view(&self) -> Message<Name<'_>> {
        *self
    }
}

/// What [`Parse::parse`] returns for a message.
#[inline(always)]
pub(crate) fn decoded<M: View>(message: M, rest: &[u8]) -> Decoded<'_, M> {
    Decoded::Message {
        trailer: Qemu::trailer(&message.view()),
        message,
        rest,
    }
}
