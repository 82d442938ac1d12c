//! Properties of a return path and its bitmaps.

use alloc::vec::Vec;
use core::iter;

use super::frame;
use super::frame::{Verdict, countdown};
use crate::bitmap;
use crate::error::{DecodeError, Rule};
use crate::frame::{Decoded, Dialect, Trailer, decode};
use crate::num::wide;
use crate::stream::{ItemBuf, Stream};

/// Checks all properties of a return path of dialect `D`, in one piece and in pieces
/// of `sizes` bytes. `limit` is the maximum size of bitmaps.
pub fn stream<D: Dialect>(bytes: &[u8], limit: u64, sizes: impl IntoIterator<Item = usize>) {
    split::<D>(bytes, limit, []);
    split::<D>(bytes, limit, sizes);
    let mut rest = bytes;
    while let Ok(Decoded::Message {
        trailer,
        rest: next,
        ..
    }) = decode::<D>(rest)
    {
        frame::<D>(rest);
        rest = next;
        if trailer == Trailer::Bitmap {
            self::trailer(rest, limit);
            let Ok(Decoded::Message { rest: next, .. }) = bitmap::decode(rest, limit) else {
                return;
            };
            rest = next;
        }
    }
    frame::<D>(rest);
}

/// Checks all properties of bytes that may start with a bitmap of at most `limit`
/// bytes.
pub fn trailer(bytes: &[u8], limit: u64) {
    let mut longest = bytes.len();
    if let Ok(Decoded::Message { message, rest, .. }) = bitmap::decode(bytes, limit) {
        longest -= rest.len();
        let whole = &bytes[..bytes.len() - rest.len()];
        let mut out = Vec::new();
        assert_eq!(bitmap::encode(message, &mut out), Ok(()));
        assert_eq!(out, whole);
        let mut written = Vec::new();
        assert!(bitmap::encode_to(message, &mut written).is_ok());
        assert_eq!(written, whole);
        assert!(message.bits() / 8 <= limit);
        let set = (0..message.bits() + 64).filter(|page| message.is_received(*page));
        assert_eq!(wide(set.count()), message.received());
        assert_eq!(message.check(message.bits()), Ok(()));
    }
    countdown(&bytes[..longest], |bytes| {
        match bitmap::decode(bytes, limit) {
            Ok(Decoded::Need(need)) => Verdict::Need(need),
            Ok(Decoded::Message { message, rest, .. }) => {
                Verdict::Message(bytes.len() - rest.len(), Vec::from(message.as_bytes()))
            }
            Err(error) => Verdict::Refused(error),
        }
    });
}

/// Checks that a stream yields the same items in pieces of `sizes` bytes as `decode`
/// on all bytes.
pub fn split<D: Dialect>(bytes: &[u8], limit: u64, sizes: impl IntoIterator<Item = usize>) {
    let mut stream = Stream::<D>::new(limit);
    let mut items = Vec::new();
    let mut rest = bytes;
    let mut error = None;
    let whole = iter::once(usize::MAX);
    for size in sizes.into_iter().chain(whole) {
        let (mut now, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        loop {
            match stream.next_owned(&mut now) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(found) => {
                    error = Some(found);
                    break;
                }
            }
        }
        if error.is_some() {
            break;
        }
        assert!(now.is_empty(), "bytes left behind: {now:02x?}");
        assert_eq!(stream.offset(), wide(bytes.len() - rest.len()));
    }
    if let Some(error) = error {
        for mut more in [&[][..], &[0; 64], bytes] {
            assert_eq!(
                stream.next_owned(&mut more),
                Err(error),
                "forgets its error"
            );
        }
        assert_eq!(stream.offset(), error.offset);
    }
    let end = stream.finish();
    assert!(error.is_none_or(|error| end == Err(error)));
    let mut whole = Vec::new();
    assert_eq!(end, read_all::<D>(bytes, limit, &mut whole));
    assert_eq!(items, whole);
}

/// Decodes a complete return path with `decode`.
fn read_all<D: Dialect>(
    bytes: &[u8],
    limit: u64,
    items: &mut Vec<ItemBuf<D::Owned>>,
) -> Result<(), DecodeError> {
    let at = |rest: &[u8]| wide(bytes.len() - rest.len());
    let error = |message, rest: &[u8], rule| DecodeError::new(at(rest), message, None, rule);
    let mut rest = bytes;
    while !rest.is_empty() {
        let offset = at(rest);
        let (message, trailer) = match decode::<D>(rest).map_err(|error| error.based(offset))? {
            Decoded::Message {
                message,
                trailer,
                rest: next,
            } => {
                rest = next;
                (message, trailer)
            }
            Decoded::Need(need) => {
                let have = rest.len();
                return Err(error(None, rest, Rule::CutShort { have, need }));
            }
        };
        items.push(ItemBuf::Message {
            offset,
            message: D::into_owned(message),
        });

        let offset = at(rest);
        match trailer {
            Trailer::None | Trailer::Package(_) => {}
            Trailer::End if rest.is_empty() => {}
            Trailer::End => return Err(error(None, rest, Rule::AfterShut)),
            Trailer::Bitmap => {
                match bitmap::decode(rest, limit).map_err(|error| error.based(offset))? {
                    Decoded::Message {
                        message,
                        rest: next,
                        ..
                    } => {
                        rest = next;
                        let bytes = message.as_bytes().into();
                        items.push(ItemBuf::Bitmap { offset, bytes });
                    }
                    Decoded::Need(need) => {
                        let have = rest.len();
                        let message = Some(bitmap::LABEL);
                        return Err(error(message, rest, Rule::CutShort { have, need }));
                    }
                }
            }
        }
    }
    Ok(())
}
