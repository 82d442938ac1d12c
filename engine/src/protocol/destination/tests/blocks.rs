use super::*;
use crate::blocks::BlockError;

#[test]
fn refuses_page_sizes_that_the_source_contradicts() {
    let mut dest = Dest::new(Config::default());
    dest.advise(&[("ram", HUGE), ("huge", HUGE)], PAGE | HUGE);
    let what = refused(dest.discard("ram", &[(0, PAGE)]));
    let (ours, theirs) = (PAGE, PAGE | HUGE);
    assert_eq!(what, ErrorKind::PageSummary { ours, theirs });

    let mut dest = Dest::new(Config::default());
    dest.advise(&[("ram", HUGE)], HUGE);
    assert_eq!(
        dest.core.blocks().page_summary(),
        HUGE,
        "the source's host page"
    );

    let listed = || {
        Dest::new(Config {
            page_sizes: vec![(names("huge"), HUGE)],
            ..Config::default()
        })
    };
    let announced = |page_size| {
        Event::Record(Record::Block {
            block: forward::BlockIndex::new(0),
            name: name("huge"),
            len: 4 * HUGE,
            page_size,
            gpa: None,
        })
    };
    listed().event(Main, announced(Some(HUGE))).unwrap();
    let mut dest = listed();
    let what = refused(dest.event(Main, announced(Some(PAGE))));
    let (ours, theirs) = (HUGE, PAGE);
    assert_eq!(what, ErrorKind::PageSize { ours, theirs });
    let mut dest = Dest::new(Config::default());
    dest.event(Main, announced(Some(HUGE))).unwrap();
    assert_eq!(dest.core.blocks().page_summary(), HUGE);
    let mut dest = Dest::new(Config::default());
    let what = refused(dest.event(Main, announced(Some(1 << 32))));
    assert_eq!(what, ErrorKind::PageTooLarge { page: 1 << 32 });
}

#[test]
fn uses_the_hosts_page_size_if_the_source_has_it() {
    let mut dest = Dest::new(Config {
        host_page: HUGE,
        ..Config::default()
    });
    dest.advise(&[("ram", HUGE)], PAGE | HUGE);
    assert_eq!(dest.core.blocks().page_summary(), HUGE);
}

#[test]
fn refuses_invalid_blocks() {
    let config = || Config {
        max_ram: 8 * PAGE,
        ..Config::default()
    };
    let mut dest = Dest::new(config());
    dest.block("a", 6 * PAGE).unwrap();
    dest.block("all that is left", 2 * PAGE).unwrap();
    let mut dest = Dest::new(config());
    dest.block("a", 6 * PAGE).unwrap();
    let (total, limit) = (9 * PAGE, 8 * PAGE);
    assert_eq!(
        refused(dest.block("b", 3 * PAGE)),
        ErrorKind::TooMuchRam { total, limit }
    );
    let what = refused(Dest::new(config()).block("a", !(PAGE - 1)));
    assert!(matches!(what, ErrorKind::TooMuchRam { .. }));
    let mut dest = Dest::new(config().max_ram(u64::MAX));
    dest.block("a", 1 << 63).unwrap();
    let what = refused(dest.block("b", 1 << 63));
    assert!(matches!(what, ErrorKind::TooMuchRam { .. }));
    let mut dest = Dest::new(config());
    dest.block("a", PAGE).unwrap();
    assert_eq!(
        refused(dest.block("a", PAGE)),
        ErrorKind::Block(BlockError::Twice)
    );
    let what = refused(Dest::new(config()).block("a", PAGE + 1));
    assert!(matches!(what, ErrorKind::Block(BlockError::Length { .. })));
    let what = refused(Dest::running(4).block("b", PAGE));
    assert!(matches!(what, ErrorKind::OutOfTurn { .. }));
}

#[test]
fn refuses_too_many_blocks() {
    let mut dest = Dest::new(Config::default());
    for number in 0..MAX_BLOCKS {
        dest.block(&number.to_string(), PAGE).unwrap();
    }
    assert_eq!(refused(dest.block("more", PAGE)), ErrorKind::TooManyBlocks);
}

#[test]
fn uses_the_target_page_size_of_the_stream() {
    let mut dest = Dest::new(Config::default());
    let bits = |bits| Event::Subsection(forward::Subsection::TargetPageBits(bits));
    dest.event(Main, bits(13)).unwrap();
    dest.block("ram", 8 * KIB).unwrap();
    assert_eq!(dest.core.blocks().target(), 8 * KIB);
    for wrong in [0, 3, 63, 64, u32::MAX] {
        let mut dest = Dest::new(Config::default());
        dest.event(Main, bits(wrong)).unwrap();
        let what = refused(dest.block("ram", 1 << 13));
        assert!(
            matches!(what, ErrorKind::Block(_) | ErrorKind::PageTooLarge { .. }),
            "{wrong}: {what:?}"
        );
    }
}
