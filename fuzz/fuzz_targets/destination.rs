//! The destination core, against its model and against a hostile source.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_proptests::destination::destination(bytes));
