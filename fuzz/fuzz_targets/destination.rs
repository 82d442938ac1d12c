//! The destination core: against its model, and against any events.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_proptests::destination::destination(bytes));
