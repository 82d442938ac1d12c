//! The loop of a source over simulated connections.
#![no_main]

use retpath_proptests::drivers;

#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    drivers::bounded(&ALLOCATED, || drivers::serve(bytes));
});
