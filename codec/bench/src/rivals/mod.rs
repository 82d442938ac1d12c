//! Other parser libraries, following the same rules.

pub(crate) mod binrw;
pub(crate) mod deku;
mod owned;
pub(crate) mod winnow;
pub(crate) mod zero;
