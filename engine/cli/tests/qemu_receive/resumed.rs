//! `receive --continue`: another process continues a postcopy migration.

use retpath_codec::wire::capability::{POSTCOPY_PREEMPT, POSTCOPY_RAM, RETURN_PATH};
use rustix::process::Signal;
use serde_json::json;

use retpath_support::SOON;
use retpath_support::qemu::ground::{Ground, left, machine};
use retpath_support::qemu::types;

/// A source in postcopy that sends 1 MiB in a second, and has sent some.
fn switched(ground: &mut Ground) {
    ground
        .source
        .set(json!({ "max-postcopy-bandwidth": 1 << 20 }));
    ground.switch_for_good();
    // From 10.2 on, the source takes a cut for a failure before it is in this state.
    ground.source.wait_status(&["postcopy-active"], SOON);
    let before = ground.relay.forwarded();
    ground.relay.wait(SOON, "pages", |links| {
        let forward: u64 = links.iter().map(|link| link.forward).sum();
        (forward > before + 500_000).then_some(())
    });
}

/// Continues with another process, and resumes the source; returns the report.
fn go_on(ground: &mut Ground) -> serde_json::Value {
    let folder = ground.left_by_the_process();
    ground.source.wait_status(&["postcopy-paused"], SOON);
    ground.go_on(&folder);
    let uri = ground.relay.uri();
    ground.source.resume(&uri);
    ground
        .source
        .wait_status(&["postcopy-active", "completed"], SOON);
    folder
        .exists()
        .then(|| ground.source.set(json!({ "max-postcopy-bandwidth": 0 })));
    ground.finish()
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn loses_nothing_when_it_is_killed_in_postcopy() {
    for more in [&[][..], &["--touch", "500"]] {
        let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], more);
        switched(&mut ground);
        // By now the pages of precopy have been recorded.
        ground.retpath.kill();
        let report = go_on(&mut ground);
        println!("{report}");
        assert_eq!(report["ended_in"], "postcopy");
        assert_eq!(report["manifest"]["source"]["switched"], true);
        // It did not start again: only pages of the last tenths of a second are sent twice.
        let blocks = report["manifest"]["blocks"].as_array().expect("a list");
        let bytes = blocks.iter().filter_map(|block| block["length"].as_u64());
        let pages = report["pages"]["sweep"].as_u64().expect("a number");
        assert!(pages < bytes.sum::<u64>() / 4096 - 64, "{report}");
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn loses_nothing_when_it_is_killed_repeatedly() {
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &[]);
    switched(&mut ground);
    for _ in 0..3 {
        ground.retpath.kill();
        let name = left(ground.folder.path());
        let [name] = &name[..] else {
            panic!("{name:?}")
        };
        let folder = ground.folder.path().join(name);
        ground.source.wait_status(&["postcopy-paused"], SOON);
        ground.go_on(&folder);
        let uri = ground.relay.uri();
        let before = ground.relay.forwarded();
        ground.source.resume(&uri);
        ground.source.wait_status(&["postcopy-active"], SOON);
        ground.relay.wait(SOON, "pages", |links| {
            let forward: u64 = links.iter().map(|link| link.forward).sum();
            (forward > before + 500_000).then_some(())
        });
    }
    ground.source.set(json!({ "max-postcopy-bandwidth": 0 }));
    ground.finish();
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn loses_nothing_with_a_preempt_channel() {
    for (kind, _) in types::preempt_orders() {
        let capabilities = [POSTCOPY_RAM, POSTCOPY_PREEMPT];
        let more = ["--preempt", "--touch", "500"];
        let mut ground = Ground::new(&machine().kind(&kind), &capabilities, &more);
        switched(&mut ground);
        ground.retpath.kill();
        let report = go_on(&mut ground);
        assert_eq!(report["manifest"]["source"]["preempt"], true);
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn can_continue_after_the_recover_timeout() {
    let more = ["--touch", "2000", "--recover-timeout", "1"];
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &more);
    switched(&mut ground);
    ground.relay.cut();
    let (message, _) = ground.kept();
    assert!(message.contains("no new link for 1 s"), "{message}");
    ground.source.wait_status(&["postcopy-paused"], SOON);
    // The source alone cannot continue.
    assert!(ground.source.try_run("cont", json!({})).is_err());
    go_on(&mut ground);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn can_continue_after_two_signals() {
    let mut ground = Ground::new(&machine(), &[POSTCOPY_RAM], &[]);
    switched(&mut ground);
    ground.retpath.signal(Signal::TERM);
    ground.retpath.wait_error(SOON, |line| {
        line.contains("received so far are kept").then_some(())
    });
    ground.retpath.signal(Signal::TERM);
    ground.retpath.wait(SOON);
    go_on(&mut ground);
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn keeps_a_complete_image_when_its_name_is_taken() {
    for postcopy in [true, false] {
        let capabilities = [POSTCOPY_RAM, RETURN_PATH];
        let mut ground = Ground::new(&machine(), &capabilities, &[]);
        if postcopy {
            ground.switch();
        } else {
            ground.source.set(json!({ "max-bandwidth": 0 }));
            ground.source.stop();
            ground.source.migrate(&ground.relay.uri());
        }
        std::fs::create_dir(ground.out()).expect("not there yet");
        let status = ground.retpath.wait(SOON);
        assert_eq!(status.code(), Some(1), "{}", ground.retpath);
        let errors = ground.retpath.errors();
        let other = ground.folder.path().join("image-2");
        for word in [
            "the image is complete",
            "exists already",
            &other.display().to_string(),
        ] {
            assert!(errors.contains(word), "{word}: {errors}");
        }
        ground.source.wait_status(&["completed"], SOON);
        let sent = ground.relay.ram(&[]);
        retpath_support::qemu::ground::compare(&other, &sent);
        assert_eq!(left(ground.folder.path()), ["image", "image-2"]);
    }
}
