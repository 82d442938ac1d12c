//! Drives a QEMU source through a series of migrations, each with its own return path.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use retpath_codec::forward::Decoder;
use serde_json::json;
use tempfile::TempDir;

use crate::compare::Release;
use crate::forward::{Forward, Until};
use crate::qemu_verdict::{self, TRACES};
use crate::verdict::{End, Verdict};
use retpath_support::SOON;
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::process::folder;
use retpath_support::qemu::{Guest, Machine, Qemu};

/// A guest that is never started.
const GUEST: Guest = Guest {
    hot: 1,
    quiet: 1,
    sweep: 1,
    stride: 1,
    page_spin: 0,
    pass_spin: 0,
};

/// Bandwidth in bytes per second that keeps a source in postcopy long enough.
const SLOW: u64 = 1000;

/// How often to break a migration until it pauses.
const ATTEMPTS: usize = 5;

/// A QEMU process and the socket to which it migrates.
pub(crate) struct Judge {
    qemu: Qemu,
    listener: UnixListener,
    uri: String,
    /// The trace, read up to the current migration.
    log: File,
    release: Release,
    _folder: TempDir,
}

impl Judge {
    /// Starts QEMU with the capabilities that make it read a return path.
    pub(crate) fn start() -> Self {
        let folder = folder();
        let (socket, log) = (folder.path().join("to"), folder.path().join("log"));
        File::create(&log).expect("folder is writable");
        let log_path = log.to_str().expect("path is UTF-8");
        let mut args = vec!["-S", "-D", log_path];
        args.extend(TRACES.iter().flat_map(|trace| ["-trace", trace]));
        let mut qemu = Qemu::start("judge", &Machine::new(2, GUEST), &args);
        qemu.enable(&["return-path", "postcopy-ram"]);
        // Thousands of migrations would queue as many events.
        let events = json!([{ "capability": "events", "state": false }]);
        qemu.run(
            "migrate-set-capabilities",
            json!({ "capabilities": events }),
        );
        let listener = UnixListener::bind(&socket).expect("folder is writable");
        let plain = listener.set_nonblocking(true);
        plain.expect("setting socket flags succeeds");
        Self {
            release: qemu.release(),
            qemu,
            listener,
            uri: unix(&socket),
            log: File::open(&log).expect("file exists"),
            _folder: folder,
        }
    }

    /// Returns the release.
    pub(crate) fn release(&self) -> Release {
        self.release
    }

    /// Returns QEMU's standard error.
    pub(crate) fn words(&mut self) -> String {
        self.qemu.program().errors()
    }

    /// Starts a migration and returns its connection.
    pub(crate) fn precopy(&mut self) -> UnixStream {
        self.refresh();
        self.qemu.set(json!({ "max-bandwidth": 0 }));
        self.qemu.migrate(&self.uri);
        self.accept()
    }

    /// Starts a migration that switches to postcopy as soon as possible and then
    /// sends unrequested pages at `bandwidth` bytes per second; 0 means unlimited.
    pub(crate) fn postcopy(&mut self, bandwidth: u64) -> UnixStream {
        self.refresh();
        // Slow enough that precopy cannot complete before the switch.
        self.qemu.set(json!({ "max-bandwidth": 10 * SLOW }));
        self.bandwidth(bandwidth);
        self.qemu.migrate(&self.uri);
        self.qemu.start_postcopy();
        self.accept()
    }

    /// Starts a migration, breaks it right after the switch and resumes it up to
    /// the bitmap requests.
    pub(crate) fn recovery(&mut self) -> Forward {
        let decoder = self.paused();
        self.bandwidth(0);
        self.trace();
        self.qemu.resume(&self.uri);
        let mut second = Forward::resumed(&decoder, self.accept());
        let blocks = decoder.blocks().len();
        assert!(
            second.read(Until::Bitmaps(blocks)),
            "the source closed the connection"
        );
        second
    }

    /// Breaks a migration right after the switch, so that it pauses.
    fn paused(&mut self) -> Decoder {
        for _ in 0..ATTEMPTS {
            let mut forward = Forward::new(self.postcopy(SLOW), true);
            // A link that breaks earlier fails the migration: before the first page, or,
            // from 10.2 on, before PONG has told that the devices are loaded.
            for until in [Until::Switched, Until::Page] {
                assert!(forward.read(until), "the source closed the connection");
            }
            self.wait(&["postcopy-active"]);
            let decoder = forward.hang_up();
            self.wait(&["postcopy-paused", "failed"]);
            if self.qemu.status() == "postcopy-paused" {
                return decoder;
            }
            // 11.1 still fails now and then, and has its guest back.
            self.wait_over();
        }
        panic!("the migration failed {ATTEMPTS} times where it should pause");
    }

    /// Waits until the migration ended and was cleaned up; a migration started
    /// earlier would block the source for good.
    pub(crate) fn wait_over(&mut self) {
        self.wait(&["completed", "failed"]);
        let end = Instant::now() + SOON;
        while self.is_untidy() {
            assert!(
                Instant::now() < end,
                "timed out waiting for migration cleanup"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the migration still has a registered yank instance.
    fn is_untidy(&mut self) -> bool {
        // QEMU before 6.0 lacks the command.
        let list = self.qemu.try_run("query-yank", json!({}));
        let list = list.unwrap_or_default();
        let mut list = list.as_array().into_iter().flatten();
        list.any(|entry| entry["type"] == "migration")
    }

    /// Waits until the return-path thread ended and returns its verdict.
    pub(crate) fn verdict(&mut self) -> Verdict {
        let end = Instant::now() + SOON;
        let mut log = Vec::new();
        loop {
            log.extend(self.trace());
            let verdict = qemu_verdict::read(&log);
            if verdict.end != End::Open {
                return verdict;
            }
            assert!(
                Instant::now() < end,
                "return-path thread still runs:\n{verdict}"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns the trace written since the last call.
    pub(crate) fn trace(&mut self) -> Vec<u8> {
        let mut log = Vec::new();
        self.log.read_to_end(&mut log).expect("file is readable");
        log
    }

    /// Runs the guest briefly: a source must run between two migrations.
    fn refresh(&mut self) {
        let end = Instant::now() + SOON;
        while let Err(error) = self.qemu.try_run("cont", json!({})) {
            assert!(Instant::now() < end, "cannot continue the guest: {error}");
            thread::sleep(Duration::from_millis(1));
        }
        self.qemu.stop();
        self.trace();
    }

    fn bandwidth(&mut self, bandwidth: u64) {
        self.qemu
            .set(json!({ "max-postcopy-bandwidth": bandwidth }));
    }

    fn wait(&mut self, states: &[&str]) {
        let end = Instant::now() + SOON;
        loop {
            let now = self.qemu.status();
            if states.contains(&now.as_str()) {
                return;
            }
            assert!(
                Instant::now() < end,
                "state is {now}, expected one of {states:?}"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn accept(&self) -> UnixStream {
        let end = Instant::now() + SOON;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let plain = stream.set_nonblocking(false);
                    plain.expect("setting socket flags succeeds");
                    return stream;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("cannot accept: {error}"),
            }
            assert!(
                Instant::now() < end,
                "timed out waiting for the source to connect"
            );
            thread::sleep(Duration::from_micros(300));
        }
    }
}
