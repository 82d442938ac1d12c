//! Conversions between integers.

// Offsets in a stream are `u64`, lengths of slices `usize`.
const _: () = assert!(usize::BITS <= u64::BITS);

/// Converts a length to an offset; lossless because of the assertion above.
/// `From` is not `const`.
pub(crate) const fn wide(len: usize) -> u64 {
    len as u64
}

/// Returns the two big-endian 64-bit integers in 16 bytes.
pub(crate) const fn halves(bytes: [u8; 16]) -> (u64, u64) {
    let whole = u128::from_be_bytes(bytes);
    ((whole >> 64) as u64, whole as u64)
}
