//! Defects of frames.

use retpath_codec::command::{Command, Commands, Range, RangeBuf};
use retpath_codec::mutate::Defect;
use retpath_codec::{Message, NameBuf, Qemu, check};

#[test]
fn apply_with_any_numbers_to_any_frame() {
    for kind in 0..=Defect::KINDS {
        for at in [0, 1, 2, 7, 100, 300, u16::MAX] {
            for value in [0, 1, 15, 16, 128, 255] {
                for frame in [&[][..], &[0], &[0, 2, 0, 4, 0, 0, 0, 1], &[0, 7, 0, 0]] {
                    let mut frame = frame.to_vec();
                    let defect = Defect::new(kind, at, value);
                    defect.apply::<Qemu>(&mut frame);
                    defect.apply::<Commands>(&mut frame);
                    check::frame::<Qemu>(&frame);
                    check::frame::<Commands>(&frame);
                }
            }
        }
    }
}

fn with(defect: Defect) -> Vec<u8> {
    let block = NameBuf::new("pc.ram").expect("a name");
    let message = Message::ReqPagesId {
        start: 0x1000,
        len: 4096,
        block,
    };
    retpath_codec::mutate::encode::<Qemu>(&message, defect).expect("is valid")
}

#[test]
fn fails_for_a_message_that_cannot_be_encoded() {
    let refused = Message::<NameBuf>::ReqPages { start: 0, len: 0 };
    let defect = Defect::Cut(1);
    let error = retpath_codec::mutate::encode::<Qemu>(&refused, defect).expect_err("no length");
    assert_eq!(error.field, Some("len"));
}

#[test]
fn defects_change_what_their_name_says() {
    let whole = with(Defect::Byte(0, 0));
    assert_eq!(with(Defect::Length(2))[..4], [0, 3, 0, 0x15]);
    assert_eq!(with(Defect::Number(0x0102))[..2], [1, 2]);
    for at in 0..2 * whole.len() * 8 {
        let bit = u16::try_from(at).expect("small");
        let mut want = whole.clone();
        want[at / 8 % whole.len()] ^= 1 << (at % 8);
        assert_eq!(with(Defect::Bit(bit)), want);
    }
    assert_eq!(with(Defect::Byte(16, 9))[16], 9);
    assert_eq!(with(Defect::Set(4, 3))[4..12], [0xff; 8]);
    assert_eq!(with(Defect::Clear(12, 2))[12..16], [0; 4]);
    assert_eq!(with(Defect::Cut(5)), whole[..5]);
    assert_eq!(with(Defect::Short(3))[..4], [0, 3, 0, 0x10]);
    assert_eq!(with(Defect::Short(3)).len(), whole.len() - 3);
    assert_eq!(with(Defect::Leftover(1))[..4], [0, 3, 0, 0x15]);
    assert_eq!(with(Defect::Leftover(1)).len(), whole.len() + 2);
    assert_eq!(with(Defect::NameLength(255))[16], 5);
    assert_eq!(with(Defect::NameNul(8))[17..], *b"pc\0ram");
    // The bytes after the name are not a length, although they look like one.
    let discard = Command::<NameBuf, RangeBuf>::PostcopyRamDiscard {
        block: NameBuf::new("abc").expect("a name"),
        ranges: RangeBuf::new(vec![Range::new(0x0303_0303, 3).expect("a range")])
            .expect("one range"),
    };
    let longer = retpath_codec::mutate::encode::<Commands>(&discard, Defect::NameLength(1));
    assert_eq!(longer.expect("is valid")[6], 4);
    // A command has its length at another offset.
    let ping = Command::<NameBuf, RangeBuf>::Ping { value: 1 };
    let longer = retpath_codec::mutate::encode::<Commands>(&ping, Defect::Length(0x0102));
    assert_eq!(longer, Ok(vec![8, 0, 2, 1, 6, 0, 0, 0, 1]));
}
