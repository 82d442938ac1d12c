//! This codec.

use retpath_codec::{self as codec, DecodeError, Encode, EncodeError, Message, Name, Qemu};

use crate::contender::{Parse, Parsed, Write, WriteSlice};

pub(crate) struct Ours;

impl Parse for Ours {
    const NAME: &'static str = "retpath-codec";
    type Message<'a> = Message<Name<'a>>;
    type Error = DecodeError;

    #[inline(never)]
    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        codec::decode::<Qemu>(input)
    }
}

impl Write for Ours {
    type Refusal = EncodeError;

    fn request(start: u64, len: u32) -> Self::Message<'static> {
        Message::ReqPages { start, len }
    }

    #[inline(never)]
    fn encode(message: &Self::Message<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        message.encode(out)
    }
}

impl WriteSlice for Ours {
    #[inline(never)]
    fn encode_into(message: &Self::Message<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
        message.encode_into(out)
    }
}
