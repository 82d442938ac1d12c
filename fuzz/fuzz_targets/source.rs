//! The source core: against its model, and against any messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_proptests::source::source(bytes));
