//! Migration of a running [`Qemu`]: settings, commands, states and figures, as QMP has them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::Qemu;
use super::qmp::QmpError;
use crate::SOON;

/// States in which nothing more will happen by itself.
const FINAL: [&str; 4] = ["completed", "failed", "cancelled", PAUSED];

const PAUSED: &str = "postcopy-paused";

/// How long vCPUs stood still in postcopy, as the destination counts it. Needs the capability
/// `postcopy-blocktime`.
#[derive(Clone, Debug, Default)]
pub struct Blocktime {
    /// Time in which all vCPUs stood still at once, in ms.
    pub all: u64,
    /// Time in which each vCPU stood still, in ms.
    pub vcpu: Vec<u64>,
    /// Mean time of a fault in ns. QEMU 10.1 and newer.
    pub latency: Option<u64>,
    /// Faults per bucket, bucket i from 2^i µs up. QEMU 10.1 and newer.
    pub distribution: Vec<u64>,
}

impl fmt::Display for Blocktime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocktime {} ms, per vCPU {:?} ms", self.all, self.vcpu)?;
        match self.latency {
            Some(ns) => write!(f, ", a fault {} µs in the mean", ns / 1000),
            None => Ok(()),
        }
    }
}

impl Qemu {
    /// Switches capabilities on.
    pub fn enable(&mut self, capabilities: &[&str]) {
        self.switch(capabilities, true);
    }

    /// Switches capabilities off.
    pub fn disable(&mut self, capabilities: &[&str]) {
        self.switch(capabilities, false);
    }

    fn switch(&mut self, capabilities: &[&str], state: bool) {
        let one = |name: &&str| json!({ "capability": name, "state": state });
        let list: Vec<_> = capabilities.iter().map(one).collect();
        self.run("migrate-set-capabilities", json!({ "capabilities": list }));
    }

    /// Whether this build knows a capability.
    pub fn knows(&mut self, capability: &str) -> bool {
        let list = self.run("query-migrate-capabilities", json!({}));
        let named = |entry: &Value| entry["capability"] == capability;
        list.as_array().is_some_and(|list| list.iter().any(named))
    }

    /// Sets migration parameters, such as `json!({ "max-bandwidth": 1 << 20 })`.
    pub fn set(&mut self, parameters: Value) {
        self.run("migrate-set-parameters", parameters);
    }

    /// Where this QEMU listens after [`Qemu::listen`].
    pub fn socket(&self) -> PathBuf {
        self.folder().join("in")
    }

    /// Makes an incoming QEMU listen, after its capabilities were set.
    pub fn listen(&mut self) -> PathBuf {
        let path = self.socket();
        self.run("migrate-incoming", json!({ "uri": unix(&path) }));
        path
    }

    /// Starts an outgoing migration.
    pub fn migrate(&mut self, uri: &str) {
        self.run("migrate", json!({ "uri": uri }));
    }

    /// Saves the machine into a file of its folder: the stream a user gets from
    /// `migrate "exec:cat >FILE"`. The guest is stopped first and stays so: it is saved as one that
    /// does not run, which a destination in precopy heeds and one in postcopy does not.
    pub fn save(&mut self) -> PathBuf {
        self.stop();
        let path = self.folder().join("saved");
        let file = path.display();
        self.set(json!({ "max-bandwidth": 0 }));
        // QEMU is done when the pipe is full; the file is whole when it has its name.
        self.migrate(&format!("exec:cat >{file}.new && mv {file}.new {file}"));
        let limit = self.machine().patience();
        self.wait_status(&["completed"], limit);
        let end = Instant::now() + limit;
        while !path.exists() {
            if Instant::now() > end {
                self.fail("the saved stream does not reach its file");
            }
            thread::sleep(Duration::from_millis(5));
        }
        path
    }

    /// Asks the source to switch to postcopy as soon as it can.
    pub fn start_postcopy(&mut self) {
        self.run("migrate-start-postcopy", json!({}));
    }

    /// Breaks a postcopy migration off, to be recovered.
    pub fn pause(&mut self) {
        self.run("migrate-pause", json!({}));
    }

    /// Makes a paused destination listen once more, at the same place.
    pub fn recover(&mut self) {
        let uri = unix(&self.socket());
        self.run("migrate-recover", json!({ "uri": uri }));
        self.resuming = true;
    }

    /// The same for a destination that may be in the middle of recovering by itself.
    pub fn try_recover(&mut self) {
        let uri = unix(&self.socket());
        self.resuming = true;
        if let Err(error @ (QmpError::Gone(_) | QmpError::Late(_))) =
            self.try_run("migrate-recover", json!({ "uri": uri }))
        {
            self.fail(&error.to_string());
        }
    }

    /// Waits until the migration has been paused `count` times since the start, whatever it does
    /// now.
    pub fn wait_pauses(&mut self, count: usize, within: Duration) {
        let end = Instant::now() + within;
        loop {
            let states = self.states().iter();
            let pauses = states.filter(|(state, _)| state == PAUSED).count();
            if pauses >= count {
                return;
            }
            if Instant::now() > end {
                self.fail_migration(&format!("{pauses} pauses after {within:?}, not {count}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Makes a paused source take the migration up again.
    pub fn resume(&mut self, uri: &str) {
        self.wait_parked();
        self.run("migrate", json!({ "uri": uri, "resume": true }));
        self.resuming = true;
    }

    /// Waits until the thread that reads the return path of a paused source has seen that the link
    /// is gone. Up to 8.1, one that sees it later closes the new link instead, and QEMU crashes.
    fn wait_parked(&self) {
        let end = Instant::now() + SOON;
        let busy = |task: &Path| {
            let read = |name| fs::read_to_string(task.join(name)).unwrap_or_default();
            read("comm").trim() == "return path" && !read("wchan").contains("futex")
        };
        loop {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.program.id()));
            let tasks = tasks.unwrap_or_else(|error| self.fail(&format!("its threads: {error}")));
            if !tasks.flatten().any(|task| busy(&task.path())) {
                return;
            }
            if Instant::now() > end {
                self.fail("its return path does not see that the link is gone");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What `query-migrate` says now.
    pub fn query_migrate(&mut self) -> Value {
        self.run("query-migrate", json!({}))
    }

    /// The migration's state now; empty before the first one.
    pub fn status(&mut self) -> String {
        let info = self.query_migrate();
        info["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Every state the migration has gone through, with QEMU's clock in microseconds.
    pub fn states(&mut self) -> &[(String, u64)] {
        // A command's answer comes after every event before it.
        self.status();
        self.sort_events();
        &self.history
    }

    /// Waits until the migration is in one of `states`, and gives which. Fails at once where it
    /// ends in another.
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
                self.fail_migration(&format!("the migration is {now} instead of {states:?}"));
            }
            if Instant::now() > end {
                self.fail_migration(&format!(
                    "the migration is still {now} after {within:?} instead of {states:?}"
                ));
            }
            if let Err(error) = self.qmp.poll(Duration::from_millis(20)) {
                self.fail(&format!("waiting for {states:?}: {error}"));
            }
        }
    }

    /// How long vCPUs stood still, as a destination counts it.
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

    /// Takes over what the events say about the migration.
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

/// A socket's path as a migration URI.
pub fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}
