//! Machines with a virtio-mem device, between real QEMUs and `retpath`: what is unplugged is never
//! sent, neither to an image nor from one, and everything else is whole.

#[allow(dead_code)] // each test program uses its part
use std::fs;
use std::ops::Range;
use std::path::Path;

use retpath_codec::BlockName;
use retpath_codec::wire::capability::{POSTCOPY_PREEMPT, POSTCOPY_RAM};
use retpath_engine::memory;
use retpath_engine::release::Release;
use retpath_engine::source::PageSource;
use retpath_image::Image as Opened;
use retpath_support::SOON;
use retpath_support::kernel::Pool;
use retpath_support::program::Program;
use retpath_support::qemu::ground::{Ground, compare, text};
use retpath_support::qemu::image::report;
use retpath_support::qemu::process::folder;
use retpath_support::qemu::virtio_mem::{Driver, Qtest, qtest};
use retpath_support::qemu::{Guest, Machine, Qemu, Relay, types};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// Bytes of a piece, and pieces of the device.
const PIECE: u64 = 2 * MIB;
const PIECES: u16 = 16;

/// The backing of the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Anonymous,
    /// Shared, where a page of zeros takes as much room as any other.
    Memfd,
    Huge,
}

/// A PC of 16 MiB with a virtio-mem device of 32 MiB.
fn machine(behind: Behind) -> Machine {
    let size = u64::from(PIECES) * PIECE;
    let backend = match behind {
        Behind::Anonymous => "ram",
        Behind::Memfd => "memfd,share=on",
        Behind::Huge => "memfd,share=on,hugetlb=on,hugetlbsize=2M",
    };
    let object = format!("memory-backend-{backend},id=vm0,size={size},reserve=off");
    let device = format!("virtio-mem-pci,memdev=vm0,block-size={PIECE},requested-size={size}");
    Machine::new(16, Guest::mib(1, 8)).args(&[
        "-m",
        "maxmem=1G",
        "-object",
        &object,
        "-device",
        &device,
    ])
}

/// A source with these pieces plugged, each filled with a byte of its own, and all others not.
fn source(machine: &Machine, plugged: &[Range<u16>]) -> Qemu {
    let place = folder();
    let socket = place.path().join("qtest");
    let more = qtest(&socket);
    let qemu = Qemu::start("source", machine, &more.each_ref().map(String::as_str));
    qemu.wait_said(machine.patience(), "fill its memory", |said| said.ready);
    let mut driver = Driver::start(&socket);
    assert_eq!(driver.piece, PIECE);
    for pieces in plugged {
        driver.plug(pieces.clone());
        for piece in pieces.clone() {
            driver.fill(piece, byte(piece));
        }
    }
    qemu
}

fn byte(piece: u16) -> u8 {
    u8::try_from(piece + 1).expect("few pieces")
}

fn is_plugged(plugged: &[Range<u16>], piece: u16) -> bool {
    plugged.iter().any(|pieces| pieces.contains(&piece))
}

/// None, all, and some of the pieces.
fn states() -> [Vec<Range<u16>>; 3] {
    [vec![], vec![0..8, 8..PIECES], vec![1..4, 9..10]]
}

/// `retpath receive` of a source with these pieces plugged.
fn ground(
    machine: &Machine,
    plugged: &[Range<u16>],
    capabilities: &[&str],
    more: &[&str],
) -> Ground {
    let place = folder();
    let out = place.path().join("image");
    let capabilities = [&[POSTCOPY_RAM], capabilities].concat();
    Ground::from(source(machine, plugged), &out, place, &capabilities, more)
}

/// Every plugged piece is in the image, and nothing of any other.
fn assert_image(out: &Path, plugged: &[Range<u16>]) {
    let image = Opened::open(out).expect("a whole image");
    let mut blocks = image.blocks().iter().enumerate();
    let id = blocks.find_map(|(id, block)| {
        let name = String::from_utf8_lossy(block.name.name().as_bytes());
        name.ends_with("/vm0").then_some(id)
    });
    let id = id.expect("the device's block");
    let size = usize::try_from(PIECE).expect("small");
    for piece in 0..PIECES {
        let mut bytes = vec![0; size];
        image
            .read(id, u64::from(piece) * PIECE, &mut bytes)
            .expect("inside");
        let want = if is_plugged(plugged, piece) {
            byte(piece)
        } else {
            0
        };
        assert!(bytes.iter().all(|byte| *byte == want), "piece {piece}");
    }
    let count: u64 = plugged.iter().map(|pieces| pieces.len() as u64).sum();
    assert_eq!(image.stored(id), count * PIECE);
    // A destination needs it before the first page.
    let machine = image.manifest().machine.as_deref().expect("its type");
    let early = Release::of(machine) >= "8.0".parse().ok();
    assert_eq!(!image.early_state().is_empty(), early);
    let unplugged: u64 = image.unplugged().iter().map(|part| part.len).sum();
    assert_eq!(unplugged, (u64::from(PIECES) - count) * PIECE);
}

/// Every plugged piece is in the QEMU's memory, of which nothing else is taken.
fn assert_memory(qemu: &mut Qemu, behind: Behind, plugged: &[Range<u16>]) {
    let count: u64 = plugged.iter().map(|pieces| pieces.len() as u64).sum();
    if behind != Behind::Anonymous {
        let taken = resident(qemu.program().id());
        assert_eq!(taken, count * PIECE, "bytes of the device's memory");
    }
    for piece in plugged.iter().cloned().flatten() {
        let bytes = qemu.physical((4 << 30) + u64::from(piece) * PIECE, PIECE);
        assert!(
            bytes.iter().all(|found| *found == byte(piece)),
            "piece {piece}"
        );
    }
}

/// Bytes of memfds that a process has in its memory.
fn resident(process: u32) -> u64 {
    let path = format!("/proc/{process}/smaps");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut inside = false;
    let mut total = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Rss:" | "Shared_Hugetlb:" | "Private_Hugetlb:") if inside => {
                let kib: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                total += kib << 10;
            }
            Some(word) if word.contains('-') => inside = line.contains("memfd:"),
            _ => {}
        }
    }
    total
}

/// Waits for the end of `retpath receive`, and compares every byte of every block with what was
/// sent, and with what the source has. No page of an unplugged piece was sent.
fn received(ground: &mut Ground, behind: Behind, plugged: &[Range<u16>]) -> Value {
    let report = ground.wait_ended();
    let mut sent = ground.relay.ram(&ground.source.huge_blocks());
    let piece = usize::try_from(PIECE).expect("small");
    for at in (0..PIECES).filter(|at| !is_plugged(plugged, *at)) {
        sent.leave_out(&device_block(&sent), usize::from(at) * piece, piece);
    }
    compare(&ground.out(), &sent);
    // Reading there takes a huge page for what has none.
    if behind != Behind::Huge {
        ground.source.assert_ram(&sent);
    }
    assert_image(&ground.out(), plugged);
    let count: u64 = plugged.iter().map(|pieces| pieces.len() as u64).sum();
    let pages = (u64::from(PIECES) - count) * PIECE / 4096;
    assert_eq!(report["pages"]["unplugged"], pages);
    report
}

fn device_block(ram: &retpath_support::qemu::stream::Ram) -> String {
    let mut names = ram.blocks().iter().map(|block| block.name.clone());
    let own = names.find(|name| name.ends_with("/vm0"));
    own.expect("the device's block")
}

/// Receives a postcopy migration, serves the image, and compares both.
fn there_and_back(machine: &Machine, behind: Behind, plugged: &[Range<u16>], preempt: bool) {
    let (capabilities, option): (&[&str], &[&str]) = match preempt {
        true => (&[POSTCOPY_PREEMPT], &["--preempt"]),
        false => (&[], &[]),
    };
    let more = [&["--touch", "200"], option].concat();
    let mut ground = ground(machine, plugged, capabilities, &more);
    ground.switch();
    let report = received(&mut ground, behind, plugged);
    assert_eq!(report["ended_in"], "postcopy");

    let image = ground.into_image();
    let (mut qemu, uri) = image.destination(capabilities);
    let mut served = image.serve(&[&uri], option);
    finish(&mut qemu, &mut served);
    assert_memory(&mut qemu, behind, plugged);
    qemu.assert_silent();
}

fn finish(qemu: &mut Qemu, served: &mut Program) -> Value {
    qemu.wait_status(&["completed"], SOON);
    served.wait_success(SOON);
    qemu.wait_healthy(5, SOON);
    report(served)
}

fn not_in_this_qemu() -> bool {
    let missing = types::release() < (6, 2);
    if missing {
        types::not_tested("unplugged memory that is not sent (6.2 and newer)");
    }
    missing
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn transfers_plugged_unplugged_and_partly_plugged_memory() {
    if not_in_this_qemu() {
        return;
    }
    for plugged in states() {
        for behind in [Behind::Anonymous, Behind::Memfd] {
            there_and_back(&machine(behind), behind, &plugged, false);
        }
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn transfers_unplugged_memory_with_a_preempt_channel() {
    for (kind, _) in types::preempt_orders() {
        let machine = machine(Behind::Memfd).kind(&kind);
        there_and_back(&machine, Behind::Memfd, &[1..4, 9..10], true);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn uses_no_huge_page_for_unplugged_memory() {
    if not_in_this_qemu() {
        return;
    }
    // The plugged pieces at one side at a time, and one page to put another together.
    let plugged = vec![1..4, 9..10];
    let Some(_pool) = Pool::reserve(memory::Backing::Huge2M, 4 * 2 + 1) else {
        return;
    };
    there_and_back(&machine(Behind::Huge), Behind::Huge, &plugged, false);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn imports_a_saved_machine() {
    if not_in_this_qemu() {
        return;
    }
    for plugged in states() {
        let mut source = source(&machine(Behind::Anonymous), &plugged);
        let saved = source.save();
        let place = folder();
        let out = place.path().join("image");
        let args = ["import", text(&saved), "--out", text(&out)];
        Program::retpath(&args).wait_success(SOON);
        assert_image(&out, &plugged);
    }
}

/// With the capability, pages that are missing count in precopy, too.
#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn receives_a_migration_that_ends_in_precopy() {
    if not_in_this_qemu() {
        return;
    }
    for plugged in states() {
        let mut ground = ground(&machine(Behind::Anonymous), &plugged, &[], &[]);
        ground.source.stop();
        ground.source.set(json!({ "max-bandwidth": 0 }));
        ground.source.migrate(&ground.relay.uri());
        let report = received(&mut ground, Behind::Anonymous, &plugged);
        assert_eq!(report["ended_in"], "precopy");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn receives_over_links_that_break() {
    if not_in_this_qemu() {
        return;
    }
    let plugged = vec![1..4, 9..10];
    let machine = machine(Behind::Memfd);
    let mut ground = ground(&machine, &plugged, &[], &["--touch", "500"]);
    let slow = json!({ "max-postcopy-bandwidth": 2 << 20 });
    ground.source.set(slow);
    ground.switch();
    ground.source.wait_status(&["postcopy-active"], SOON);
    for cut in 1..=3 {
        ground.relay.cut_after(700_001);
        ground.relay.wait_cuts(cut, SOON);
        ground.source.wait_status(&["postcopy-paused"], SOON);
        let uri = ground.relay.uri();
        ground.source.resume(&uri);
        ground
            .source
            .wait_status(&["postcopy-active", "completed"], SOON);
    }
    let report = received(&mut ground, Behind::Memfd, &plugged);
    assert_eq!(report["resumes"], 3);
}

/// A QEMU that reads unplugged memory places zeros there, and says after a cut that it has received
/// them.
#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn serves_over_links_that_break() {
    if not_in_this_qemu() {
        return;
    }
    let plugged = vec![1..4, 9..10];
    let machine = machine(Behind::Anonymous);
    let mut ground = ground(&machine, &plugged, &[], &[]);
    ground.switch();
    received(&mut ground, Behind::Anonymous, &plugged);
    let image = ground.into_image();

    let place = folder();
    let socket = place.path().join("qtest");
    let more = qtest(&socket);
    let mut arguments = vec!["-incoming", "defer"];
    arguments.extend(more.iter().map(String::as_str));
    let mut qemu = Qemu::start("destination", &machine, &arguments);
    qemu.enable(&[POSTCOPY_RAM]);
    let relay = Relay::new(&qemu.listen());
    let mut served = image.serve(&[&relay.uri()], &["--bandwidth", "2M"]);
    qemu.wait_arrived(SOON);
    let mut memory = Qtest::connect(&socket);
    for piece in (0..PIECES).filter(|piece| !is_plugged(&plugged, *piece)) {
        assert_eq!(memory.read((4 << 30) + u64::from(piece) * PIECE + 4096), 0);
    }
    relay.cut();
    for cut in 1..=3 {
        relay.wait_cuts(cut, SOON);
        qemu.wait_pauses(cut, SOON);
        if cut < 3 {
            relay.cut_after(700_001);
        }
        qemu.try_recover();
    }
    finish(&mut qemu, &mut served);
    assert_memory(&mut qemu, Behind::Anonymous, &plugged);
}

/// The process that continues finds the unplugged memory in the device state of the first.
#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn continues_after_sigkill_with_memory_unplugged() {
    if not_in_this_qemu() {
        return;
    }
    let plugged = vec![1..4, 9..10];
    let machine = machine(Behind::Memfd);
    let mut ground = ground(&machine, &plugged, &[], &["--touch", "500"]);
    let slow = json!({ "max-postcopy-bandwidth": 1 << 20 });
    ground.source.set(slow);
    ground.switch_for_good();
    ground.source.wait_status(&["postcopy-active"], SOON);
    let before = ground.relay.forwarded();
    ground.relay.wait(SOON, "pages", |links| {
        let forward: u64 = links.iter().map(|link| link.forward).sum();
        (forward > before + 500_000).then_some(())
    });
    ground.retpath.kill();
    let left = ground.left_by_the_process();
    ground.source.wait_status(&["postcopy-paused"], SOON);
    ground.go_on(&left);
    let uri = ground.relay.uri();
    ground.source.resume(&uri);
    ground
        .source
        .wait_status(&["postcopy-active", "completed"], SOON);
    received(&mut ground, Behind::Memfd, &plugged);
}
