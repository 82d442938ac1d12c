//! Both cores, joined by a bad link.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_proptests::link::link(bytes));
