//! The manifest parser, and the import of saved streams.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_proptests::image(bytes));
