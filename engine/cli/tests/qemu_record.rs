//! Records what two QEMUs say to each other, for the corpus and for people:
//!
//!     RETPATH_RECORD=FOLDER cargo test -p retpath --test qemu_record -- --ignored
//!
//! leaves `qemu-RELEASE-WHAT.chN.fwd` (source to destination) and `.rp` (back) there, one pair per
//! connection in the order they were made. Without the variable the recordings are checked and
//! thrown away.

use std::env;
use std::path::{Path, PathBuf};

use retpath_codec::wire::capability::{POSTCOPY_PREEMPT, POSTCOPY_RAM};
use retpath_support::SOON;
use retpath_support::qemu::process::folder;
use retpath_support::qemu::relay::recorded;
use retpath_support::qemu::{Backing, Guest, Machine, Pair, Qemu, Ram, types};

const MAIN: &[u8] = b"QEVM\0\0\0\x03";
const RECV_BITMAP: &[u8] = &[8, 0, 10, 0];
const SHUT: &[u8] = &[0, 1, 0, 4, 0, 0, 0, 0];
const EOF: u8 = 0;

/// A guest that leaves most of its 16 MiB zero, which keeps recordings small.
fn machine() -> Machine {
    Machine::new(16, Guest::mib(1, 1))
}

/// Streams as they were recorded: per connection, the forward one and the one back.
struct Recording {
    links: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Recording {
    /// Migrates by postcopy and records it, cutting the link `cuts` times.
    fn take(what: &str, machine: &Machine, capabilities: &[&str], cuts: usize) -> Self {
        let scratch = folder();
        let release = release(machine);
        let kept = env::var_os("RETPATH_RECORD").map(PathBuf::from);
        let folder = kept.as_deref().unwrap_or(scratch.path());
        let prefix = folder.join(format!("qemu-{release}-{what}"));
        let mut pair = Pair::start(machine, capabilities, Some(&prefix));
        if capabilities.contains(&POSTCOPY_RAM) {
            pair.bandwidth(300 << 10, 1 << 20);
            pair.switch_after(300 << 10);
        } else {
            pair.bandwidth(0, 0);
            pair.source.stop();
            pair.source.migrate(&pair.relay.uri());
        }
        for cut in 1..=cuts {
            pair.relay.cut_after(300_001);
            pair.relay.wait_cuts(cut, SOON);
            pair.recover();
        }
        pair.wait_completed(SOON);
        pair.destination.cont();
        pair.destination.wait_healthy(3, SOON);
        let links = pair.relay.wait(SOON, "the end", |links| {
            links.iter().all(|link| link.closed).then_some(links.len())
        });
        println!("{what}:\n{}", pair.relay);
        Self::read(&prefix, links)
    }

    fn read(prefix: &Path, links: usize) -> Self {
        let both = |link| (recorded(prefix, link, "fwd"), recorded(prefix, link, "rp"));
        Self {
            links: (0..links).map(both).collect(),
        }
    }

    /// The connections of a migration begin with these bytes, and the one at `last` ends it well.
    fn check(&self, heads: &[&[u8]], last: usize) {
        assert_eq!(self.links.len(), heads.len());
        for ((forward, _), head) in self.links.iter().zip(heads) {
            let start = &forward[..forward.len().min(16)];
            assert!(start.starts_with(head), "{start:x?} instead of {head:x?}");
        }
        let (forward, back) = &self.links[last];
        assert_eq!(forward.last(), Some(&EOF));
        assert!(back.ends_with(SHUT), "{back:x?}");
    }

    /// The list of blocks has these. Its order is QEMU's own.
    fn check_blocks(&self, blocks: &[Entry<'_>]) {
        let start = &self.links[0].0[..512];
        for (name, len, page_size) in blocks {
            let mut entry = vec![u8::try_from(name.len()).unwrap()];
            entry.extend_from_slice(name);
            entry.extend(len.to_be_bytes());
            entry.extend(page_size.map(u64::to_be_bytes).into_iter().flatten());
            let found = start.windows(entry.len()).any(|bytes| bytes == entry);
            assert!(found, "{entry:x?} is not in {start:x?}");
        }
    }
}

/// A block as the list at the stream's start has it: name, length, and page size where it is told.
type Entry<'a> = (&'a [u8], u64, Option<u64>);

fn has_preempt() -> bool {
    !types::preempt_orders().is_empty()
}

/// The release that goes into file names.
fn release(machine: &Machine) -> String {
    let (major, minor) = Qemu::incoming(machine).release();
    format!("{major}.{minor}")
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn records_precopy() {
    let recording = Recording::take("precopy", &machine(), &[], 0);
    let [(forward, back)] = recording.links.as_slice() else {
        panic!("{} connections", recording.links.len());
    };
    assert!(forward.starts_with(MAIN) && back.is_empty());
    assert_eq!(forward.last(), Some(&b'}'));
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn records_postcopy() {
    let recording = Recording::take("plain", &machine(), &[POSTCOPY_RAM], 0);
    recording.check(&[MAIN], 0);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn records_the_preempt_channel() {
    if !has_preempt() {
        return;
    }
    let capabilities = [POSTCOPY_RAM, POSTCOPY_PREEMPT];
    let recording = Recording::take("preempt", &machine(), &capabilities, 0);
    // A page record: no magic, and offsets below 2^32 in this guest.
    recording.check(&[MAIN, &[0; 4]], 0);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn records_recovery() {
    let recording = Recording::take("recover", &machine(), &[POSTCOPY_RAM], 2);
    recording.check(&[MAIN, RECV_BITMAP, RECV_BITMAP], 2);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn records_recovery_of_both_channels() {
    if !has_preempt() {
        return;
    }
    let capabilities = [POSTCOPY_RAM, POSTCOPY_PREEMPT];
    // Urgent pages know no limit. From 10.2 on, the guest runs for a while before the source is in
    // postcopy-active: it must not have asked for everything by then. About 0.1 s for each pass.
    let guest = Guest {
        page_spin: 200_000,
        sweep: 64,
        ..Guest::mib(1, 1)
    };
    let machine = Machine::new(16, guest);
    let recording = Recording::take("preempt-recover", &machine, &capabilities, 1);
    recording.check(&[MAIN, &[0; 4], RECV_BITMAP, &[]], 2);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn records_the_oldest_machine_type() {
    let (release, kind) = types::oldest();
    let machine = machine().kind(&kind);
    let recording = Recording::take(&kind, &machine, &[POSTCOPY_RAM], 0);
    recording.check(&[MAIN], 0);
    // Up to 2.3 there is no configuration section: a command follows at once.
    let next = recording.links[0].0[MAIN.len()];
    assert_eq!(next, if release <= (2, 3) { 8 } else { 7 }, "{kind}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn records_several_blocks() {
    let blocks = vec![
        Ram::new("first", 2, Backing::Anonymous),
        Ram::new("shared", 14, Backing::Memfd),
    ];
    let machine = Machine::with_blocks(blocks, Guest::mib(1, 2));
    let recording = Recording::take("blocks", &machine, &[POSTCOPY_RAM], 0);
    recording.check(&[MAIN], 0);
    recording.check_blocks(&[(b"first", 2 << 20, None), (b"shared", 14 << 20, None)]);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn records_huge_pages() {
    let Some(_pool) =
        retpath_support::kernel::Pool::reserve(retpath_engine::memory::Backing::Huge2M, 10)
    else {
        return;
    };
    let blocks = vec![
        Ram::new("huge", 8, Backing::Huge),
        Ram::new("small", 8, Backing::Anonymous),
    ];
    let machine = Machine::with_blocks(blocks, Guest::mib(2, 2));
    let recording = Recording::take("huge", &machine, &[POSTCOPY_RAM], 0);
    recording.check(&[MAIN], 0);
    recording.check_blocks(&[(b"huge", 8 << 20, Some(2 << 20)), (b"small", 8 << 20, None)]);
}
