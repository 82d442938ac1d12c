//! The sinks of the serializers, and two combinators.
//!
//! cookie-factory inlines nothing and writes each field separately. In a plain
//! release build, writing a page request takes 2.67 times as long as with
//! hand-written code if `tuple` is cookie-factory's own, 1.28 times if fields are
//! not gathered by [`fixed`], and 1.08 times with the code here (`codec/bench`,
//! 90 % page requests).

use core::mem;
use std::io::{self, Write};

use cookie_factory::combinator::slice;
use cookie_factory::{GenError, GenResult, SerializeFn, WriteContext};

use crate::validate::Invalid;

/// The target of a serializer.
pub(crate) type Sink<W> = WriteContext<W>;

/// The sink after a successful write.
pub(crate) type Written<W> = Result<Sink<W>, Refused>;

/// The value is invalid, or the output buffer is too small.
#[derive(Debug)]
pub(crate) struct Refused;

impl From<Invalid> for Refused {
    #[inline(always)]
    fn from(_: Invalid) -> Self {
        Self
    }
}

impl From<GenError> for Refused {
    #[inline(always)]
    fn from(_: GenError) -> Self {
        Self
    }
}

/// The free part of a slice. Accepts a write wholly or not at all, so that its
/// size is known to the compiler: `&mut [u8]` accepts what fits, which makes every
/// write a `memcpy` of unknown size.
pub(crate) struct Room<'a>(pub(crate) &'a mut [u8]);

impl Write for Room<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some((to, rest)) = mem::take(&mut self.0).split_at_mut_checked(bytes.len()) else {
            return Ok(0);
        };
        to.copy_from_slice(bytes);
        self.0 = rest;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs serializers in order: cookie-factory's `tuple`.
#[inline(always)]
pub(crate) fn tuple<W>(list: impl Tuple<W>) -> impl SerializeFn<W> {
    move |out| list.serialize(out)
}

/// A list of serializers.
pub(crate) trait Tuple<W> {
    fn serialize(&self, out: Sink<W>) -> GenResult<W>;
}

macro_rules! tuples {
    ($first:ident $($rest:ident)*) => {
        impl<W, $first: SerializeFn<W>, $($rest: SerializeFn<W>),*> Tuple<W> for ($first, $($rest),*) {
            #[inline(always)]
            #[allow(non_snake_case, reason = "a serializer has the name of its type")]
            fn serialize(&self, out: Sink<W>) -> GenResult<W> {
                let ($first, $($rest),*) = self;
                let out = $first(out)?;
                $(let out = $rest(out)?;)*
                Ok(out)
            }
        }
        tuples!($($rest)*);
    };
    () => {};
}

tuples!(A B C D E F G H);

/// Gathers fields of `N` bytes in total and writes them at once.
#[inline(always)]
pub(crate) fn fixed<const N: usize, W: Write>(
    fields: impl Fn(Sink<Room<'_>>) -> GenResult<Room<'_>>,
) -> impl SerializeFn<W> {
    move |out| {
        let mut bytes = [0; N];
        fields(Sink::from(Room(&mut bytes)))?;
        slice(bytes)(out)
    }
}
