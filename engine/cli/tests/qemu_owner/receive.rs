//! `retpath receive` at each of its phases, and what fails there.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use retpath_codec::wire::capability::{POSTCOPY_RAM, RETURN_PATH};
use rustix::process::Signal;
use serde_json::json;

use crate::serve::boot;
use crate::table::{Cure, Failure, Outcome, Phase, Row, State};
use retpath_support::SOON;
use retpath_support::program::Program;
use retpath_support::qemu::ground::{Ground, left, machine, text};
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::process::folder;
use retpath_support::qemu::relay::Way;
use retpath_support::qemu::{Qemu, types};

/// The command in front of the package with the device state.
pub(crate) const PACKAGED: &[u8] = &[8, 0, 7, 0, 4];

/// The end of the return path: all is well.
pub(crate) const SHUT: &[u8] = &[0, 1, 0, 4, 0, 0, 0, 0];

/// Tests a row.
pub(crate) fn run(row: &Row) {
    let outcome = row.outcome(types::release());
    let mut ground = reach(row, outcome);
    fail(row, outcome, &mut ground);
    settle(&mut ground.source, outcome.state);
    cure(outcome, ground);
}

/// Brings the migration to the point of the failure.
fn reach(row: &Row, outcome: Outcome) -> Ground {
    let Row { phase, failure, .. } = *row;
    let mut source = Qemu::boot(&machine());
    let precopy = phase == Phase::PrecopyEnd;
    if precopy && outcome.cure == Cure::Serve {
        // See `retpath_support::qemu`.
        source.stop();
    }
    let capabilities: &[&str] = match precopy {
        true => &[RETURN_PATH],
        false => &[POSTCOPY_RAM],
    };
    let more: &[&str] = match failure {
        Failure::LinkGone => &["--recover-timeout", "1"],
        _ => &[],
    };
    let folder = folder();
    let out = folder.path().join("image");
    let start = |args: &[&str]| match injection(row) {
        Some(inject) => Program::retpath_with(inject, args),
        None => Program::retpath(args),
    };
    let mut ground = Ground::with(start, source, &out, folder, capabilities, more);
    match phase {
        Phase::Precopy => {
            ground.source.migrate(&ground.relay.uri());
            ground.relay.wait(SOON, "the first pages", |links| {
                links
                    .iter()
                    .any(|link| link.forward > 100_000)
                    .then_some(())
            });
        }
        Phase::PrecopyEnd => {
            ground.source.set(json!({ "max-bandwidth": 0 }));
            prepare_end(failure, &ground);
            ground.source.migrate(&ground.relay.uri());
        }
        Phase::Switch if injection(row).is_some() => ground.switch(),
        Phase::Switch => {
            ground.relay.hold(Way::Forward, PACKAGED);
            ground.switch();
            // Up to 10.1, a source whose link breaks while it writes the package fails instead of
            // pausing: let it come to the pages.
            ground.relay.wait_held(SOON, is_whole);
            // PONG 2: what comes in front of the package has been read.
            ground.relay.wait(SOON, "PONG 2", |links| {
                links.iter().any(|link| link.back >= 2 * 8).then_some(())
            });
        }
        Phase::Postcopy => {
            let slow = json!({ "max-postcopy-bandwidth": 1 << 20 });
            ground.source.set(slow);
            ground.switch_for_good();
            ground.source.wait_status(&["postcopy-active"], SOON);
        }
        Phase::PostcopyEnd => {
            prepare_end(failure, &ground);
            ground.switch();
        }
        Phase::Received => {
            ground.switch();
            ground.finish();
        }
        other => panic!("{other} is not a phase of `receive`"),
    }
    if is_end(phase) && holds_shut(failure) {
        ground.relay.wait_held(SOON, |_| true);
    }
    ground
}

/// Whether the whole package and a page after it have arrived.
fn is_whole(held: &[u8]) -> bool {
    let Some(len) = held.get(PACKAGED.len()..).and_then(<[u8]>::first_chunk) else {
        return false;
    };
    let len = usize::try_from(u32::from_be_bytes(*len)).expect("a package fits into memory");
    held.len() >= PACKAGED.len() + 4 + len + 4096
}

/// What strace does to `retpath receive` so that it fails at this point.
fn injection(row: &Row) -> Option<&'static str> {
    let end = is_end(row.phase);
    match row.failure {
        Failure::NoRoomForDevices => Some("fsync:error=ENOSPC:when=2"),
        // As the memory is synced: after the switch, behind both files of device state, and
        // `unfinished.json` before and after them.
        Failure::NoRoomForMemory if row.phase == Phase::PostcopyEnd => {
            Some("fsync:error=ENOSPC:when=5")
        }
        Failure::NoRoomForMemory => Some("fsync:error=ENOSPC:when=1"),
        Failure::NoRoomForName => Some("renameat2:error=ENOSPC"),
        Failure::Terminated if row.phase == Phase::PostcopyEnd => Some("fsync:signal=TERM:when=5"),
        Failure::Terminated if end => Some("fsync:signal=TERM:when=1"),
        Failure::Killed if end => Some("renameat2:signal=KILL"),
        _ => None,
    }
}

fn is_end(phase: Phase) -> bool {
    matches!(phase, Phase::PrecopyEnd | Phase::PostcopyEnd)
}

/// Whether the failure happens when SHUT is on its way.
fn holds_shut(failure: Failure) -> bool {
    matches!(failure, Failure::LinkCut | Failure::SourceKilled)
}

/// Prepares the failure before the last page arrives.
fn prepare_end(failure: Failure, ground: &Ground) {
    if holds_shut(failure) {
        ground.relay.hold(Way::Back, SHUT);
    }
    if failure == Failure::NameTaken {
        fs::create_dir(ground.out()).expect("the folder is ours");
    }
}

/// Causes the failure, and waits for the end of `receive` unless it continues.
fn fail(row: &Row, outcome: Outcome, ground: &mut Ground) {
    match row.failure {
        Failure::LinkCut | Failure::LinkGone => ground.relay.cut(),
        Failure::SourceKilled => {
            ground.source.program().kill();
            ground.relay.cut();
        }
        _ if injection(row).is_some() => {}
        Failure::Terminated => {
            ground.retpath.signal(Signal::TERM);
            wait_said(&mut ground.retpath, "stopped by a signal");
            ground.source.set(json!({ "max-postcopy-bandwidth": 0 }));
            ground.relay.release();
        }
        Failure::Killed => {
            ground.retpath.kill();
            ground.relay.release();
        }
        Failure::NameTaken => {}
        other => panic!("{other}: not at `receive`"),
    }
    // It waits for a new link.
    if matches!(outcome.cure, Cure::Resume | Cure::GiveBack) {
        return;
    }
    if row.failure == Failure::SourceKilled && wait_said(&mut ground.retpath, "waiting up to") {
        // It waits minutes for a new link.
        ground.retpath.signal(Signal::TERM);
    }
    let status = ground.retpath.wait(SOON);
    // Exit code 0 and the image's name go together.
    let is_image = ground.out().join("manifest.json").exists();
    assert_eq!(status.success(), is_image, "{}", ground.retpath);
}

/// Waits for a message of `receive`; returns false if it ends before.
fn wait_said(retpath: &mut Program, what: &str) -> bool {
    let end = Instant::now() + SOON;
    while retpath.ended().is_none() {
        if retpath.errors().contains(what) {
            return true;
        }
        assert!(Instant::now() < end, "{what}: not said\n{retpath}");
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Waits until QEMU is in this state.
pub(crate) fn settle(qemu: &mut Qemu, expected: State) {
    let end = Instant::now() + SOON;
    loop {
        let now = state(qemu);
        let is = match (&now, expected) {
            (Some((migration, run)), State::Is(m, r)) => migration == m && run == r,
            (now, State::Ended) => now.is_none(),
            (None, State::Is(..)) => false,
        };
        if is {
            return;
        }
        if Instant::now() > end {
            qemu.fail(&format!("{now:?} instead of {expected}"));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The answers to `query-migrate` and `query-status`; `None` once the process has ended.
fn state(qemu: &mut Qemu) -> Option<(String, String)> {
    let mut ask = |command: &str| {
        let answer = qemu.try_run(command, json!({})).ok()?;
        Some(answer["status"].as_str().unwrap_or_default().to_owned())
    };
    match (ask("query-migrate"), ask("query-status")) {
        (Some(migration), Some(run)) => Some((migration, run)),
        _ => {
            qemu.program().wait(SOON);
            None
        }
    }
}

/// Makes a paused source resume over a new link.
fn resume(ground: &mut Ground) {
    ground.source.set(json!({ "max-postcopy-bandwidth": 0 }));
    let uri = ground.relay.uri();
    ground.source.resume(&uri);
}

/// Starts another `receive` with the folder that was left.
fn go_on(ground: &mut Ground) {
    let left = left_behind(ground);
    let uri = unix(&ground.folder.path().join("in"));
    let args = ["receive", "--continue", text(&left), "--listen", &uri];
    ground.retpath = Program::retpath(&args);
    ground
        .retpath
        .wait_error(SOON, |line| line.contains("listening on").then_some(()));
}

/// Makes a paused source send everything again, after which it is told that it may run its guest.
fn give_back(ground: &mut Ground) {
    resume(ground);
    assert_eq!(
        ground.retpath.wait(SOON).code(),
        Some(1),
        "{}",
        ground.retpath
    );
    // The data received stays: nothing proves that the source has read SHUT(1).
    assert!(left_behind(ground).exists());
    ground.source.wait_status(&["failed"], SOON);
    ground.source.cont();
    ground.source.wait_healthy(3, SOON);
}

/// The folder that `receive` has left under another name than the image's.
fn left_behind(ground: &Ground) -> PathBuf {
    let mut names = left(ground.folder.path());
    names.retain(|name| name != "image");
    match names.as_slice() {
        [name] => ground.folder.path().join(name),
        other => panic!("not one folder: {other:?}\n{}", ground.retpath),
    }
}

/// Does what makes the guest run, and waits until it runs.
fn cure(outcome: Outcome, mut ground: Ground) {
    match outcome.cure {
        Cure::Runs => ground.source.wait_healthy(3, SOON),
        Cure::Cont => {
            ground.source.cont();
            ground.source.wait_healthy(3, SOON);
        }
        Cure::Resume => {
            resume(&mut ground);
            ground.retpath.wait_success(SOON);
            ground.source.wait_status(&["completed"], SOON);
            boot(&ground.into_image());
        }
        Cure::Continue => {
            go_on(&mut ground);
            resume(&mut ground);
            ground.retpath.wait_success(SOON);
            ground.source.wait_status(&["completed"], SOON);
            boot(&ground.into_image());
        }
        Cure::GiveBack => give_back(&mut ground),
        Cure::ContinueBack => {
            go_on(&mut ground);
            give_back(&mut ground);
        }
        Cure::Complete => {
            let left = left_behind(&ground);
            ground.retpath = Program::retpath(&["receive", "--continue", text(&left)]);
            ground.retpath.wait_success(SOON);
            boot(&ground.into_image());
        }
        Cure::ServeKept => {
            let left = left_behind(&ground);
            let told = ground.retpath.errors().contains(text(&left));
            assert!(told, "its name is not told: {}", ground.retpath);
            if ground.out().exists() {
                fs::remove_dir(ground.out()).expect("it is empty, and ours");
            }
            fs::rename(left, ground.out()).expect("the folder is ours");
            boot(&ground.into_image());
        }
        Cure::Serve => boot(&ground.into_image()),
        Cure::Nothing => {
            // It is lost, as the table says.
            assert!(!ground.out().join("manifest.json").exists());
            assert!(ground.source.try_run("cont", json!({})).is_err());
        }
        other => panic!("{other}: not after `receive`"),
    }
}
