//! `retpath decode` and its output.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_proptests::decode_cli(bytes));
