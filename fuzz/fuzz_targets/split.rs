//! Channels in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_codec::check::target::split(bytes));
