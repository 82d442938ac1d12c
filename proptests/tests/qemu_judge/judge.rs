//! A real QEMU source that hears one return path after the other.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::compare::Release;
use crate::forward::{Forward, Until};
use crate::theirs::{self, TRACES};
use crate::verdict::{End, Verdict};
use retpath_support::SOON;
use retpath_support::qemu::migration::unix;
use retpath_support::qemu::process::folder;
use retpath_support::qemu::{Guest, Machine, Qemu};

/// A guest that never gets to run.
const GUEST: Guest = Guest {
    hot: 1,
    quiet: 1,
    sweep: 1,
    stride: 1,
    page_spin: 0,
    pass_spin: 0,
};

/// Bytes per second at which a source stays in postcopy for as long as it must.
const SLOW: u64 = 1000;

/// A QEMU, and the socket to which it migrates.
pub(crate) struct Judge {
    qemu: Qemu,
    listener: UnixListener,
    uri: String,
    /// The trace. What has been read is what belongs to migrations before.
    log: File,
    release: Release,
    _folder: TempDir,
}

impl Judge {
    /// Starts a QEMU with the capabilities that make it read a return path.
    pub(crate) fn start() -> Self {
        let folder = folder();
        let (socket, log) = (folder.path().join("to"), folder.path().join("log"));
        File::create(&log).expect("the folder is ours");
        let log_path = log.to_str().expect("a name of our own");
        let mut args = vec!["-S", "-D", log_path];
        args.extend(TRACES.iter().flat_map(|trace| ["-trace", trace]));
        let mut qemu = Qemu::start("judge", &Machine::new(2, GUEST), &args);
        qemu.enable(&["return-path", "postcopy-ram"]);
        // Thousands of migrations would pile up as many events.
        let events = json!([{ "capability": "events", "state": false }]);
        qemu.run(
            "migrate-set-capabilities",
            json!({ "capabilities": events }),
        );
        let listener = UnixListener::bind(&socket).expect("the folder is ours");
        let plain = listener.set_nonblocking(true);
        plain.expect("a socket takes the flag");
        Self {
            release: qemu.release(),
            qemu,
            listener,
            uri: unix(&socket),
            log: File::open(&log).expect("has been created"),
            _folder: folder,
        }
    }

    /// The release.
    pub(crate) fn release(&self) -> Release {
        self.release
    }

    /// What it wrote to its standard error.
    pub(crate) fn words(&mut self) -> String {
        self.qemu.program().errors()
    }

    /// Starts a migration, and gives its connection.
    pub(crate) fn precopy(&mut self) -> UnixStream {
        self.refresh();
        self.qemu.set(json!({ "max-bandwidth": 0 }));
        self.qemu.migrate(&self.uri);
        self.accept()
    }

    /// The same, and switches as soon as it can; then pages that nobody asks
    /// for come at this many bytes per second, 0 for no limit.
    pub(crate) fn postcopy(&mut self, bandwidth: u64) -> UnixStream {
        self.refresh();
        // So slow that it cannot be done before it is told to switch.
        self.qemu.set(json!({ "max-bandwidth": 10 * SLOW }));
        self.bandwidth(bandwidth);
        self.qemu.migrate(&self.uri);
        self.qemu.start_postcopy();
        self.accept()
    }

    /// A migration that is broken off right after the switch and taken up
    /// again, up to where the bitmaps have been asked for.
    pub(crate) fn recovery(&mut self) -> Forward {
        let mut first = Forward::new(self.postcopy(SLOW), true);
        assert!(first.read(Until::Switched), "the source hangs up");
        let blocks = first.decoder().blocks().len();
        let decoder = first.hang_up();
        self.wait(&["postcopy-paused"]);
        self.bandwidth(0);
        self.trace();
        self.qemu.resume(&self.uri);
        let mut second = Forward::resumed(&decoder, self.accept());
        assert!(second.read(Until::Bitmaps(blocks)), "the source hangs up");
        second
    }

    /// Waits until the migration is over and tidied up: a source that is told
    /// to migrate in between never migrates again.
    pub(crate) fn wait_over(&mut self) {
        self.wait(&["completed", "failed"]);
        let end = Instant::now() + SOON;
        while self.is_untidy() {
            assert!(Instant::now() < end, "the migration is never tidied up");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether there is something left of a migration that could be yanked.
    fn is_untidy(&mut self) -> bool {
        // Not before QEMU 6.0.
        let list = self.qemu.try_run("query-yank", json!({}));
        let list = list.unwrap_or_default();
        let mut list = list.as_array().into_iter().flatten();
        list.any(|entry| entry["type"] == "migration")
    }

    /// Waits until the return path's thread has ended, and gives its verdict.
    pub(crate) fn verdict(&mut self) -> Verdict {
        let end = Instant::now() + SOON;
        let mut log = Vec::new();
        loop {
            log.extend(self.trace());
            let verdict = theirs::read(&log);
            if verdict.end != End::Open {
                return verdict;
            }
            assert!(Instant::now() < end, "the thread goes on:\n{verdict}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// What has been traced since the last look.
    pub(crate) fn trace(&mut self) -> Vec<u8> {
        let mut log = Vec::new();
        self.log.read_to_end(&mut log).expect("a file of ours");
        log
    }

    /// A source that has migrated migrates again only if it ran in between.
    fn refresh(&mut self) {
        let end = Instant::now() + SOON;
        while let Err(error) = self.qemu.try_run("cont", json!({})) {
            assert!(Instant::now() < end, "cannot be continued: {error}");
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
            assert!(Instant::now() < end, "is {now} instead of {states:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn accept(&self) -> UnixStream {
        let end = Instant::now() + SOON;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let plain = stream.set_nonblocking(false);
                    plain.expect("a socket takes the flag");
                    return stream;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("cannot accept: {error}"),
            }
            assert!(Instant::now() < end, "the source does not connect");
            thread::sleep(Duration::from_micros(300));
        }
    }
}
