//! The frame decoder, compared with the oracle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_codec::check::target::oracle(bytes));
