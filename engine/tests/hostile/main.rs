//! Hostile peers against both loops, over real sockets.
//!
//! Each test holds a [`Trial`](trial::Trial), which limits allocations and time. Each ends with a
//! complete migration by a well-behaved peer, in which every page is compared.

mod accept;
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
