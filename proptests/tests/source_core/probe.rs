//! What a source verifies about its destination before it relies on it.

use retpath_codec::Message;

use retpath_engine::Channel;

use super::service::config;
use retpath_engine::source::{Awaited, Error, Next, Preempt, SourcePhase};
use retpath_proptests::source::rig::Rig;

const IDLE: Next = Next::Wait { until: None };

const SECOND: u64 = 1_000_000_000;

fn probing(preempt: Option<Preempt>) -> Rig {
    let config = config().preempt(preempt).probe(true);
    Rig::new(config, &[(20, 4096)])
}

/// Steps the source until it is idle, without delivering anything.
fn idle(rig: &mut Rig) {
    for _ in 0..100 {
        rig.step(Channel::Preempt);
        if let Next::Wait { .. } = rig.step(Channel::Main) {
            return;
        }
    }
    panic!("never idle");
}

/// The number of PING 5 in flight.
fn proofs(rig: &Rig) -> usize {
    let ping = [8, 0, 2, 0, 4, 0, 0, 0, 5];
    let sent = rig.flight[0].windows(ping.len());
    sent.filter(|bytes| *bytes == ping).count()
}

#[test]
fn does_not_switch_until_the_destination_answers() {
    let mut rig = probing(None);
    assert_eq!(rig.source.awaits(), None);
    assert_eq!(rig.step(Channel::Main), Next::Write);
    assert_eq!(rig.source.awaits(), Some(Awaited::Answer));
    rig.source.switch(Vec::new()).expect("in precopy");
    idle(&mut rig);
    assert!(!rig.source.guest_left());
    for value in [1, 4] {
        rig.say(Message::Pong { value }).expect("valid answer");
    }
    assert_eq!(rig.source.awaits(), None);
    assert_eq!(rig.step(Channel::Main), Next::Write);
    assert!(rig.source.guest_left());
    // PONG 4 proves something only after the switch.
    rig.say(Message::Pong { value: 3 }).expect("valid answer");
    assert_eq!(rig.source.awaits(), Some(Awaited::Listening));
    rig.say(Message::Pong { value: 4 }).expect("it listens");
    assert_eq!(rig.source.awaits(), None);
}

#[test]
fn awaits_nothing_without_probing() {
    let mut rig = Rig::new(config(), &[(20, 4096)]);
    rig.step(Channel::Main);
    assert_eq!(rig.source.phase(), SourcePhase::Precopy);
    assert_eq!(rig.source.awaits(), None);
    let mut rig = Rig::switched(config(), &[(20, 4096)]);
    assert_eq!(rig.source.phase(), SourcePhase::Postcopy);
    assert_eq!(rig.source.awaits(), None);
    rig.run();
}

#[test]
fn switches_after_two_answers_with_the_preempt_channel_open() {
    for kind in [Preempt::Early, Preempt::Late] {
        let mut rig = probing(Some(kind));
        while rig.source.phase() == SourcePhase::Fresh {
            rig.step(Channel::Main);
        }
        // In an open section of `ram`.
        rig.step(Channel::Main);
        rig.source.switch(Vec::new()).expect("in precopy");
        idle(&mut rig);
        assert_eq!(proofs(&rig), 0);
        rig.talk();
        for asked in 1..=2 {
            idle(&mut rig);
            assert!(!rig.source.guest_left());
            rig.say(Message::Pong { value: 4 }).expect("valid answer");
            assert!(rig.source.is_preempt_unproven());
            assert_eq!(rig.source.awaits(), Some(Awaited::Answer));
            assert_eq!(proofs(&rig), 1, "answer {asked}");
            rig.talk();
            // QEMU's main loop needs time to accept or close the channel.
            let until = Some(rig.now + SECOND / 20);
            assert_eq!(rig.step(Channel::Main), Next::Wait { until });
            assert_eq!(rig.source.awaits(), None);
            rig.now += SECOND / 20;
        }
        assert_eq!(rig.step(Channel::Main), Next::Write);
        assert!(rig.source.guest_left());
        let late = rig.source.preempt_refused();
        assert!(matches!(late, Err(Error::Phase { .. })), "{late:?}");
        assert_eq!(rig.source.preempt(), Some(kind));
        rig.finish();
    }
}

#[test]
fn continues_on_the_main_channel_when_the_preempt_channel_is_refused() {
    for kind in [Preempt::Early, Preempt::Late] {
        let mut rig = probing(Some(kind));
        while rig.source.phase() == SourcePhase::Fresh {
            rig.step(Channel::Main);
        }
        rig.talk();
        rig.source.switch(Vec::new()).expect("in precopy");
        idle(&mut rig);
        rig.source.preempt_refused().expect("nothing was sent");
        assert_eq!(rig.source.preempt(), None);
        while rig.source.phase() == SourcePhase::Switching {
            rig.step(Channel::Main);
            rig.talk();
        }
        rig.ask(0, 4096 * 7, 4096).expect("valid request");
        assert_eq!(rig.step(Channel::Preempt), IDLE);
        assert!(matches!(rig.step(Channel::Main), Next::Urgent(_)));
        rig.cut();
        rig.resume();
        rig.finish();
    }
}

#[test]
fn opens_a_preempt_channel_the_destination_waits_for() {
    for kind in [Preempt::Early, Preempt::Late] {
        let mut rig = probing(None);
        let early = rig.source.open_preempt(kind);
        assert!(matches!(early, Err(Error::Phase { .. })), "{early:?}");
        rig.step(Channel::Main);
        rig.talk();
        rig.source.switch(Vec::new()).expect("in precopy");
        while rig.source.phase() == SourcePhase::Switching {
            rig.step(Channel::Main);
        }
        rig.source.open_preempt(kind).expect("it does not listen");
        rig.source.preempt_connected(rig.now).expect("wanted");
        rig.ask(0, 4096 * 7, 4096).expect("valid request");
        assert_eq!(rig.step(Channel::Preempt), IDLE, "it may be refused");
        rig.talk();
        assert!(matches!(rig.step(Channel::Preempt), Next::Urgent(_)));
        rig.cut();
        rig.resume();
        rig.finish();
        let [main, preempt] = [Channel::Main, Channel::Preempt]
            .map(|on| rig.peer.sent.iter().any(|(channel, _)| *channel == on));
        assert!(main && !preempt, "the urgent page was lost with the link");
    }
}

#[test]
fn opens_a_preempt_channel_that_the_destination_waits_for_at_the_end() {
    let mut rig = probing(None);
    rig.step(Channel::Main);
    rig.talk();
    rig.source.switch(Vec::new()).expect("in precopy");
    while rig.source.phase() != SourcePhase::Completing {
        rig.step(Channel::Main);
        if rig.source.phase() == SourcePhase::Switching {
            rig.talk();
        }
    }
    assert_eq!(rig.source.awaits(), Some(Awaited::Listening));
    rig.say(Message::Pong { value: 4 }).expect("it listens");
    assert_eq!(rig.source.awaits(), Some(Awaited::End));
    rig.source.open_preempt(Preempt::Late).expect("no SHUT");
    rig.source.preempt_connected(rig.now).expect("wanted");
    assert_eq!(rig.step(Channel::Preempt), IDLE);
    rig.say(Message::Shut { value: 0 }).expect("the end");
    assert_eq!(rig.source.phase(), SourcePhase::Completed);
}

/// Up to a preempt channel that was offered because the destination is silent.
fn offered() -> Rig {
    let mut rig = probing(None);
    rig.step(Channel::Main);
    rig.talk();
    rig.source.switch(Vec::new()).expect("in precopy");
    while rig.source.phase() == SourcePhase::Switching {
        rig.step(Channel::Main);
    }
    rig.source.open_preempt(Preempt::Late).expect("silent");
    rig.source.preempt_connected(rig.now).expect("wanted");
    rig
}

#[test]
fn survives_a_stalled_destination_that_closes_an_offered_preempt_channel() {
    let mut rig = offered();
    rig.now += SECOND;
    rig.say(Message::Pong { value: 4 }).expect("it continues");
    // It still loads the devices, and accepts no connection before.
    rig.ask(0, 4096 * 7, 4096).expect("valid request");
    assert_eq!(rig.step(Channel::Preempt), IDLE);
    assert!(matches!(rig.step(Channel::Main), Next::Urgent(_)));
    assert!(rig.source.is_preempt_unproven());
    rig.source.preempt_refused().expect("nothing was sent");
    rig.finish();
    assert_eq!(rig.source.stats().pauses, 0);
}

#[test]
fn trusts_an_offered_preempt_channel_that_a_stalled_destination_keeps() {
    let mut rig = offered();
    rig.now += SECOND;
    rig.say(Message::Pong { value: 4 }).expect("it continues");
    rig.now += 2 * SECOND - 1;
    rig.ask(0, 4096 * 7, 4096).expect("valid request");
    assert_eq!(rig.step(Channel::Preempt), IDLE);
    rig.now += 1;
    assert!(matches!(rig.step(Channel::Preempt), Next::Urgent(_)));
    rig.finish();
}

#[test]
fn ends_an_early_preempt_channel_that_was_never_trusted() {
    let mut rig = probing(None);
    rig.step(Channel::Main);
    rig.talk();
    rig.source.switch(Vec::new()).expect("in precopy");
    while rig.source.phase() != SourcePhase::Completing {
        rig.step(Channel::Main);
        if rig.source.phase() == SourcePhase::Switching {
            rig.talk();
        }
    }
    rig.source.open_preempt(Preempt::Early).expect("silent");
    rig.source.preempt_connected(rig.now).expect("wanted");
    assert_eq!(rig.step(Channel::Preempt), Next::Write, "the end mark");
    assert_eq!(rig.step(Channel::Preempt), IDLE);
    assert!(
        !rig.source.is_preempt_unproven(),
        "its end is not a refusal"
    );
}

#[test]
fn delays_an_early_preempt_channel_of_a_new_link() {
    let mut rig = probing(Some(Preempt::Early));
    rig.start();
    rig.source.switch(Vec::new()).expect("in precopy");
    while rig.source.phase() == SourcePhase::Switching {
        rig.step(Channel::Main);
        rig.talk();
        rig.now += SECOND;
    }
    rig.cut();
    rig.now = 7 * SECOND;
    rig.source.resume(rig.now).expect("paused");
    let due = 7 * SECOND + SECOND / 4;
    let wait = Next::Wait { until: Some(due) };
    assert_eq!(rig.step(Channel::Main), wait);
    rig.now = due - 1;
    assert_eq!(rig.step(Channel::Main), wait);
    rig.now = due;
    assert_eq!(rig.step(Channel::Main), Next::Connect);
    rig.finish();
}

#[test]
fn trusts_the_preempt_channel_of_a_new_link_after_pong_4() {
    let mut rig = probing(Some(Preempt::Late));
    rig.start();
    rig.source.switch(Vec::new()).expect("in precopy");
    while rig.source.phase() == SourcePhase::Switching {
        rig.step(Channel::Main);
        rig.talk();
        rig.now += SECOND;
    }
    rig.cut();
    rig.resume();
    assert_eq!(rig.source.awaits(), None);
    idle(&mut rig);
    assert_eq!(rig.source.awaits(), Some(Awaited::Bitmaps));
    while rig.source.phase() != SourcePhase::Resuming {
        rig.talk();
        rig.step(Channel::Main);
    }
    rig.say(Message::ResumeAck).expect("awaited");
    assert_eq!(rig.source.awaits(), Some(Awaited::Listening));
    rig.ask(0, 4096 * 7, 4096).expect("valid request");
    assert_eq!(rig.step(Channel::Preempt), IDLE);
    rig.say(Message::Pong { value: 4 }).expect("it goes on");
    assert!(matches!(rig.step(Channel::Preempt), Next::Urgent(_)));
}
