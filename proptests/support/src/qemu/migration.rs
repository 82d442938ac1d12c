//! Migration of a running [`Qemu`] over QMP: settings, commands, states and statistics.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::Qemu;
use super::qmp::QmpError;
use crate::SOON;

/// States that the migration does not leave by itself.
const FINAL: [&str; 4] = ["completed", "failed", "cancelled", PAUSED];

const PAUSED: &str = "postcopy-paused";

/// vCPU downtime in postcopy, as measured by the destination. Needs the capability
/// `postcopy-blocktime`.
#[derive(Clone, Debug, Default)]
pub struct Blocktime {
    /// Time in which all vCPUs were blocked at once, in ms.
    pub all: u64,
    /// Time in which each vCPU was blocked, in ms.
    pub vcpu: Vec<u64>,
    /// Mean latency of a fault in ns. QEMU 10.1 and newer.
    pub latency: Option<u64>,
    /// Faults per bucket; bucket i starts at 2^i µs. QEMU 10.1 and newer.
    pub distribution: Vec<u64>,
}

impl fmt::Display for Blocktime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocktime {} ms, per vCPU {:?} ms", self.all, self.vcpu)?;
        match self.latency {
            Some(ns) => write!(f, ", mean fault latency {} µs", ns / 1000),
            None => Ok(()),
        }
    }
}

impl Qemu {
    /// Enables capabilities.
    pub fn enable(&mut self, capabilities: &[&str]) {
        self.switch(capabilities, true);
    }

    /// Disables capabilities.
    pub fn disable(&mut self, capabilities: &[&str]) {
        self.switch(capabilities, false);
    }

    fn switch(&mut self, capabilities: &[&str], state: bool) {
        let one = |name: &&str| json!({ "capability": name, "state": state });
        let list: Vec<_> = capabilities.iter().map(one).collect();
        self.run("migrate-set-capabilities", json!({ "capabilities": list }));
    }

    /// Whether this build supports a capability.
    pub fn knows(&mut self, capability: &str) -> bool {
        let list = self.run("query-migrate-capabilities", json!({}));
        let named = |entry: &Value| entry["capability"] == capability;
        list.as_array().is_some_and(|list| list.iter().any(named))
    }

    /// Sets migration parameters, such as `json!({ "max-bandwidth": 1 << 20 })`.
    pub fn set(&mut self, parameters: Value) {
        self.run("migrate-set-parameters", parameters);
    }

    /// Returns the socket on which this QEMU listens after [`Qemu::listen`].
    pub fn socket(&self) -> PathBuf {
        self.folder().join("in")
    }

    /// Makes an incoming QEMU listen; capabilities must be set before.
    pub fn listen(&mut self) -> PathBuf {
        let path = self.socket();
        self.run("migrate-incoming", json!({ "uri": unix(&path) }));
        path
    }

    /// Starts an outgoing migration.
    pub fn migrate(&mut self, uri: &str) {
        self.run("migrate", json!({ "uri": uri }));
    }

    /// Stops the guest and saves the machine to a file, as `migrate "exec:cat >FILE"` does.
    ///
    /// The stream marks the guest as stopped, which a destination respects in precopy but not in
    /// postcopy.
    pub fn save(&mut self) -> PathBuf {
        self.stop();
        let path = self.folder().join("saved");
        let file = path.display();
        self.set(json!({ "max-bandwidth": 0 }));
        // QEMU completes once the pipe has the data; the rename marks the complete file.
        self.migrate(&format!("exec:cat >{file}.new && mv {file}.new {file}"));
        let limit = self.machine().patience();
        self.wait_status(&["completed"], limit);
        let end = Instant::now() + limit;
        while !path.exists() {
            if Instant::now() > end {
                self.fail("timed out waiting for the saved stream");
            }
            thread::sleep(Duration::from_millis(5));
        }
        path
    }

    /// Asks the source to switch to postcopy as soon as it can.
    pub fn start_postcopy(&mut self) {
        self.run("migrate-start-postcopy", json!({}));
    }

    /// Pauses a postcopy migration for recovery.
    pub fn pause(&mut self) {
        self.run("migrate-pause", json!({}));
    }

    /// Makes a paused destination listen again on the same socket.
    pub fn recover(&mut self) {
        let uri = unix(&self.socket());
        self.run("migrate-recover", json!({ "uri": uri }));
        self.resuming = true;
    }

    /// Like [`Qemu::recover`], for a destination that may already be recovering.
    pub fn try_recover(&mut self) {
        let uri = unix(&self.socket());
        self.resuming = true;
        if let Err(error @ (QmpError::Gone(_) | QmpError::Late(_))) =
            self.try_run("migrate-recover", json!({ "uri": uri }))
        {
            self.fail(&error.to_string());
        }
    }

    /// Waits until the migration was paused `count` times in total, whatever its current
    /// state.
    pub fn wait_pauses(&mut self, count: usize, within: Duration) {
        let end = Instant::now() + within;
        loop {
            let states = self.states().iter();
            let pauses = states.filter(|(state, _)| state == PAUSED).count();
            if pauses >= count {
                return;
            }
            if Instant::now() > end {
                self.fail_migration(&format!("{pauses} of {count} pauses after {within:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Makes a paused source resume the migration.
    pub fn resume(&mut self, uri: &str) {
        self.wait_parked();
        self.run("migrate", json!({ "uri": uri, "resume": true }));
        self.resuming = true;
    }

    /// Waits until the return-path thread of a paused source has detected the lost link. Up to 8.1, a
    /// thread that detects it later closes the new link instead, and QEMU crashes.
    fn wait_parked(&self) {
        let end = Instant::now() + SOON;
        let busy = |task: &Path| {
            let read = |name| fs::read_to_string(task.join(name)).unwrap_or_default();
            read("comm").trim() == "return path" && !read("wchan").contains("futex")
        };
        loop {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.program.id()));
            let tasks =
                tasks.unwrap_or_else(|error| self.fail(&format!("cannot list threads: {error}")));
            if !tasks.flatten().any(|task| busy(&task.path())) {
                return;
            }
            if Instant::now() > end {
                self.fail("the return-path thread did not detect the lost link");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Runs `query-migrate`.
    pub fn query_migrate(&mut self) -> Value {
        self.run("query-migrate", json!({}))
    }

    /// Returns the current migration state; empty before the first migration.
    pub fn status(&mut self) -> String {
        let info = self.query_migrate();
        info["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns every state the migration went through, with QEMU's clock in microseconds.
    pub fn states(&mut self) -> &[(String, u64)] {
        // All events before a command's answer arrive before the answer.
        self.status();
        self.sort_events();
        &self.history
    }

    /// Waits until the migration is in one of `states` and returns it. Fails early if it ends in
    /// another state.
    pub fn wait_status(&mut self, states: &[&str], within: Duration) -> String {
        let end = Instant::now() + within;
        loop {
            let now = self.status();
            self.sort_events();
            if states.contains(&now.as_str()) {
                return now;
            }
            self.resuming &= now == PAUSED;
            if FINAL.contains(&now.as_str()) && !self.resuming {
                self.fail_migration(&format!(
                    "the migration is {now}, expected one of {states:?}"
                ));
            }
            if Instant::now() > end {
                self.fail_migration(&format!(
                    "the migration is still {now} after {within:?}, expected one of {states:?}"
                ));
            }
            if let Err(error) = self.qmp.poll(Duration::from_millis(20)) {
                self.fail(&format!("waiting for {states:?}: {error}"));
            }
        }
    }

    /// Returns the vCPU downtime measured by a destination.
    pub fn blocktime(&mut self) -> Blocktime {
        let info = self.query_migrate();
        let list = |name: &str| -> Vec<u64> {
            let list = info[name].as_array();
            list.map(|list| list.iter().filter_map(Value::as_u64).collect())
                .unwrap_or_default()
        };
        if info["postcopy-blocktime"].is_null() {
            self.fail(&format!("no blocktime in {info}"));
        }
        Blocktime {
            all: info["postcopy-blocktime"].as_u64().unwrap_or_default(),
            vcpu: list("postcopy-vcpu-blocktime"),
            latency: info["postcopy-latency"].as_u64(),
            distribution: list("postcopy-latency-dist"),
        }
    }

    fn fail_migration(&mut self, why: &str) -> ! {
        let info = self.query_migrate();
        self.fail(&format!("{why}: {info}"))
    }

    /// Extracts migration states from the queued events.
    pub(super) fn sort_events(&mut self) {
        for event in self.qmp.events.drain(..) {
            if event["event"] != "MIGRATION" {
                continue;
            }
            let part = |name: &str| event["timestamp"][name].as_u64().unwrap_or_default();
            let state = event["data"]["status"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            self.history
                .push((state, part("seconds") * 1_000_000 + part("microseconds")));
        }
    }
}

/// Formats a socket path as a migration URI.
pub fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}
