//! The forward decoder: main, resumed and preempt channels.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retpath_codec::check::target::forward(bytes));
