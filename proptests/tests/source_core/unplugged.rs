//! Unplugged memory, which a source does not send.

use std::collections::BTreeSet;

use retpath_engine::Channel;
use retpath_engine::blocks::Span;

use retpath_engine::source::{Config, Next, Preempt, SourcePhase};
use retpath_proptests::source::peer::Page;
use retpath_proptests::source::rig::Rig;

const HUGE: u64 = 65536;

/// After the switch, with two huge pages unplugged in the middle of the second block.
fn switched(preempt: Option<Preempt>) -> (Rig, BTreeSet<Page>) {
    let config = Config::new("pc-i440fx-10.0")
        .preempt(preempt)
        .unplugged(vec![Span {
            block: 1,
            offset: HUGE,
            len: 2 * HUGE,
        }]);
    let rig = Rig::switched(config, &[(300, 4096), (4, HUGE)]);
    let pages = (HUGE..3 * HUGE).step_by(4096).map(|offset| (1, offset));
    (rig, pages.collect())
}

#[test]
fn neither_discards_nor_sends_unplugged_memory() {
    for preempt in [None, Some(Preempt::Late)] {
        let (mut rig, unplugged) = switched(preempt);
        assert!(rig.peer.discarded.is_disjoint(&unplugged));
        assert_eq!(rig.source.remaining(), 300 * 4096 + 2 * HUGE);
        // As in QEMU, such a request gets no answer.
        rig.ask(1, HUGE, 65536).expect("valid request");
        assert_eq!(rig.source.stats().requests_dropped, 1);
        rig.run();
        assert!(rig.peer.ended);
        let missing: BTreeSet<Page> = rig.peer.missing().collect();
        assert_eq!(missing, unplugged);
    }
}

/// A QEMU that touches unplugged memory places zeros by itself and counts them as received.
#[test]
fn recovers_with_any_set_of_unplugged_pages_received() {
    for taken_over in [false, true] {
        let (mut rig, unplugged) = switched(None);
        let placed = unplugged.iter().filter(|(_, offset)| *offset < 2 * HUGE);
        rig.peer.received.extend(placed.copied());
        for _ in 0..3 {
            rig.step(Channel::Main);
        }
        rig.talk();
        rig.cut();
        if taken_over {
            rig.replace_source();
        }
        rig.resume();
        while rig.source.phase() != SourcePhase::Postcopy {
            assert_ne!(rig.step(Channel::Main), Next::Stop);
            rig.talk();
        }
        rig.run();
        assert!(rig.peer.ended);
        let missing: BTreeSet<Page> = rig.peer.missing().collect();
        let never: BTreeSet<Page> = unplugged
            .into_iter()
            .filter(|(_, offset)| *offset >= 2 * HUGE)
            .collect();
        assert_eq!(missing, never);
    }
}
