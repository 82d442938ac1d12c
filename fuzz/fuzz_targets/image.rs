//! Manifests, and saved streams that become images.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_proptests::image(bytes));
