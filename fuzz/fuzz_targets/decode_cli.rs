//! `retpath decode`, printing included.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_engine::check::decode_cli(bytes));
