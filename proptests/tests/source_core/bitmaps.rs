//! Received bitmaps that violate the protocol.

use retpath_codec::bitmap::{self, Bitmap};
use retpath_codec::stream::Item;
use retpath_codec::{BlockName, Message, Rule};

use retpath_engine::Channel;

use super::refusals::{config, name, refused};
use retpath_engine::source::{Cause, Config, Error, SourcePhase};
use retpath_proptests::source::rig::Rig;

/// A source that has requested its bitmaps and received the RECV_BITMAP frame of its first
/// block.
fn awaiting(config: Config) -> Rig {
    let mut rig = Rig::switched(config, &[(130, 4096), (2, 65536)]);
    rig.step(Channel::Main);
    rig.cut();
    rig.resume();
    rig.step(Channel::Main);
    rig.say(Message::RecvBitmap {
        block: name("pc.ram"),
    })
    .expect("requested");
    rig
}

#[test]
fn refuses_bitmaps_that_do_not_match_their_block() {
    let offset = 1 << 20;
    let bitmap = |bytes: &[u8]| {
        let mut rig = awaiting(config());
        let got = rig.source.message(
            Item::Bitmap {
                offset,
                bitmap: Bitmap::new(bytes),
            },
            0,
        );
        assert_eq!(rig.source.phase(), SourcePhase::Paused);
        match got {
            Err(Error::Refused {
                offset: 0x10_0000,
                message: "RECV_BITMAP",
                cause,
            }) => cause,
            other => panic!("{other:?}"),
        }
    };
    let block = || name("pc.ram");
    let rule = Rule::BitmapMismatch { size: 16, want: 24 };
    assert_eq!(
        bitmap(&[0; 16]),
        Cause::Bitmap {
            block: block(),
            rule
        }
    );
    let mut tail = [0; 24];
    tail[23] = 0x80;
    assert_eq!(
        bitmap(&tail),
        Cause::Bitmap {
            block: block(),
            rule: Rule::BitmapTail
        }
    );
    let mut unsent = [0; 24];
    unsent[2] = 2;
    assert_eq!(
        bitmap(&unsent),
        Cause::NeverSent {
            block: block(),
            offset: 17 * 4096
        }
    );
}

#[test]
fn limits_a_bitmap_to_the_size_of_its_block() {
    let mut rig = awaiting(config());
    assert_eq!(rig.source.recv_bitmap_limit(), 24);
    let got = rig.reply(&32_u64.to_be_bytes());
    let Err(Error::Malformed(error)) = got else {
        panic!("{got:?}")
    };
    assert_eq!(
        error.rule,
        Rule::BitmapLimit {
            size: 32,
            limit: 24
        }
    );
    assert_eq!(rig.source.phase(), SourcePhase::Paused);
    assert_eq!(rig.source.recv_bitmap_limit(), 0);
}

#[test]
fn refuses_bitmaps_out_of_order_repeated_or_not_requested() {
    let item = |bits: &'static [u8]| Item::Bitmap {
        offset: 0,
        bitmap: Bitmap::new(bits),
    };
    let cause = |got: Result<(), Error>| match got {
        Err(Error::Refused { cause, .. }) => cause,
        other => panic!("{other:?}"),
    };
    let mut rig = awaiting(config());
    let pong = Item::Message {
        offset: 0,
        message: Message::Pong { value: 1 },
    };
    assert_eq!(
        cause(rig.source.message(pong, 0)),
        Cause::Order,
        "in place of the bitmap"
    );

    let mut rig = awaiting(config());
    rig.source.message(item(&[0; 24]), 0).expect("valid bitmap");
    assert_eq!(
        cause(rig.source.message(item(&[0; 24]), 0)),
        Cause::Order,
        "a second one"
    );

    let mut rig = awaiting(config());
    let mut bytes = Vec::new();
    bitmap::encode(Bitmap::new(&[0; 24]), &mut bytes).expect("valid bitmap");
    rig.reply(&bytes).expect("valid bitmap");
    let again = Message::RecvBitmap {
        block: name("pc.ram"),
    };
    assert_eq!(refused(&mut rig, again), Cause::Unasked);

    let mut rig = Rig::switched(config(), &[(130, 4096)]);
    assert_eq!(
        cause(rig.source.message(item(&[0; 24]), 0)),
        Cause::Order,
        "in postcopy"
    );
    assert_eq!(rig.source.phase(), SourcePhase::Paused);
    rig.resume();
    let early = Message::RecvBitmap {
        block: name("pc.ram"),
    };
    assert_eq!(
        refused(&mut rig, early),
        Cause::Unasked,
        "before it was asked"
    );
}

/// A wrong bitmap from an unrelated peer on one link must not make the bitmap of the real
/// destination on the next link invalid: the migration could never complete.
#[test]
fn accepts_a_full_bitmap_after_an_empty_one_from_another_link() {
    let mut rig = Rig::switched(config(), &[(130, 4096)]);
    rig.step(Channel::Main);
    rig.talk();
    let left = rig.source.remaining();
    rig.cut();
    for resumed in [false, true] {
        rig.resume();
        rig.step(Channel::Main);
        let named = name("pc.ram");
        let message = Message::RecvBitmap {
            block: named.name(),
        };
        let bitmap = Bitmap::new(&[0; 24]);
        let offset = 0;
        let source = &mut rig.source;
        source
            .message(Item::Message { offset, message }, 0)
            .expect("requested");
        source
            .message(Item::Bitmap { offset, bitmap }, 0)
            .expect("possible");
        assert_eq!(rig.source.remaining(), 130 * 4096);
        if resumed {
            rig.step(Channel::Main);
            let message = Message::ResumeAck;
            rig.source
                .message(Item::Message { offset, message }, 0)
                .expect("awaited");
            rig.step(Channel::Main);
        }
        rig.cut();
    }
    rig.resume();
    while rig.source.phase() != SourcePhase::Postcopy {
        rig.step(Channel::Main);
        rig.talk();
    }
    assert_eq!(rig.source.remaining(), left);
    rig.finish();
}
