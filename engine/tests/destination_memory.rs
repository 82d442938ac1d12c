//! Allocations of the destination core for a block of 8 GiB: less than 16 MiB plus 3 bits per
//! target page in every phase. This is the program's only test, because the allocator counts
//! for the whole process.

use peak_alloc::PeakAlloc;
use retpath_codec::command::{Command, PageSizes};
use retpath_codec::forward::{BlockIndex, Event, ram::Record};
use retpath_codec::{Name, NameBuf};
use retpath_engine::Channel::{Main, Preempt};
use retpath_engine::blocks::Span;
use retpath_engine::destination::{Config, Destination, PageState, Phase};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const TARGET: u64 = 4096;
const RAM: u64 = 8 << 30;
const PAGES: u64 = RAM / TARGET;
const MAX_MEMORY: u64 = (16 << 20) + PAGES * 3 / 8;
/// Size of a run of the background sweep, in bytes.
const RUN: u64 = 64 << 10;

struct Migration {
    core: Destination,
    page: u64,
    now: u64,
}

impl Migration {
    fn new(page: u64) -> Self {
        let core = Destination::new(
            Config::default()
                .preempt(true)
                .page_sizes(vec![(NameBuf::new("ram").unwrap(), page)]),
        );
        let now = 0;
        let mut migration = Self { core, page, now };
        migration.command(Command::OpenReturnPath);
        let (summary, target) = (page, TARGET);
        let sizes = Some(PageSizes { summary, target });
        migration.command(Command::PostcopyAdvise { sizes });
        let block = Record::Block {
            block: BlockIndex::new(0),
            name: Name::new(b"ram").unwrap(),
            len: RAM,
            page_size: None,
            gpa: None,
        };
        migration.event(Event::Record(block));
        migration.command(Command::Packaged { size: 0 });
        migration.command(Command::PostcopyListen);
        migration.command(Command::PostcopyRun);
        migration.event(Event::PackageEnd);
        migration.core.device_state_saved().unwrap();
        migration
    }

    fn command(&mut self, command: Command<Name<'_>, retpath_codec::command::Ranges<'_>>) {
        self.event(Event::Command(command));
    }

    fn event(&mut self, event: Event<'_>) {
        self.now += 1000;
        self.core.event(Main, event, self.now).unwrap();
        while self.core.poll().is_some() {}
    }

    /// Reports a fault on every host page in the range without answering it.
    fn fault(&mut self, from: u64, to: u64) {
        for offset in (from..to).step_by(usize::try_from(self.page).unwrap()) {
            self.now += 1000;
            assert_eq!(
                self.core.fault(0, offset, self.now),
                Ok(PageState::Missing),
                "{offset:#x}"
            );
            if self.core.outbox().len() > 4096 {
                self.drain();
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        while !self.core.outbox().is_empty() {
            self.core.outbox().clear();
        }
        self.core.written(self.now);
    }

    /// Sends this range as background pages.
    fn sweep(&mut self, from: u64, to: u64) {
        let len = RUN.max(self.page);
        for offset in (from..to).step_by(usize::try_from(len).unwrap()) {
            let span = Span {
                block: 0,
                offset,
                len,
            };
            self.core.run_of_pages(Main, span, self.now).unwrap();
            self.now += 1000;
            self.core.placed(Main, span, 0, self.now).unwrap();
        }
    }

    /// Sends the host page as target pages on the preempt channel.
    fn urgent(&mut self, host: u64) {
        let data = vec![7; usize::try_from(TARGET).unwrap()];
        for offset in (host..host + self.page).step_by(4096) {
            let record = Record::Page {
                block: BlockIndex::new(0),
                offset,
                data: &data,
                named: false,
            };
            let event = Event::Record(record);
            let Some(placement) = self.core.event(Preempt, event, self.now).unwrap() else {
                continue;
            };
            let span = placement.span();
            self.core.placed(Preempt, span, 0, self.now).unwrap();
        }
    }

    fn recover(&mut self) {
        self.core.link_lost(Main).unwrap();
        self.core.link_lost(Preempt).unwrap();
        self.core.link_restored().unwrap();
        let block = Name::new(b"ram").unwrap();
        self.command(Command::RecvBitmap { block });
        self.command(Command::PostcopyResume);
        self.drain();
    }
}

#[test]
fn uses_at_most_3_bits_per_page_and_16_mib() {
    for page in [4 << 10, 2 << 20] {
        ALLOCATED.reset_peak_usage();
        let before = ALLOCATED.current_usage();
        let mut migration = Migration::new(page);
        migration.fault(0, RAM / 16);
        for page_at in 0..100 {
            migration.urgent(page_at * page);
        }
        migration.recover();
        migration.sweep(RAM / 2, RAM);
        let next = (100 * page).next_multiple_of(RUN);
        migration.sweep(next, RAM / 16);
        migration.fault(RAM / 16, RAM / 8);
        migration.recover();
        let peak = ALLOCATED.peak_usage() - before;
        let peak = u64::try_from(peak).unwrap();
        println!("pages of {page} bytes: {peak} bytes at most");
        // A peak below the size of the bitmaps means that the allocator counted nothing.
        assert!(peak > PAGES / 8, "{peak}");
        assert!(peak < MAX_MEMORY, "{peak}, but {MAX_MEMORY} is the limit");
        assert_eq!(migration.core.phase(), Phase::Running);
    }
}
