//! Return paths that violate the protocol: a typed error, and a source that can be
//! recovered or that still has its guest.

use retpath_codec::stream::Item;
use retpath_codec::{BlockName, Message, NameBuf};
use retpath_engine::Channel;
use retpath_engine::blocks::BlockError;

use retpath_engine::source::{Cause, Config, Error, Preempt, SourcePhase};
use retpath_proptests::source::rig::Rig;

use super::recovery::recover;

pub(super) fn config() -> Config {
    Config::new("pc-i440fx-10.0")
}

pub(super) fn name(name: &str) -> NameBuf {
    NameBuf::new(name).expect("valid name")
}

fn request(start: u64, len: u32) -> Message<NameBuf> {
    Message::ReqPagesId {
        start,
        len,
        block: name("pc.ram"),
    }
}

/// Sends a message that must be refused and returns the cause. The source must be
/// recoverable if its guest may have left.
pub(super) fn refused(rig: &mut Rig, message: Message<NameBuf>) -> Cause {
    let left = rig.source.guest_left();
    match rig.say(message) {
        Err(error @ Error::Refused { .. }) => {
            assert!(error.is_peer_fault());
            let want = if left {
                SourcePhase::Paused
            } else {
                SourcePhase::Failed
            };
            assert_eq!(rig.source.phase(), want, "{error}");
            let Error::Refused { cause, .. } = error else {
                unreachable!()
            };
            cause
        }
        other => panic!("not refused but {other:?}"),
    }
}

/// A source in each phase.
fn phases(config: &Config) -> Vec<Rig> {
    let new = || Rig::new(config.clone(), &[(64, 4096), (2, 65536)]);
    let switched = || Rig::switched(config.clone(), &[(64, 4096), (2, 65536)]);
    let mut rigs = vec![
        new(),
        new(),
        new(),
        switched(),
        switched(),
        switched(),
        switched(),
        switched(),
    ];
    for rig in &mut rigs[1..3] {
        rig.start();
    }
    rigs[2].source.switch(Vec::new()).expect("in precopy");
    while rigs[4].source.phase() != SourcePhase::Completing {
        rigs[4].step(Channel::Main);
    }
    for rig in &mut rigs[5..] {
        rig.cut();
    }
    for rig in &mut rigs[6..] {
        rig.resume();
        rig.step(Channel::Main);
    }
    rigs[7].talk();
    rigs[7].step(Channel::Main);
    let want = [
        SourcePhase::Fresh,
        SourcePhase::Precopy,
        SourcePhase::Switching,
        SourcePhase::Postcopy,
        SourcePhase::Completing,
        SourcePhase::Paused,
        SourcePhase::Recovering,
        SourcePhase::Resuming,
    ];
    assert!(rigs.iter().map(|rig| rig.source.phase()).eq(want));
    rigs
}

#[test]
fn refuses_messages_that_are_not_expected_in_the_phase() {
    let config = config();
    let messages = [
        (
            request(4096, 4096),
            &[
                SourcePhase::Postcopy,
                SourcePhase::Completing,
                SourcePhase::Recovering,
                SourcePhase::Resuming,
            ][..],
        ),
        (
            Message::RecvBitmap {
                block: name("pc.ram"),
            },
            &[SourcePhase::Recovering],
        ),
        (Message::ResumeAck, &[SourcePhase::Resuming]),
        // Requested or not: the destination's capability decides.
        (
            Message::SwitchoverAck,
            &[
                SourcePhase::Precopy,
                SourcePhase::Switching,
                SourcePhase::Postcopy,
                SourcePhase::Completing,
                SourcePhase::Recovering,
                SourcePhase::Resuming,
            ],
        ),
        (Message::Shut { value: 0 }, &[SourcePhase::Completing]),
        (
            Message::ReqPages {
                start: 0,
                len: 4096,
            },
            &[],
        ),
    ];
    for (message, phases_of) in messages {
        for mut rig in phases(&config) {
            let phase = rig.source.phase();
            if phases_of.contains(&phase) {
                rig.say(message.clone()).expect("expected in this phase");
                continue;
            }
            let want = match (&message, phase) {
                (_, SourcePhase::Fresh | SourcePhase::Paused) => Cause::Phase(phase),
                (Message::Shut { .. }, _) => Cause::EarlyShut {
                    left: rig.source.remaining(),
                },
                (Message::ReqPages { .. }, _) => Cause::NoBlock,
                _ => Cause::Phase(phase),
            };
            let before = phase;
            let got = rig.say(message.clone());
            let Err(Error::Refused { cause, .. }) = got else {
                panic!("{message:?}: {got:?}")
            };
            assert_eq!(cause, want, "{message:?} while {before}");
            let after = rig.source.phase();
            assert!(
                matches!(after, SourcePhase::Paused | SourcePhase::Failed),
                "{message:?} while {before}"
            );
            assert_eq!(after == SourcePhase::Paused, rig.source.guest_left());
        }
    }
}

#[test]
fn refuses_an_acknowledgement_twice() {
    for switchover_ack in [true, false] {
        let config = config().switchover_ack(switchover_ack);
        let mut rig = Rig::new(config, &[(64, 4096)]);
        rig.start();
        rig.say(Message::SwitchoverAck).expect("awaited");
        assert_eq!(refused(&mut rig, Message::SwitchoverAck), Cause::Unasked);
    }
}

#[test]
fn refuses_requests_for_invalid_ranges() {
    let len = 64 * 4096;
    for preempt in [None, Some(Preempt::Late)] {
        let config = config().preempt(preempt);
        let page = if preempt.is_some() { 65536 } else { 4096 };
        for (start, len, error) in [
            (
                1,
                page,
                BlockError::Unaligned {
                    start: 1,
                    len: page,
                    page,
                },
            ),
            (
                page,
                1,
                BlockError::Unaligned {
                    start: page,
                    len: 1,
                    page,
                },
            ),
            (
                len,
                page,
                BlockError::Overrun {
                    start: len,
                    len: page,
                    block: len,
                },
            ),
            (
                len - page,
                2 * page,
                BlockError::Overrun {
                    start: len - page,
                    len: 2 * page,
                    block: len,
                },
            ),
            (
                0,
                0xffff_0000,
                BlockError::Overrun {
                    start: 0,
                    len: 0xffff_0000,
                    block: len,
                },
            ),
        ] {
            let mut rig = Rig::switched(config.clone(), &[(4, 65536)]);
            let got = refused(&mut rig, request(start, len as u32));
            assert_eq!(
                got,
                Cause::Range {
                    block: name("pc.ram"),
                    error
                }
            );
        }
        let mut rig = Rig::switched(config.clone(), &[(4, 65536)]);
        let message = Message::ReqPagesId {
            start: 0,
            len: 65536,
            block: name("pc.rom"),
        };
        assert_eq!(
            refused(&mut rig, message),
            Cause::UnknownBlock(name("pc.rom"))
        );
        // The codec refuses both, but the core does not rely on it.
        for (start, len) in [(u64::MAX - 4095, 4096), (0, 0)] {
            let mut rig = Rig::switched(config.clone(), &[(4, 65536)]);
            let block = name("pc.ram");
            let message = Message::ReqPagesId {
                start,
                len,
                block: block.name(),
            };
            assert!(
                rig.source
                    .message(Item::Message { offset: 0, message }, 0)
                    .is_err()
            );
            assert_eq!(rig.source.phase(), SourcePhase::Paused);
        }
    }
}

#[test]
fn a_refused_request_does_not_name_the_block_of_later_ones() {
    let mut rig = Rig::switched(config(), &[(64, 4096), (1, 4096)]);
    rig.ask(1, 0, 4096).expect("valid request");
    let block = name("pc.ram");
    let message = Message::ReqPagesId {
        start: 1,
        len: 4096,
        block: block.name(),
    };
    rig.source
        .message(Item::Message { offset: 0, message }, 0)
        .expect_err("unaligned");
    rig.cut();
    recover(&mut rig);
    // The block of the last accepted request has one page; the other has 64.
    let message = Message::ReqPages {
        start: 4096,
        len: 4096,
    };
    assert!(matches!(refused(&mut rig, message), Cause::Range { .. }));
}

#[test]
fn refuses_parts_of_host_pages_with_preempt() {
    let config = config().preempt(Some(Preempt::Late));
    let mut rig = Rig::switched(config, &[(4, 65536)]);
    let error = BlockError::Unaligned {
        start: 4096,
        len: 4096,
        page: 65536,
    };
    assert_eq!(
        refused(&mut rig, request(4096, 4096)),
        Cause::Range {
            block: name("pc.ram"),
            error
        }
    );
}

#[test]
fn fails_when_the_destination_reports_failure() {
    for mut rig in phases(&config()) {
        let phase = rig.source.phase();
        let left = rig.source.guest_left();
        let got = rig.say(Message::Shut { value: 7 });
        if matches!(phase, SourcePhase::Fresh | SourcePhase::Paused) {
            assert!(matches!(
                got,
                Err(Error::Refused {
                    cause: Cause::Phase(_),
                    ..
                })
            ));
            continue;
        }
        assert_eq!(got, Err(Error::GaveUp { value: 7 }), "while {phase}");
        assert_eq!(rig.source.phase(), SourcePhase::Failed);
        assert_eq!(rig.source.guest_left(), left);
        assert!(rig.source.resume(rig.now).is_err());
    }
}

#[test]
fn refuses_everything_after_shut() {
    let mut rig = Rig::switched(config(), &[(64, 4096)]);
    rig.finish();
    let message = Message::Pong { value: 1 };
    let got = rig.source.message(Item::Message { offset: 9, message }, 0);
    let cause = Cause::Phase(SourcePhase::Completed);
    assert_eq!(
        got,
        Err(Error::Refused {
            offset: 9,
            message: "PONG",
            cause
        })
    );
    assert!(matches!(
        rig.say(Message::Pong { value: 1 }),
        Err(Error::Malformed(_))
    ));
    assert_eq!(
        rig.source.phase(),
        SourcePhase::Completed,
        "it is over all the same"
    );
}

#[test]
fn pauses_on_a_malformed_return_path() {
    for bytes in [
        &[0, 0, 0, 0][..],
        &[0, 8, 0, 0],
        &[0, 3, 2, 1],
        &[0, 6, 0, 4, 0, 0, 0, 2],
    ] {
        let mut rig = Rig::switched(config(), &[(64, 4096)]);
        let got = rig.reply(bytes);
        assert!(matches!(got, Err(Error::Malformed(_))), "{got:?}");
        assert!(got.is_err_and(|error| error.is_peer_fault()));
        assert_eq!(rig.source.phase(), SourcePhase::Paused);
    }
}

#[test]
fn errors_state_the_offset_and_the_cause() {
    let mut rig = Rig::switched(config(), &[(64, 4096)]);
    rig.say(Message::Pong { value: 9 }).expect("valid answer");
    let error = rig
        .say(request(64 * 4096, 4096))
        .expect_err("passes the end");
    // The offset follows five PONGs.
    assert_eq!(
        error.to_string(),
        "return path, offset 40 (0x28), REQ_PAGES_ID: block \"pc.ram\": \
         range 0x40000 + 0x1000 exceeds the block length 0x40000"
    );
}
