//! Preconditions of the switch and of the end.

use retpath_codec::Message;
use retpath_codec::wire::value::PING_PACKAGE_LOADED;

use retpath_engine::Channel;

use super::service::{config, late, pages};
use retpath_engine::source::{Error, Next, Preempt, SourcePhase};
use retpath_proptests::source::rig::Rig;

#[test]
fn the_switch_waits_for_everything_that_is_configured() {
    let config = late().switchover_ack(true);
    let mut rig = Rig::new(config, &[(20, 4096)]);
    assert_eq!(rig.step(Channel::Main), Next::Write);
    rig.source.switch(Vec::new()).expect("in precopy");
    assert_eq!(
        rig.step(Channel::Main),
        Next::Wait { until: None },
        "no PONG"
    );
    rig.say(Message::Pong { value: 1 }).expect("valid answer");
    let mut out = Vec::new();
    assert_eq!(rig.source.next(Channel::Main, 0, &mut out), Next::Connect);
    assert_eq!(
        rig.step(Channel::Main),
        Next::Wait { until: None },
        "no preempt channel"
    );
    rig.source.preempt_connected(rig.now).expect("wanted");
    assert_eq!(
        rig.step(Channel::Main),
        Next::Wait { until: None },
        "no SWITCHOVER_ACK"
    );
    assert!(!rig.source.guest_left());
    rig.say(Message::SwitchoverAck).expect("awaited");
    assert_eq!(rig.step(Channel::Main), Next::Write);
    assert!(rig.source.guest_left());
    rig.finish();
}

#[test]
fn is_ready_to_switch_when_a_switch_is_possible_and_made_at_once() {
    for preempt in [None, Some(Preempt::Early), Some(Preempt::Late)] {
        for (probe, switchover_ack) in [(false, false), (true, false), (true, true)] {
            let config = config()
                .preempt(preempt)
                .probe(probe)
                .switchover_ack(switchover_ack);
            let mut rig = Rig::new(config, &[(20, 4096)]);
            assert!(!rig.source.is_ready_to_switch(), "fresh");
            assert!(rig.source.switch(Vec::new()).is_err(), "fresh");
            if switchover_ack {
                rig.step(Channel::Main);
                rig.step(Channel::Main);
                rig.say(Message::SwitchoverAck).expect("good");
            }
            let ready = (0..20).any(|_| {
                rig.step(Channel::Main);
                rig.talk();
                rig.now += 100_000_000;
                rig.source.is_ready_to_switch()
            });
            assert!(ready, "{preempt:?}, {probe}");
            rig.source.switch(Vec::new()).expect("ready");
            assert!(!rig.source.is_ready_to_switch(), "switching");
            assert_eq!(rig.step(Channel::Main), Next::Write);
            assert!(rig.source.guest_left());
            rig.finish();
        }
    }
}

#[test]
fn connects_an_early_preempt_channel_before_anything_else() {
    let config = config().preempt(Some(Preempt::Early));
    let mut rig = Rig::new(config, &[(20, 4096)]);
    assert_eq!(rig.step(Channel::Main), Next::Connect);
    assert_eq!(rig.step(Channel::Main), Next::Write);
    rig.source.switch(Vec::new()).expect("in precopy");
    rig.finish();
}

#[test]
fn ends_only_when_the_device_state_is_loaded() {
    let config = config().ping_loaded(true);
    let mut rig = Rig::new(config, &[(20, 4096)]);
    rig.start();
    rig.source.switch(Vec::new()).expect("in precopy");
    rig.say(Message::Pong {
        value: PING_PACKAGE_LOADED,
    })
    .expect("accepted");
    assert!(!rig.source.is_loaded(), "no PING has been sent");
    while rig.source.remaining() > 0 {
        rig.step(Channel::Main);
    }
    assert_eq!(rig.step(Channel::Main), Next::Wait { until: None });
    assert_eq!(rig.source.phase(), SourcePhase::Postcopy);
    rig.say(Message::Pong {
        value: PING_PACKAGE_LOADED,
    })
    .expect("the answer");
    assert_eq!(rig.step(Channel::Main), Next::Write);
    assert_eq!(rig.source.phase(), SourcePhase::Completing);
}

#[test]
fn ends_only_when_the_preempt_channel_is_idle() {
    let mut rig = Rig::switched(late(), &[(1, 4096)]);
    rig.ask(0, 0, 4096).expect("valid request");
    assert_eq!(pages(rig.step(Channel::Preempt)), (true, 0, 0, 1));
    assert_eq!(
        rig.step(Channel::Main),
        Next::Wait { until: None },
        "may not be written yet"
    );
    assert_eq!(rig.step(Channel::Preempt), Next::Wait { until: None });
    assert_eq!(rig.step(Channel::Main), Next::Write);
    rig.finish();
}

#[test]
fn discards_a_page_even_if_none_is_dirty() {
    let mut rig = Rig::new(config(), &[(20, 4096)]);
    rig.start();
    while rig.source.remaining() > 0 {
        rig.step(Channel::Main);
    }
    assert_eq!(
        rig.step(Channel::Main),
        Next::Wait { until: None },
        "a round is over"
    );
    rig.source
        .mark_dirty(0, 0, 20 * 4096)
        .expect("inside the block");
    while rig.source.remaining() > 0 {
        rig.step(Channel::Main);
    }
    rig.source.switch(Vec::new()).expect("in precopy");
    rig.finish();
    assert_eq!(rig.peer.discarded.len(), 1);
    assert_eq!(rig.source.stats().precopy, 40);
}

#[test]
fn names_the_block_again_after_the_switch() {
    let mut rig = Rig::new(config(), &[(40, 4096)]);
    rig.start();
    rig.step(Channel::Main);
    rig.source.switch(Vec::new()).expect("in precopy");
    rig.finish();
    let named: Vec<_> = rig
        .peer
        .named
        .iter()
        .map(|(_, page)| page.1 / 4096)
        .collect();
    assert_eq!(named, [0, 16]);
}

#[test]
fn refuses_calls_in_the_wrong_phase() {
    let mut rig = Rig::new(config(), &[(20, 4096)]);
    assert!(
        rig.source.switch(Vec::new()).is_err(),
        "nothing has been sent"
    );
    assert!(rig.source.resume(rig.now).is_err());
    assert!(rig.source.preempt_connected(rig.now).is_err());
    rig.start();
    assert!(
        rig.source.mark_dirty(0, 19 * 4096, 4097).is_err(),
        "passes the end"
    );
    assert!(rig.source.mark_dirty(1, 0, 1).is_err(), "no such block");
    rig.source.switch(Vec::new()).expect("in precopy");
    assert!(rig.source.switch(Vec::new()).is_err(), "twice");
    assert!(
        rig.source.mark_dirty(0, 0, 1).is_err(),
        "the guest has stopped"
    );
    rig.finish();
    assert_eq!(rig.step(Channel::Main), Next::Stop);
    assert_eq!(rig.step(Channel::Preempt), Next::Stop);
    assert_eq!(rig.source.link_lost(), Ok(()));
    assert_eq!(rig.source.phase(), SourcePhase::Completed);
}

#[test]
fn refuses_a_device_state_that_exceeds_a_package() {
    let mut rig = Rig::new(config(), &[(1, 4096)]);
    rig.start();
    // Zeros that are never touched need no memory.
    let refused = rig.source.switch(vec![0; 1 << 32]);
    let want = "device state of 4294967296 bytes: a package holds at most 4294967267";
    assert_eq!(refused, Err(Error::Config(want.into())));
    assert_eq!(rig.source.phase(), SourcePhase::Precopy);
}
