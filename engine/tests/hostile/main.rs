//! Hostile peers against both loops, over real sockets.
//!
//! Each test is a [`Trial`](trial::Trial): it says how many bytes this process
//! may allocate on the way, and a watchdog ends it if it hangs. In the end a
//! good peer is served in full, with every page compared.

mod connections;
mod cut;
mod destinations;
mod drip;
mod lies;
mod order;
mod preempt;
mod replacements;
mod sender;
mod trial;

#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
