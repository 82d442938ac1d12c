//! Attacks on the real command over real sockets: what they cost it at most. The caps are those of
//! SECURITY.md, which has the figures; no test depends on speed.
//!
//! By default the attacks are small. At full size, one after the other, with one line for each:
//!
//! ```text
//! cargo test --release -p retpath --test attacks -- --ignored --nocapture
//! ```
//!
//! `RETPATH_ATTACKED` names another build of the command, such as an older one, whose cost is printed
//! but not held to a cap.

mod cost;
mod floods;
mod serve;
mod strangers;

/// How much an attack sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Small,
    Full,
}

impl Size {
    /// Chooses a number of bytes, in MiB.
    fn mib(self, small: usize, full: usize) -> usize {
        (match self {
            Self::Small => small,
            Self::Full => full,
        }) << 20
    }
}

/// They are measured alone, so one test runs them all.
#[test]
#[ignore = "sends gigabytes; .ci/run runs it"]
fn attacks_at_full_size_stay_within_the_caps() {
    floods::discards(Size::Full, "0");
    // Slower: the memory is registered.
    floods::discards(Size::Small, "100");
    floods::pings(Size::Full);
    floods::idle_device_state(Size::Full);
    floods::device_state_beyond_the_limit(Size::Full);
    floods::blocks_by_name(Size::Full);
    floods::announced_blocks(Size::Full);
    serve::requests(Size::Full);
    serve::pongs(Size::Full);
    strangers::descriptors(Size::Full);
}
