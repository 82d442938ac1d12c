//! Decoding of streams split at arbitrary positions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_codec::check::target::split(bytes));
