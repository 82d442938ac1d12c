//! The hand-written baseline, in a separate crate.

use retpath_codec::{Message, Name};
use retpath_codec_hand::{self as hand, Bad};

use crate::contender::{Parse, Parsed, Write, WriteSlice};

pub(crate) struct Hand;

impl Parse for Hand {
    const NAME: &'static str = "hand-written";
    type Message<'a> = Message<Name<'a>>;
    type Error = Bad;

    #[inline(never)]
    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        hand::decode(input)
    }
}

impl Write for Hand {
    type Refusal = Bad;

    fn request(start: u64, len: u32) -> Self::Message<'static> {
        Message::ReqPages { start, len }
    }

    #[inline(never)]
    fn encode(message: &Self::Message<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
        hand::encode(message, out)
    }
}

impl WriteSlice for Hand {
    #[inline(never)]
    fn encode_into(message: &Self::Message<'_>, out: &mut [u8]) -> Result<usize, Bad> {
        hand::encode_into(message, out)
    }
}
