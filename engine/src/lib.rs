#![cfg_attr(feature = "uffd", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "uffd"),
    doc = "The postcopy page service of QEMU migrations: see README.md."
)]
#![deny(unsafe_code)]
// The policies in `protocol` that only the loops use.
#![cfg_attr(not(feature = "driver"), allow(dead_code, unused_imports))]
// They panic where an output is closed or full.
#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)
)]

#[cfg(all(feature = "driver", not(target_os = "linux")))]
compile_error!(
    "the features `driver` and `uffd` need Linux; the protocol cores build without them"
);

pub use retpath_codec as codec;

/// Builder-style setters of an option struct, whose fields document them.
macro_rules! setters {
    ($options:ident { $($field:ident: $type:ty),* $(,)? }) => {
        impl $options {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](field@Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "driver")]
#[allow(unsafe_code)]
pub mod memory;
pub mod protocol;
#[cfg(feature = "driver")]
pub mod socket;
#[cfg(feature = "uffd")]
#[allow(unsafe_code)]
pub mod uffd;

pub use protocol::{
    Channel, bits, blocks, destination, pages, release, source, stats, virtio_mem, zero,
};
