//! Failed migrations: what is left, what is reported, and what the source does.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use retpath_codec::wire::capability::{
    COMPRESS, IGNORE_SHARED, MULTIFD, POSTCOPY_RAM, RETURN_PATH, XBZRLE,
};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use retpath_support::SOON;
use retpath_support::program::{Program, is_ignored};
use retpath_support::qemu::ground::{Ground, Small, left, machine};
use retpath_support::qemu::process::folder;
use retpath_support::qemu::relay::Way;
use retpath_support::qemu::{Qemu, types};

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn leaves_the_guest_running_when_it_is_stopped_before_the_switch() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &[]);
        ground.source.migrate(&ground.relay.uri());
        ground.relay.wait(SOON, "anything", |links| {
            links
                .iter()
                .any(|link| link.forward > 100_000)
                .then_some(())
        });
        ground.retpath.signal(signal);
        let message = ground.refusal();
        assert!(message.contains("stopped"), "{message}");
        assert!(
            message.contains("the source still has its guest"),
            "{message}"
        );
        ground.source.wait_status(&["failed"], SOON);
        assert_eq!(ground.source.run_state(), "running");
        ground.source.wait_healthy(5, SOON);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn returns_the_guest_when_it_is_stopped_after_the_switch() {
    let signals = [Signal::TERM, Signal::HUP, Signal::QUIT];
    for signal in signals.into_iter().filter(|one| !is_ignored(*one)) {
        let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &["--touch", "2000"]);
        ground
            .source
            .set(json!({ "max-postcopy-bandwidth": 1 << 20 }));
        ground.switch_for_good();
        ground.retpath.signal(signal);
        let (message, _) = ground.kept();
        assert!(message.contains("stopped by a signal"), "{message}");
        assert!(message.contains("nothing is lost"), "{message}");
        assert_given_back(&mut ground.source);
    }
}

/// The source runs its guest again, as the message says.
fn assert_given_back(source: &mut Qemu) {
    source.wait_status(&["failed"], SOON);
    // From 9.0 on it continues by itself.
    if source.release() < (9, 0) {
        source.wait_left(SOON);
        source.cont();
    }
    source.wait_healthy(5, SOON);
}

/// `retpath … 2>&1 | tee log`, as the foreground job of a terminal.
fn into_tee(args: &[&str]) -> Program {
    let mut command = Command::new("sh");
    // tee's output is standard error here, where the test reads it.
    let script = "\"$0\" \"$@\" 2>&1 >/dev/null | tee /dev/null >&2";
    command.args(["-c", script, env!("CARGO_BIN_EXE_retpath")]);
    command.args(args).process_group(0);
    Program::spawn(command)
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn returns_the_guest_when_ctrl_c_also_ends_the_reader_of_its_output() {
    if is_ignored(Signal::INT) {
        return;
    }
    let folder = folder();
    let out = folder.path().join("image");
    let source = Qemu::boot(&machine());
    let mut ground = Ground::with(into_tee, source, &out, folder, &[POSTCOPY_RAM], &[]);
    ground
        .source
        .set(json!({ "max-postcopy-bandwidth": 1 << 20 }));
    ground.switch_for_good();
    let group = i32::try_from(ground.retpath.id()).ok();
    let group = group.and_then(Pid::from_raw).expect("a process id");
    kill_process_group(group, Signal::INT).expect("it is there");
    assert_given_back(&mut ground.source);
    assert!(!out.exists());
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn ends_at_once_at_the_second_signal() {
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &[]);
    ground
        .source
        .set(json!({ "max-postcopy-bandwidth": 100_000 }));
    ground.switch_for_good();
    ground.retpath.signal(Signal::TERM);
    let end = Instant::now() + SOON;
    while !ground.retpath.errors().contains("received so far are kept") {
        assert!(Instant::now() < end, "{}", ground.retpath);
        thread::sleep(Duration::from_millis(5));
    }
    ground.retpath.signal(Signal::TERM);
    let status = ground.retpath.wait(SOON);
    assert_eq!(status.signal(), Some(15), "{}", ground.retpath);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn names_the_capability_that_cannot_be_received() {
    for capability in [MULTIFD, XBZRLE, COMPRESS, IGNORE_SHARED] {
        let mut source = Qemu::boot(&machine());
        if !source.knows(capability) {
            // 9.1 dropped one of them.
            assert_eq!(capability, COMPRESS);
            continue;
        }
        source.enable(&[capability]);
        let folder = folder();
        let out = folder.path().join("image");
        let mut ground = Ground::from(source, &out, folder, &[RETURN_PATH], &[]);
        // Pages have to be sent again.
        let limits = json!({ "max-bandwidth": 8 << 20, "downtime-limit": 1 });
        ground.source.set(limits);
        ground.source.migrate(&ground.relay.uri());
        let message = ground.refusal();
        println!("{capability}: {message}");
        assert!(message.contains(capability), "{message}");
        assert!(message.contains("nothing is lost"), "{message}");
        ground.source.wait_status(&["failed"], SOON);
        ground.source.wait_healthy(5, SOON);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn fails_when_nothing_marks_the_end_of_the_stream() {
    // Neither footers nor a description; with a return path the source does not close either.
    let what = "machine types without a description (2.2 and older)";
    let Some(kind) = types::up_to((2, 2), what) else {
        return;
    };
    let mut ground = Ground::new(&machine().kind(&kind), &[RETURN_PATH], &[]);
    ground.source.set(json!({ "max-bandwidth": 0 }));
    ground.source.migrate(&ground.relay.uri());
    let message = ground.refusal();
    assert!(message.contains("no data for 10 s"), "{message}");
    assert!(message.contains("return-path"), "{message}");
    assert!(message.contains("--accept-unproven-end"), "{message}");
    assert!(message.contains("nothing is lost"), "{message}");
    ground.source.wait_status(&["failed"], SOON);
    ground.source.wait_healthy(5, SOON);

    // A closed link does not prove the end either, and the source has the guest.
    let closing = |more: &[&str]| {
        let mut ground = Ground::new(&machine().kind(&kind), &[], more);
        ground.source.set(json!({ "max-bandwidth": 0 }));
        ground.source.stop();
        ground.source.migrate(&ground.relay.uri());
        ground
    };
    let mut ground = closing(&[]);
    let message = ground.refusal();
    assert!(message.contains("nothing proves"), "{message}");
    ground.source.wait_status(&["completed"], SOON);
    ground.source.cont();
    ground.source.wait_healthy(5, SOON);

    // The advice works.
    let report = closing(&["--accept-unproven-end"]).finish();
    assert_eq!(report["manifest"]["description"], serde_json::Value::Null);
    assert_eq!(report["manifest"]["end"], "unproven");
}

/// A link that one side can still use, but not the other: it is given up, and the migration taken up
/// again over a new one.
fn half_close(way: Way) {
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &["--touch", "2000"]);
    ground
        .source
        .set(json!({ "max-postcopy-bandwidth": 2 << 20 }));
    ground.switch_for_good();
    ground.source.wait_status(&["postcopy-active"], SOON);
    ground.relay.half_close(0, way);
    ground.source.wait_status(&["postcopy-paused"], SOON);
    let uri = ground.relay.uri();
    ground.source.resume(&uri);
    let report = ground.finish();
    assert_eq!(report["resumes"], 1);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn recovers_from_a_link_without_data() {
    half_close(Way::Forward);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn recovers_from_a_link_without_return_data() {
    half_close(Way::Back);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn reports_no_image_when_the_source_is_killed_before_the_switch() {
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &[]);
    ground.source.migrate(&ground.relay.uri());
    ground.relay.wait(SOON, "anything", |links| {
        links
            .iter()
            .any(|link| link.forward > 100_000)
            .then_some(())
    });
    ground.source.program().kill();
    let message = ground.refusal();
    assert!(message.contains("closed the connection"), "{message}");
    assert!(message.contains("no image was made"), "{message}");
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_received_pages_when_the_source_is_killed_after_the_switch() {
    let more = ["--touch", "2000", "--recover-timeout", "1"];
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &more);
    ground
        .source
        .set(json!({ "max-postcopy-bandwidth": 1 << 20 }));
    ground.switch_for_good();
    ground.source.program().kill();
    let (message, folder) = ground.kept();
    assert!(message.contains("no new link for 1 s"), "{message}");
    assert!(folder.join("unfinished.json").exists());
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn tells_the_source_when_the_disk_is_full() {
    let place = folder();
    let disk = place.path().join("disk");
    // The guest has 9 MiB that are not zero.
    let Some(_small) = Small::mount(&disk, 4) else {
        return;
    };
    let capabilities = [&[POSTCOPY_RAM][..], &[RETURN_PATH]];
    for (capabilities, postcopy) in capabilities.into_iter().zip([true, false]) {
        let out = disk.join("image");
        let mut ground = Ground::at(&out, folder(), &machine(), capabilities, &[]);
        if postcopy {
            ground.switch();
        } else {
            ground.source.set(json!({ "max-bandwidth": 0 }));
            ground.source.migrate(&ground.relay.uri());
        }
        assert_eq!(ground.retpath.wait(SOON).code(), Some(1));
        let message = ground.retpath.errors();
        assert!(message.contains("No space left"), "{message}");
        assert!(
            message.contains("disk space for all nonzero guest memory"),
            "{message}"
        );
        assert!(message.contains("nothing is lost"), "{message}");
        // After the switch the data received stays.
        let left = left(&disk);
        assert_eq!(left.len(), usize::from(postcopy), "{left:?}");
        for name in left {
            std::fs::remove_dir_all(disk.join(name)).expect("ours");
        }
        ground.source.wait_status(&["failed"], SOON);
        if postcopy && ground.source.release() < (9, 0) {
            ground.source.cont();
        }
        ground.source.wait_healthy(5, SOON);
    }
}
