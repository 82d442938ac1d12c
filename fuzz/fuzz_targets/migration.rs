//! Both cores, connected by an unreliable link.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_proptests::link::link(bytes));
