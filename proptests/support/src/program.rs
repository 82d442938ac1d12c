//! Child processes: threads capture their output, every wait has a limit, and they are killed with
//! the test.
//!
//! Methods panic when a program does not do what the test expects. A failing test prints what each
//! of its programs wrote.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Why a wait on a stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The time limit expired.
    Late,
    /// The other side closed the stream.
    Closed,
}

/// A stream that a thread reads and folds into a `T`.
pub struct Followed<T> {
    state: Mutex<(T, bool)>,
    changed: Condvar,
}

impl<T: Default + Send + 'static> Followed<T> {
    /// Reads to the end and calls `fold` with each piece and its arrival time.
    pub fn start(
        mut stream: impl Read + Send + 'static,
        fold: fn(&mut T, &[u8], Instant),
    ) -> Arc<Self> {
        let followed = Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let ours = Arc::clone(&followed);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                let len = stream.read(&mut piece).unwrap_or(0);
                let now = Instant::now();
                let mut state = ours.lock();
                fold(&mut state.0, &piece[..len], now);
                state.1 = len == 0;
                ours.changed.notify_all();
                if len == 0 {
                    return;
                }
            }
        });
        followed
    }
}

impl<T> Followed<T> {
    fn lock(&self) -> MutexGuard<'_, (T, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Inspects what arrived so far.
    pub fn now<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock().0)
    }

    /// Waits until `look` returns a value.
    pub fn wait<R>(
        &self,
        within: Duration,
        mut look: impl FnMut(&T) -> Option<R>,
    ) -> Result<R, Ended> {
        let end = Instant::now() + within;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state.0) {
                return Ok(found);
            }
            if state.1 {
                return Err(Ended::Closed);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Ended::Late);
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The bytes of a stream.
pub type Log = Followed<Vec<u8>>;

fn keep(log: &mut Vec<u8>, piece: &[u8], _: Instant) {
    log.extend_from_slice(piece);
}

/// Whether this process, and thus its children, ignores a signal: shells make
/// background jobs ignore SIGINT.
pub fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask =
        u64::from_str_radix(mask.expect("status has the mask").trim(), 16).expect("hexadecimal");
    mask >> (signal.as_raw() - 1) & 1 != 0
}

/// The id of an ordinary user, for tests that root runs.
pub const NOBODY: u32 = 65534;

/// Makes a command that runs `retpath` as an ordinary user, who may be unable to reach it where it
/// was built: a copy in `folder`, which everyone may enter from now on.
pub fn as_ordinary_user(folder: &Path) -> Command {
    fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let program = folder.join("retpath");
    // Another process writes the copy. If this one did, a child that another test forks meanwhile
    // would inherit the descriptor that is open for writing, and until that child calls exec, running
    // the copy would fail with ETXTBSY.
    let copied = Command::new("cp")
        .arg(crate::retpath())
        .arg(&program)
        .status();
    assert!(copied.expect("cp is there").success());
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A running program, killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    out: Option<Arc<Log>>,
    err: Arc<Log>,
}

impl Program {
    /// Starts `command` without input and captures its output.
    pub fn spawn(command: Command) -> Self {
        let (mut program, stdout) = Self::spawn_with_output(command);
        program.out = Some(Log::start(stdout, keep));
        program
    }

    /// Starts `command` without input; the caller reads its output.
    pub fn spawn_with_output(mut command: Command) -> (Self, impl Read + Send + 'static) {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let program = Self {
            name,
            child,
            out: None,
            err: Log::start(stderr, keep),
        };
        (program, stdout)
    }

    /// Starts `command` with the outputs it was given, without capturing them.
    pub fn spawn_as_it_is(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name,
            child,
            out: None,
            err: Log::start(std::io::empty(), keep),
        }
    }

    /// Starts this workspace's `retpath`.
    pub fn retpath(args: &[&str]) -> Self {
        let mut command = Command::new(crate::retpath());
        command.args(args);
        Self::spawn(command)
    }

    /// Starts `retpath` with tampered system calls, in the syntax of `strace -e inject=`.
    pub fn retpath_with(inject: &str, args: &[&str]) -> Self {
        // The tracer is the child's child, so signals and exit status are retpath's.
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"]);
        command.arg(format!("inject={inject}"));
        command.arg(crate::retpath()).args(args);
        Self::spawn(command)
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory in bytes, including mapped files.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let kib = text.lines().find_map(|line| {
            let words = line.strip_prefix("VmRSS:")?;
            words.split_whitespace().next()?.parse::<u64>().ok()
        });
        kib.unwrap_or_else(|| panic!("no VmRSS in {text}")) << 10
    }

    /// Returns the captured output so far, if [`Program::spawn`] captures it.
    pub fn output(&self) -> String {
        let text = |log: &Vec<u8>| String::from_utf8_lossy(log).into_owned();
        self.out
            .as_ref()
            .map(|log| log.now(text))
            .unwrap_or_default()
    }

    /// Returns the captured standard error so far.
    pub fn errors(&self) -> String {
        self.err
            .now(|log| String::from_utf8_lossy(log).into_owned())
    }

    /// Waits until `look` returns a value for a line of the output.
    pub fn wait_line<R>(&self, within: Duration, mut look: impl FnMut(&str) -> Option<R>) -> R {
        let log = self
            .out
            .as_ref()
            .expect("output is captured by Program::spawn");
        self.wait_in(log, within, &mut look)
    }

    /// Waits until `look` returns a value for a line of the standard error.
    pub fn wait_error<R>(&self, within: Duration, mut look: impl FnMut(&str) -> Option<R>) -> R {
        self.wait_in(&self.err, within, &mut look)
    }

    fn wait_in<R>(
        &self,
        log: &Log,
        within: Duration,
        look: &mut dyn FnMut(&str) -> Option<R>,
    ) -> R {
        let found = log.wait(within, |log| {
            let text = String::from_utf8_lossy(log);
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole.lines().find_map(&mut *look)
        });
        found.unwrap_or_else(|ended| panic!("{}: expected line not found: {ended:?}", self.name))
    }

    /// Waits until the program has created a file or socket. A new socket may still refuse
    /// connections for a moment.
    pub fn wait_path(&mut self, path: &Path, within: Duration) {
        let end = Instant::now() + within;
        while !path.exists() {
            if let Some(status) = self.ended() {
                panic!(
                    "{} ended with {status} before {} was there",
                    self.name,
                    path.display()
                );
            }
            assert!(
                Instant::now() < end,
                "{}: no {} within {within:?}",
                self.name,
                path.display()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the exit status if the program has exited.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("the child is not reaped elsewhere")
    }

    /// Waits until the program exits.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                // The pipes may still hold the last output.
                let _ = self.err.wait(within, |_| None::<()>);
                if let Some(out) = &self.out {
                    let _ = out.wait(within, |_| None::<()>);
                }
                return status;
            }
            if Instant::now() > end {
                panic!("{} still runs after {within:?}", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the program exits, and panics unless it succeeded.
    pub fn wait_success(&mut self, within: Duration) {
        let status = self.wait(within);
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal)
                .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
        }
    }

    /// Runs `work` while the program is stopped with SIGSTOP.
    pub fn stopped<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.signal(Signal::STOP);
        let done = work();
        self.signal(Signal::CONT);
        done
    }

    /// Kills the program with SIGKILL and waits for its exit.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |f: &mut fmt::Formatter<'_>, what: &str, text: &str| {
            if text.is_empty() {
                return writeln!(f, "  {what}: nothing");
            }
            writeln!(f, "  {what}:")?;
            text.lines().try_for_each(|line| writeln!(f, "    {line}"))
        };
        writeln!(f, "{} (process {})", self.name, self.id())?;
        if self.out.is_some() {
            part(f, "output", &self.output())?;
        }
        part(f, "standard error", &self.errors())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{self}");
        }
        self.kill();
    }
}
