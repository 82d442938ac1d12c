//! Other parser libraries, following the same rules.

pub(crate) mod binrw;
pub(crate) mod deku;
mod owned;
pub(crate) mod winnow;
pub(crate) mod zero;

use retpath_codec::{Decoded, Dialect, Qemu};

use crate::contender::View;

/// What [`Parse::parse`](crate::contender::Parse::parse) returns for a message.
#[inline(always)]
fn decoded<M: View>(message: M, rest: &[u8]) -> Decoded<'_, M> {
    Decoded::Message {
        trailer: Qemu::trailer(&message.view()),
        message,
        rest,
    }
}
