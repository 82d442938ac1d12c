//! Encoding and decoding of arbitrary messages, valid and invalid.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_codec::check::target::round_trip(bytes));
