//! Runs QEMU as a child process: start, control, guest output and termination.
//!
//! Methods panic when QEMU does not do what the test expects; [`Qemu::try_run`] is for commands that
//! QEMU may refuse. A failing test prints what is known about each of its QEMUs: guest, migration
//! states and standard error.

use std::env;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::guest::Said;
use super::machine::Machine;
use super::qmp::{Qmp, QmpError};
use crate::SOON;
use crate::program::{Followed, Program};

/// Part of QEMU's warning about a deprecated machine type.
const DEPRECATED: &str = "is deprecated: machines more than";

/// A QEMU process with its own temporary folder. Killed when dropped.
pub struct Qemu {
    role: &'static str,
    machine: Machine,
    pub(super) program: Program,
    serial: Arc<Followed<Said>>,
    pub(super) qmp: Qmp,
    /// Migration states with QEMU's clock in microseconds.
    pub(super) history: Vec<(String, u64)>,
    /// Whether the migration was resumed and has not changed state since.
    pub(super) resuming: bool,
    /// Time from process start to the first QMP answer.
    pub start_time: Duration,
    folder: TempDir,
}

/// Returns the QEMU to run: `RETPATH_QEMU`, or the one in `PATH`.
pub fn binary() -> PathBuf {
    env::var_os("RETPATH_QEMU").map_or_else(|| "qemu-system-x86_64".into(), PathBuf::from)
}

/// Creates a folder for sockets and files whose path is short enough for a socket address.
pub fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("rp-")
        .tempdir()
        .unwrap_or_else(|error| {
            panic!(
                "cannot create a folder in {}: {error}",
                env::temp_dir().display()
            )
        })
}

impl Qemu {
    /// Starts the machine and waits until its guest has filled its memory.
    pub fn boot(machine: &Machine) -> Self {
        let qemu = Self::start("source", machine, &[]);
        qemu.wait_said(machine.patience(), "fill its memory", |said| said.ready);
        qemu
    }

    /// Starts a machine that waits for an incoming migration.
    pub fn incoming(machine: &Machine) -> Self {
        Self::start("destination", machine, &["-incoming", "defer"])
    }

    /// Starts the machine with further arguments. `role` appears in messages.
    pub fn start(role: &'static str, machine: &Machine, more: &[&str]) -> Self {
        let folder = folder();
        let boot = folder.path().join("boot");
        fs::write(&boot, machine.guest().sector(machine.memory())).expect("folder is writable");
        let control = folder.path().join("qmp");
        let listener = UnixListener::bind(&control)
            .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", control.display()));

        let binary = binary();
        let mut command = Command::new(&binary);
        command.args(machine.arguments(&boot)).args(more);
        // `Qemu::resume` finds threads by name.
        command.args(["-name", "debug-threads=on"]);
        command
            .arg("-qmp")
            .arg(format!("unix:{}", control.display()));
        assert!(
            found(),
            "cannot run {}: install QEMU (Debian: qemu-system-x86) or name one in RETPATH_QEMU",
            binary.display(),
        );
        let started = Instant::now();
        let (mut program, stdout) = Program::spawn_with_output(command);
        let serial = Followed::start(stdout, Said::take);
        let stream = accept(&listener, &mut program);
        let qmp = Qmp::new(stream).unwrap_or_else(|error| panic!("{role}: {error}"));
        let mut qemu = Self {
            role,
            machine: machine.clone(),
            program,
            serial,
            qmp,
            history: Vec::new(),
            resuming: false,
            start_time: Duration::ZERO,
            folder,
        };
        qemu.enable(&["events"]);
        qemu.start_time = started.elapsed();
        qemu
    }

    /// Returns the machine this QEMU was started with.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the temporary folder, which is removed with this QEMU.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the process: its ID, standard error, and signals.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Runs a command that QEMU may refuse.
    pub fn try_run(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.qmp.execute(command, arguments)
    }

    /// Runs a command that must succeed.
    pub fn run(&mut self, command: &str, arguments: Value) -> Value {
        match self.qmp.execute(command, arguments) {
            Ok(result) => result,
            Err(error) => self.fail(&format!("{error}")),
        }
    }

    /// Runs a human-monitor command and returns its output.
    pub fn monitor(&mut self, line: &str) -> String {
        let text = self.run("human-monitor-command", json!({ "command-line": line }));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Returns QEMU's release, such as `(7, 2)`.
    pub fn release(&mut self) -> (u64, u64) {
        let version = self.run("query-version", json!({}));
        let part = |name: &str| version["qemu"][name].as_u64().unwrap_or_default();
        (part("major"), part("minor"))
    }

    /// Starts the guest.
    pub fn cont(&mut self) {
        self.run("cont", json!({}));
    }

    /// Stops the guest.
    pub fn stop(&mut self) {
        self.run("stop", json!({}));
    }

    /// Returns the run state: `running`, `paused`, `inmigrate`, `postmigrate` …
    pub fn run_state(&mut self) -> String {
        let status = self.run("query-status", json!({}));
        status["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an incoming migration has left the run state `inmigrate`.
    pub fn wait_arrived(&mut self, within: Duration) {
        self.wait_run_state(|state| state != "inmigrate", within);
    }

    /// Waits until a source whose migration has ended is in the run state `postmigrate`: QEMU sets one
    /// after the other, and answers commands in between (`migration.c:migration_iteration_finish`).
    pub fn wait_left(&mut self, within: Duration) {
        self.wait_run_state(|state| state == "postmigrate", within);
    }

    fn wait_run_state(&mut self, is_it: impl Fn(&str) -> bool, within: Duration) {
        let end = Instant::now() + within;
        loop {
            let state = self.run_state();
            if is_it(&state) {
                return;
            }
            if Instant::now() > end {
                self.fail(&format!("the run state is still {state} after {within:?}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the guest's serial output so far.
    pub fn said(&self) -> Said {
        self.serial.now(Said::clone)
    }

    /// Waits until `look` returns a value for the guest's output. Fails early if the guest reports
    /// corruption. `what` completes "the guest did not …".
    pub fn wait_said<R>(
        &self,
        within: Duration,
        what: &str,
        mut look: impl FnMut(&Said) -> Option<R>,
    ) -> R {
        let wrong = |said: &Said| {
            said.complaint
                .contains('\n')
                .then(|| said.wrong())
                .flatten()
        };
        let found = self.serial.wait(within, |said| match wrong(said) {
            Some(wrong) => Some(Err(wrong)),
            None => look(said).map(Ok),
        });
        match found {
            Ok(Ok(found)) => found,
            Ok(Err(wrong)) => self.fail(&wrong),
            Err(ended) => self.fail(&format!(
                "the guest did not {what} within {within:?}: {ended:?}"
            )),
        }
    }

    /// Waits until the guest has completed `count` further passes and, if it sweeps, has checked
    /// every quiet page again from first to last.
    pub fn wait_healthy(&self, count: usize, within: Duration) {
        let before = self.said();
        // The current sweep may have begun earlier; only the next one counts.
        let sweeps = if self.machine.guest().sweep > 0 {
            before.sweeps.len() + 2
        } else {
            0
        };
        let passes = before.passes.len() + count;
        self.wait_said(within, "go on", |said| {
            (said.passes.len() >= passes && said.sweeps.len() >= sweeps).then_some(())
        });
        if let Some(wrong) = self.said().wrong() {
            self.fail(&wrong);
        }
    }

    /// Waits until the guest reports corruption, and returns its text.
    pub fn wait_complaint(&self, within: Duration) -> String {
        let whole = |said: &Said| {
            said.complaint
                .contains('\n')
                .then(|| said.wrong())
                .flatten()
        };
        let found = self.serial.wait(within, whole);
        found.unwrap_or_else(|ended| {
            self.fail(&format!("the guest reported no corruption: {ended:?}"))
        })
    }

    /// Fails if QEMU wrote to its standard error.
    pub fn assert_silent(&self) {
        self.assert_silent_but(&[]);
    }

    /// Fails if QEMU wrote a line to its standard error that contains none of `expected`, except a
    /// deprecation warning for the machine type.
    pub fn assert_silent_but(&self, expected: &[&str]) {
        let errors = self.program.errors();
        for line in errors.lines() {
            let mut expected = expected.iter().chain(&[DEPRECATED]);
            if !expected.any(|part| line.contains(part)) {
                self.fail(&format!("unexpected on standard error: {line}"));
            }
        }
    }

    /// Quits QEMU over QMP, and fails unless it exits successfully.
    pub fn quit(&mut self) {
        // The process may exit before it answers.
        let _ = self.qmp.execute("quit", json!({}));
        self.program.wait_success(SOON);
    }

    /// Fails the test.
    pub fn fail(&self, why: &str) -> ! {
        panic!("{}: {why}", self.role)
    }
}

impl fmt::Display for Qemu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.said();
        writeln!(
            f,
            "{}: guest {}, {} passes, {} sweeps, {}",
            self.role,
            said.ready.map_or("not started here", |_| "started here"),
            said.passes.len(),
            said.sweeps.len(),
            said.wrong().unwrap_or_else(|| "no complaint".into()),
        )?;
        let states: Vec<_> = self
            .history
            .iter()
            .map(|(state, _)| state.as_str())
            .collect();
        write!(f, "  migration states: {}", states.join(", "))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        if thread::panicking() {
            // Collect states reached since the last poll.
            while matches!(self.qmp.poll(Duration::from_millis(1)), Ok(true)) {}
            self.sort_events();
            eprintln!("{self}");
        }
    }
}

/// Whether QEMU is installed.
fn found() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let output = Command::new(binary()).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// Waits until QEMU connects to its control socket.
fn accept(listener: &UnixListener, program: &mut Program) -> UnixStream {
    listener
        .set_nonblocking(true)
        .expect("setting socket flags succeeds");
    let end = Instant::now() + SOON;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream
                    .set_nonblocking(false)
                    .expect("setting socket flags succeeds");
                return stream;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("cannot accept QEMU's control connection: {error}"),
        }
        if let Some(status) = program.ended() {
            program.wait(SOON);
            panic!("QEMU exited during startup with {status}");
        }
        assert!(
            Instant::now() < end,
            "timed out waiting for QEMU to connect to its control socket"
        );
        thread::sleep(Duration::from_millis(2));
    }
}
