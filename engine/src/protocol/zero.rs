//! Zero-page detection.
//!
//! Every page of a guest's RAM is examined once before it is sent, so this runs at
//! memory speed: chunks of 256 bytes are folded with OR, which the compiler turns into
//! vector loads, and the first chunk that is not zero ends the scan. Nothing here
//! fails, panics or allocates.

/// Bytes that are folded before the result is tested: long enough to amortize vector
/// loads, short enough to leave an ordinary page early.
const PIECE: usize = 256;

/// Whether all bytes are 0; true for an empty slice.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Most pages that are not zero differ in their first or last word.
    let ends = [bytes.first_chunk::<8>(), bytes.last_chunk::<8>()];
    if ends.into_iter().flatten().any(|end| *end != [0; 8]) {
        return false;
    }
    let (pieces, rest) = bytes.as_chunks::<PIECE>();
    pieces.iter().all(is_zero_piece) && rest.iter().all(|byte| *byte == 0)
}

#[inline(always)]
fn is_zero_piece(piece: &[u8; PIECE]) -> bool {
    let (words, _) = piece.as_chunks::<16>();
    let or = |sum, word: &[u8; 16]| sum | u128::from_ne_bytes(*word);
    words.iter().fold(0, or) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| *byte == 0)
    }

    #[test]
    fn detects_a_nonzero_byte_at_any_position() {
        let mut page = vec![0; 4096 + 300];
        for len in [0, 1, 7, 8, 9, 255, 256, 257, 4096] {
            for skip in [0, 1, 3] {
                assert!(
                    is_zero(&page[skip..skip + len]),
                    "{len} zero bytes at {skip}"
                );
            }
        }
        for at in 0..page.len() {
            for value in [1, 0x80] {
                page[at] = value;
                assert!(!is_zero(&page), "byte {at}");
                for skip in [0, 1, 5] {
                    let part = &page[skip..skip + 4096];
                    assert_eq!(is_zero(part), naive(part), "byte {at}, part from {skip}");
                }
            }
            page[at] = 0;
        }
    }

    #[test]
    fn detects_equal_nonzero_words() {
        let mut page = [0; 4096];
        page[2048..2048 + 32].fill(7);
        assert!(!is_zero(&page));
    }
}
