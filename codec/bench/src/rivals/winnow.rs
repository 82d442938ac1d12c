//! winnow: its combinators, over the payload cut to its length. It has no
//! serializer.

use retpath_codec::{Decoded, Message, Name};
use winnow::binary::{be_u16, be_u32, be_u64, length_take};
use winnow::combinator::eof;
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::token::take;

use retpath_codec_hand::{Bad, bad, span};

use crate::contender::{Parse, Parsed};
use crate::rivals::decoded;

pub(crate) struct Winnow;

type Input<'a> = &'a [u8];
type Result<T> = winnow::Result<T, EmptyError>;

impl Parse for Winnow {
    const NAME: &'static str = "winnow";
    type Message<'a> = Message<Name<'a>>;
    type Error = Bad;

    #[inline(never)]
    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        let mut rest = input;
        let Ok((number, len)) = header(&mut rest) else {
            return Ok(Decoded::Need(4 - input.len()));
        };
        let (min, max) = match number {
            1 | 2 | 6 => (4, 4),
            3 => (14, 268),
            4 => (12, 12),
            5 => (2, 256),
            7 => (0, 0),
            _ => return bad(0, "number"),
        };
        let len = usize::from(len);
        if len < min || len > max {
            return bad(2, "length");
        }
        let body = rest.len();
        let Ok(mut payload) = payload(len, &mut rest) else {
            return Ok(Decoded::Need(len - body));
        };
        let payload = &mut payload;
        let parsed = match number {
            1 => ends(be_u32.map(|value| Message::Shut { value }), payload),
            2 => ends(be_u32.map(|value| Message::Pong { value }), payload),
            3 => ends(named_request, payload),
            4 => ends(
                request.map(|(start, len)| Message::ReqPages { start, len }),
                payload,
            ),
            5 => ends(name.map(|block| Message::RecvBitmap { block }), payload),
            6 => ends(
                be_u32.verify(|&value| value == 1).value(Message::ResumeAck),
                payload,
            ),
            _ => ends(
                winnow::combinator::empty.value(Message::SwitchoverAck),
                payload,
            ),
        };
        match parsed {
            Ok(message) => Ok(decoded(message, rest)),
            Err(_) => bad(4, "payload"),
        }
    }
}

#[inline(always)]
fn header(input: &mut Input<'_>) -> Result<(u16, u16)> {
    (be_u16, be_u16).parse_next(input)
}

#[inline(always)]
fn payload<'a>(len: usize, input: &mut Input<'a>) -> Result<Input<'a>> {
    take(len).parse_next(input)
}

/// Runs a parser that must consume the whole payload.
#[inline(always)]
fn ends<'a>(
    mut parser: impl Parser<Input<'a>, Message<Name<'a>>, EmptyError>,
    payload: &mut Input<'a>,
) -> Result<Message<Name<'a>>> {
    let message = parser.parse_next(payload)?;
    eof.parse_next(payload)?;
    Ok(message)
}

#[inline(always)]
fn request(input: &mut Input<'_>) -> Result<(u64, u32)> {
    (be_u64, be_u32)
        .verify(|&(start, len)| span(start, len))
        .parse_next(input)
}

#[inline(always)]
fn named_request<'a>(input: &mut Input<'a>) -> Result<Message<Name<'a>>> {
    let ((start, len), block) = (request, name).parse_next(input)?;
    Ok(Message::ReqPagesId { start, len, block })
}

#[inline(always)]
fn name<'a>(input: &mut Input<'a>) -> Result<Name<'a>> {
    length_take(winnow::binary::u8)
        .verify_map(|bytes| Name::new(bytes).ok())
        .parse_next(input)
}
