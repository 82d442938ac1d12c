//! `retpath receive` and `retpath import` against real QEMU: what is in the image is what the
//! stopped source has in its memory.

#![cfg(feature = "cli")]

mod support;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use retpath_codec::BlockName;
use retpath_engine::image::Image;
use retpath_engine::source::PageSource;
use serde_json::{Value, json};
use tempfile::TempDir;

use support::SOON;
use support::program::Program;
use support::qemu::migration::unix;
use support::qemu::{Backing, Guest, Machine, Qemu, Ram, Relay};

/// What a guest of 16 MiB is moved with: 300 ms of it do not fit through, so that it never
/// converges; the rest takes about a second.
const PRECOPY: u64 = 1 << 20;
const POSTCOPY: u64 = 8 << 20;

fn machine() -> Machine {
    Machine::new(16, Guest::mib(1, 8))
}

/// A source whose guest runs, `retpath receive`, and a relay between them.
struct Ground {
    source: Qemu,
    retpath: Program,
    relay: Relay,
    folder: TempDir,
}

impl Ground {
    fn new(machine: &Machine, capabilities: &[&str], more: &[&str]) -> Self {
        let mut source = Qemu::boot(machine);
        source.enable(capabilities);
        source.set(json!({ "max-bandwidth": PRECOPY, "max-postcopy-bandwidth": POSTCOPY }));
        let folder = support::qemu::process::folder();
        let socket = folder.path().join("in");
        let (uri, out) = (unix(&socket), folder.path().join("image"));
        let mut args = vec!["receive", "--listen", &uri, "--out", text(&out)];
        args.extend(["--format", "json"]);
        args.extend(more);
        let retpath = Program::retpath(&args);
        let end = Instant::now() + SOON;
        while !socket.exists() {
            assert!(Instant::now() < end, "it does not listen\n{retpath}");
            thread::sleep(Duration::from_millis(5));
        }
        let relay = Relay::new(&socket);
        Self {
            source,
            retpath,
            relay,
            folder,
        }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Starts the migration, and switches after the first MiB.
    fn switch(&mut self) {
        self.source.migrate(&self.relay.uri());
        self.relay.wait(SOON, "the first round", |links| {
            let forward: u64 = links.iter().map(|link| link.forward).sum();
            (forward >= PRECOPY).then_some(())
        });
        self.source.start_postcopy();
    }

    /// Waits for the end, and compares every byte. Gives what was printed.
    fn finish(&mut self) -> Value {
        self.retpath.wait_success(SOON);
        self.source.wait_status(&["completed"], SOON);
        assert_eq!(self.source.run_state(), "postmigrate");
        let out = self.out();
        compare(&out, &mut self.source);
        assert_eq!(left(self.folder.path()), ["image"]);
        serde_json::from_str(&self.retpath.output()).expect("one JSON object")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the test's own paths are UTF-8")
}

/// What is in a folder but sockets.
fn left(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != "in").collect();
    names.sort();
    names
}

/// Every block of the image is the one of the stopped machine.
fn compare(image: &Path, source: &mut Qemu) {
    let image = Image::open(image).expect("a whole image");
    let blocks = source.blocks();
    assert_eq!(image.blocks().len(), blocks.len());
    let mut compared = 0;
    for (id, block) in image.blocks().iter().enumerate() {
        let name = String::from_utf8_lossy(block.name.name().as_bytes()).into_owned();
        let theirs = blocks.iter().find(|theirs| theirs.name == name);
        let theirs = theirs.unwrap_or_else(|| panic!("QEMU has no block {name}"));
        assert_eq!(block.len, theirs.len, "{name}");
        let ours = image
            .lend(id, 0, usize::try_from(block.len).expect("small"))
            .expect("all of it");
        // QEMU does not always tell where a small block lies.
        if theirs.host.is_some() {
            assert!(ours == source.block(theirs), "{name} differs");
            compared += 1;
        }
        if name == "pc.ram" {
            // Below the hole for video memory and BIOS, as the guest sees it.
            let physical = source.physical(0, 0xa0000);
            assert!(ours[..0xa0000] == physical, "the first 640 KiB differ");
            let physical = source.physical(1 << 20, block.len - (1 << 20));
            assert!(ours[1 << 20..] == physical, "what is above 1 MiB differs");
        }
    }
    assert!(compared > 0, "no block could be compared");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_every_byte_of_a_postcopy_migration() {
    let mut ground = Ground::new(&machine(), &["postcopy-ram"], &[]);
    ground.switch();
    let report = ground.finish();
    assert_eq!(report["ended_in"], "postcopy");
    let source = &report["manifest"]["source"];
    assert_eq!(source["postcopy"], true);
    assert_eq!(source["footers"], true);
    ground.source.assert_silent();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn fetches_touched_pages() {
    let mut ground = Ground::new(&machine(), &["postcopy-ram"], &["--touch", "2000"]);
    ground.switch();
    let report = ground.finish();
    println!("{report}");
    assert_eq!(report["touches"]["done"], 2000);
    let faults = report["faults"].as_u64().expect("a number");
    assert!(faults > 0, "no touch found its page missing: {report}");
    assert_eq!(report["latency"]["total"]["count"], faults);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn takes_urgent_pages_from_the_preempt_channel() {
    let capabilities = ["postcopy-ram", "postcopy-preempt"];
    let more = ["--preempt", "--touch", "500"];
    let mut ground = Ground::new(&machine(), &capabilities, &more);
    ground.switch();
    let report = ground.finish();
    println!("{report}");
    let links = ground.relay.links();
    assert_eq!(links.len(), 2, "{}", ground.relay);
    assert!(links[1].forward > 0, "{}", ground.relay);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn survives_five_cuts() {
    let mut ground = Ground::new(&machine(), &["postcopy-ram"], &["--touch", "2000"]);
    ground
        .source
        .set(json!({ "max-postcopy-bandwidth": 2 << 20 }));
    ground.switch();
    ground.source.wait_status(&["postcopy-active"], SOON);
    for cut in 1..=5 {
        ground.relay.cut_after(700_001);
        ground.relay.wait_cuts(cut, SOON);
        ground.source.wait_status(&["postcopy-paused"], SOON);
        let uri = ground.relay.uri();
        ground.source.resume(&uri);
        ground
            .source
            .wait_status(&["postcopy-active", "completed"], SOON);
    }
    let report = ground.finish();
    println!("{report}");
    assert_eq!(report["pauses"], 5);
    assert_eq!(report["resumes"], 5);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_migration_that_ends_in_precopy() {
    for capabilities in [&[][..], &["postcopy-ram"], &["return-path"]] {
        let mut ground = Ground::new(&machine(), capabilities, &[]);
        ground.source.set(json!({ "max-bandwidth": 0 }));
        ground.source.migrate(&ground.relay.uri());
        let report = ground.finish();
        assert_eq!(report["ended_in"], "precopy");
        let description = report["manifest"]["description"].as_u64();
        assert!(description > Some(1000), "{report}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_every_block() {
    let blocks = vec![
        Ram::new("first", 8, Backing::Anonymous),
        Ram::new("shared", 8, Backing::Memfd),
    ];
    let machine = Machine::with_blocks(blocks, Guest::mib(1, 13));
    let mut ground = Ground::new(&machine, &["postcopy-ram"], &["--touch", "200"]);
    ground.switch();
    ground.finish();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn imports_what_cat_saved() {
    for kind in ["pc", "q35", "pc-i440fx-2.3"] {
        let machine = machine().kind(kind);
        let mut source = Qemu::boot(&machine);
        let saved = source.save();
        let folder = support::qemu::process::folder();
        let out = folder.path().join("image");
        let mut retpath = Program::retpath(&["import", text(&saved), "--out", text(&out)]);
        retpath.wait_success(SOON);
        compare(&out, &mut source);
        let image = Image::open(&out).expect("a whole image");
        let footers = kind != "pc-i440fx-2.3";
        assert_eq!(image.manifest().source.footers, footers);
        let description = image.description().expect("a description");
        let description: Value = serde_json::from_slice(description).expect("JSON");
        assert!(description["devices"].is_array());
        // It ends where the devices do: with the footer of the last one.
        let state = image.device_state();
        assert_eq!(state[0], 4);
        if footers {
            assert_eq!(state[state.len() - 5], 0x7e);
        }
    }
}
