//! What a source that sends without end makes the destination core hold.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use retpath_codec::command::{Command, Commands, PageSizes, Range, RangeBuf};
use retpath_codec::forward::{BlockIndex, Event, Identity, SectionKind, ram::Record};
use retpath_codec::{Decoded, Encode, Name, decode};
use retpath_engine::Channel::Main;
use retpath_engine::destination::{
    Config, Destination, Error, ErrorKind, MAX_BLOCKS, MAX_PONGS, Phase,
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;

/// Returns by how much `flood` increases the allocated memory at most, in bytes.
fn peak(flood: impl FnOnce()) -> usize {
    // The tests of a process share the allocator.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    flood();
    ALLOCATED.peak_usage() - before
}

/// A migration that was advised, with these blocks.
fn advised(blocks: u32, len: u64) -> Destination {
    let mut core = Destination::new(Config::default());
    send(&mut core, &Command::OpenReturnPath).unwrap();
    let sizes = Some(PageSizes {
        summary: PAGE,
        target: PAGE,
    });
    send(&mut core, &Command::PostcopyAdvise { sizes }).unwrap();
    for number in 0..blocks {
        let name = format!("block{number}");
        let record = Record::Block {
            block: BlockIndex::new(number),
            name: Name::new(name.as_bytes()).unwrap(),
            len,
            page_size: None,
            gpa: None,
        };
        event(&mut core, Event::Record(record)).unwrap();
    }
    core
}

/// Handles an event, as the loop does.
fn event(core: &mut Destination, event: Event<'_>) -> Result<(), Error> {
    let handled = core.event(Main, event, 0).map(|_| ());
    while core.poll().is_some() {}
    core.outbox().clear();
    handled
}

fn send(core: &mut Destination, command: &Command<Name<'_>, RangeBuf>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes).unwrap();
    let Decoded::Message { message, .. } = decode::<Commands>(&bytes).unwrap() else {
        panic!("a whole command");
    };
    event(core, Event::Command(message))
}

fn page(core: &mut Destination, block: u32, offset: u64) {
    let record = Record::Zero {
        block: BlockIndex::new(block),
        offset,
        fill: 0,
        named: true,
    };
    event(core, Event::Record(record)).unwrap();
}

#[test]
fn discards_take_one_bit_for_each_page() {
    let bits = usize::try_from(GIB / PAGE / 8).unwrap();
    let grown = peak(|| {
        let mut core = advised(1, GIB);
        for round in 0..20_000 {
            let start = round * 7 % (GIB / PAGE - 24) * PAGE;
            let ranges = (0..12).map(|at| Range::new(start + 2 * at * PAGE, PAGE).unwrap());
            let ranges = RangeBuf::new(ranges.collect()).unwrap();
            let block = Name::new(b"block0").unwrap();
            send(&mut core, &Command::PostcopyRamDiscard { block, ranges }).unwrap();
        }
        assert_eq!(core.phase(), Phase::Discarding);
    });
    assert!((bits / 4..1 << 20).contains(&grown), "{grown} bytes");
}

#[test]
fn pings_end_the_migration_if_no_pong_is_written() {
    let grown = peak(|| {
        let mut core = advised(1, GIB);
        let ping = Command::Ping { value: 7 };
        let pings = (0..2 * MAX_PONGS).map(|_| send(&mut core, &ping));
        let answered = pings.take_while(Result::is_ok).count();
        assert_eq!(answered, MAX_PONGS);
        let over = send(&mut core, &ping).unwrap_err();
        assert!(matches!(over.kind, ErrorKind::Misuse(_)), "{over}");
    });
    assert!(grown < 256 << 10, "{grown} bytes");
}

#[test]
fn blocks_take_memory_for_the_pages_that_arrive() {
    let blocks = u32::try_from(MAX_BLOCKS).unwrap();
    let mut touched = 0;
    let announced = peak(|| {
        let mut core = advised(blocks, GIB);
        let before = ALLOCATED.current_usage();
        for number in 0..blocks {
            page(&mut core, number, GIB - PAGE);
        }
        touched = ALLOCATED.current_usage() - before;
        let block = Name::new(b"block7").unwrap();
        assert_eq!(core.blocks().find(block), Some(7));
        assert_eq!(core.pages().missing(), 4096 * (GIB / PAGE - 1));
    });
    assert!(announced - touched < 4 << 20, "{announced} bytes");
    // Whole bitmaps of the blocks would take 128 MiB.
    assert!(touched < 8 << 20, "{touched} bytes");
}

#[test]
fn received_bitmaps_are_sent_once_in_each_recovery() {
    let bits = usize::try_from(GIB / PAGE / 8).unwrap();
    let grown = peak(|| {
        let mut core = advised(1, GIB);
        send(&mut core, &Command::Packaged { size: 1 }).unwrap();
        send(&mut core, &Command::PostcopyListen).unwrap();
        send(&mut core, &Command::PostcopyRun).unwrap();
        event(&mut core, Event::PackageEnd).unwrap();
        core.device_state_saved().unwrap();
        for _ in 0..20 {
            core.link_lost(Main).unwrap();
            core.link_restored().unwrap();
            let block = Name::new(b"block0").unwrap();
            send(&mut core, &Command::RecvBitmap { block }).unwrap();
            assert!(send(&mut core, &Command::RecvBitmap { block }).is_err());
        }
    });
    assert!(grown < 4 * bits, "{grown} bytes");
}

#[test]
fn device_sections_are_kept_one_at_a_time() {
    let grown = peak(|| {
        let mut core = advised(1, GIB);
        for number in 0..200 {
            let idstr = format!("0000:00:02.{number}/virtio-mem");
            let identity = Some(Identity {
                idstr: idstr.as_bytes(),
                instance: 0,
                version: 1,
            });
            let kind = SectionKind::Full;
            let id = number;
            event(&mut core, Event::Section { kind, id, identity }).unwrap();
            for _ in 0..40 {
                let bytes = &[0x5a; 32 << 10];
                event(&mut core, Event::DeviceState { id, bytes }).unwrap();
            }
            event(&mut core, Event::Footer { id }).unwrap();
        }
    });
    assert!(grown < 3 << 20, "{grown} bytes");
}
