//! Properties of the forward decoder on streams of this engine's source: first
//! channels, resumed channels and preempt channels.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;
use retpath_codec::check;
use retpath_proptests::config;
use retpath_proptests::guest::{Migration, Observer, setups, steps};
use retpath_proptests::link::Wire;

/// Records everything sent forward.
#[derive(Debug)]
struct Recorder {
    /// Main and preempt channel of each link, in order.
    channels: Vec<[Vec<u8>; 2]>,
}

impl Observer for Recorder {
    fn sent(&mut self, wire: Wire, bytes: &[u8]) {
        let [main, preempt] = self
            .channels
            .last_mut()
            .expect("there is at least one link");
        match wire {
            Wire::Main => main.extend(bytes),
            Wire::Preempt => preempt.extend(bytes),
            Wire::Back => {}
        }
    }

    fn delivered(&mut self, _: Wire, _: &[u8]) {}

    fn link_lost(&mut self) {
        self.channels.push(Default::default());
    }
}

/// Generates a recorded channel of a migration.
fn channels() -> impl Strategy<Value = Vec<u8>> {
    let migrations = (setups(), steps(true), any::<Index>());
    migrations.prop_filter_map("the channel is empty", |(setup, steps, which)| {
        let channels = vec![Default::default()];
        let mut guest = Migration::new(&setup, Recorder { channels });
        guest.run(&steps);
        let all = guest.observer.channels.into_iter().flatten();
        let all: Vec<_> = all.filter(|channel| !channel.is_empty()).collect();
        (!all.is_empty()).then(|| all[which.index(all.len())].clone())
    })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..9_usize, 1..3000_usize], 1..40)
}

proptest! {
    #![proptest_config(Config {
        cases: config("").cases / 4,
        ..config("proptest-regressions/forward.txt")
    })]

    #[test]
    fn decodes_channels_alike_in_any_pieces(channel in channels(), sizes in sizes()) {
        check::split_forward(&channel, sizes);
        check::forward(&channel);
    }

    #[test]
    fn decodes_mutated_channels_alike_in_any_pieces(
        channel in channels(),
        edits in vec((any::<Index>(), any::<u8>()), 1..4),
        len in any::<Index>(),
        sizes in sizes(),
    ) {
        let mut channel = channel;
        for (at, byte) in edits {
            // Most structure is at the start of a channel.
            let reach = channel.len().min(if byte % 2 == 0 { 300 } else { usize::MAX });
            let at = at.index(reach);
            channel[at] = byte;
        }
        channel.truncate(len.index(channel.len()) + 1);
        check::split_forward(&channel, sizes);
    }
}
