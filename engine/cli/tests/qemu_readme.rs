//! The walk-throughs in README.md, run unchanged: four clones of a saved machine, and the
//! machine received into an image by postcopy.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use retpath_support::SOON;
use retpath_support::qemu::guest::Said;
use retpath_support::qemu::process::{binary, folder};
use retpath_support::qemu::{Guest, Machine, Qemu};
use rustix::process::{Pid, Signal, kill_process_group};

/// The lines of the walk-throughs.
fn lines() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let text = fs::read_to_string(path).expect("there is a README");
    let blocks = text.split("```console\n").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
    let ours = blocks.filter(|block| block.contains("(qemu)"));
    ours.flat_map(str::lines).map(str::to_owned).collect()
}

/// A shell that is fed line by line; its programs end with it.
struct Shell {
    bash: Child,
    input: ChildStdin,
    folder: PathBuf,
    done: usize,
}

impl Shell {
    fn start(folder: &Path, path: &str, machine: &str) -> Self {
        let mut bash = Command::new("bash")
            .env("PATH", path)
            .env("VM", machine)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash is there");
        let input = bash.stdin.take().expect("piped");
        Self {
            bash,
            input,
            folder: folder.to_owned(),
            done: 0,
        }
    }

    /// Runs a line; one that stays in the foreground is waited for.
    fn run(&mut self, line: &str) {
        self.done += 1;
        let mark = self.folder.join(format!("done-{}", self.done));
        writeln!(self.input, "{line}\necho $? >{}.new", mark.display()).expect("bash reads");
        writeln!(self.input, "mv {0}.new {0}", mark.display()).expect("bash reads");
        wait_for(&mark);
        let code = fs::read_to_string(&mark).expect("a code");
        assert_eq!(code, "0\n", "{line}");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.bash), Signal::KILL);
        let _ = self.bash.wait();
    }
}

fn wait_for(path: &Path) {
    let end = Instant::now() + SOON;
    while !path.exists() {
        assert!(Instant::now() < end, "no {}", path.display());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64; run by .ci/run"]
fn runs_the_walk_throughs_of_the_readme() {
    let place = folder();
    let here = place.path();
    let machine = Machine::new(16, Guest::mib(1, 8));
    let boot = here.join("boot");
    fs::write(&boot, machine.guest().sector(machine.memory())).expect("ours");

    // The names that the lines use.
    let found = |name: &Path| {
        let output = Command::new("which").arg(name).output().expect("which");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    };
    let programs = here.join("bin");
    fs::create_dir(&programs).expect("ours");
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", found(&binary()).display());
    let qemu = programs.join("qemu-system-x86_64");
    fs::write(&qemu, script).expect("ours");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&qemu, executable).expect("ours");
    let retpath = Path::new(env!("CARGO_BIN_EXE_retpath"));
    std::os::unix::fs::symlink(retpath, programs.join("retpath")).expect("ours");
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());

    let mut source = Qemu::boot(&machine);
    // See `retpath_support::qemu`: what TCG does to a guest that runs is no matter of ours.
    source.stop();
    // Four guests talk at once, into one file.
    let serial = here.join("serial");
    let port = format!(
        "chardev:port -chardev file,id=port,append=on,path={}",
        serial.display()
    );
    let arguments = machine.arguments(&boot).join(" ");
    let arguments = arguments.replace("-serial stdio", &format!("-serial {port}"));
    let mut shell = Shell::start(here, &path, &arguments);
    let lines = lines();
    assert_eq!(lines.len(), 9, "{lines:?}");
    for line in lines {
        let line = line.replace("/tmp/", &format!("{}/", here.display()));
        if let Some(command) = line.strip_prefix("(qemu) ") {
            let answer = source.monitor(command);
            let fine = answer.is_empty() || answer.contains("continuing detached");
            assert!(fine, "{command}: {answer}");
            if command == "cont" {
                source.wait_healthy(5, SOON);
            }
            // As a terminal's monitor does without -d.
            if command.starts_with("migrate \"") || command == "migrate_start_postcopy" {
                source.wait_status(&["completed"], SOON);
            }
            continue;
        }
        let command = line.strip_prefix("$ ").expect("a command");
        shell.run(command);
        // The time that typing takes.
        if command.contains("receive") {
            wait_for(&here.join("in"));
        }
    }
    wait_for(&here.join("rescued"));
    // Each of the clones checks all of its memory, several times.
    let pages = usize::try_from(machine.guest().quiet / machine.guest().sweep).expect("small");
    let end = Instant::now() + SOON;
    loop {
        let mut said = Said::default();
        said.take(&fs::read(&serial).expect("they talk"), Instant::now());
        assert_eq!(said.wrong(), None);
        if said.passes.len() > 4 * 10 * pages {
            break;
        }
        assert!(Instant::now() < end, "{} passes", said.passes.len());
        thread::sleep(Duration::from_millis(20));
    }
}
