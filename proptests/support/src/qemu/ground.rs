//! A QEMU source with `retpath receive`, and comparisons of the received image.

use std::path::{Path, PathBuf};
use std::process::Command;

use retpath_codec::BlockName;
use retpath_engine::source::PageSource;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::SOON;
use crate::program::Program;
use crate::qemu::migration::unix;
use crate::qemu::process::folder;
use crate::qemu::stream::Ram;
use crate::qemu::{Guest, Image, Machine, Qemu, Relay};

/// Bandwidth for a guest of 16 MiB: precopy cannot converge, because more than 300 ms of downtime
/// would be needed; postcopy takes about a second.
pub const PRECOPY: u64 = 1 << 20;
pub const POSTCOPY: u64 = 8 << 20;

pub fn machine() -> Machine {
    Machine::new(16, Guest::mib(1, 8))
}

/// A source with a running guest, `retpath receive`, and a relay between them.
pub struct Ground {
    pub source: Qemu,
    pub retpath: Program,
    pub relay: Relay,
    pub folder: TempDir,
}

impl Ground {
    pub fn new(machine: &Machine, capabilities: &[&str], more: &[&str]) -> Self {
        let folder = folder();
        let out = folder.path().join("image");
        Self::at(&out, folder, machine, capabilities, more)
    }

    /// Starts the sides with the image at another path.
    pub fn at(
        out: &Path,
        folder: TempDir,
        machine: &Machine,
        capabilities: &[&str],
        more: &[&str],
    ) -> Self {
        Self::from(Qemu::boot(machine), out, folder, capabilities, more)
    }

    /// Starts `retpath receive` for an existing source.
    pub fn from(
        source: Qemu,
        out: &Path,
        folder: TempDir,
        capabilities: &[&str],
        more: &[&str],
    ) -> Self {
        Self::with(Program::retpath, source, out, folder, capabilities, more)
    }

    /// Starts the sides with another command for `retpath`.
    pub fn with(
        start: impl FnOnce(&[&str]) -> Program,
        mut source: Qemu,
        out: &Path,
        folder: TempDir,
        capabilities: &[&str],
        more: &[&str],
    ) -> Self {
        source.enable(capabilities);
        source.set(json!({ "max-bandwidth": PRECOPY, "max-postcopy-bandwidth": POSTCOPY }));
        let socket = folder.path().join("in");
        let uri = unix(&socket);
        let mut args = vec!["receive", "--listen", &uri, "--out", text(out)];
        args.extend(["--format", "json"]);
        args.extend(more);
        let retpath = start(&args);
        // The socket file exists before it accepts connections.
        retpath.wait_error(SOON, |line| line.contains("listening on").then_some(()));
        let relay = Relay::recording(&socket);
        Self {
            source,
            retpath,
            relay,
            folder,
        }
    }

    pub fn out(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Returns the finished image; the source exits.
    pub fn into_image(self) -> Image {
        let machine = self.source.machine().clone();
        Image::received(self.folder, machine)
    }

    /// Starts the migration and switches after the first MiB.
    pub fn switch(&mut self) {
        self.source.migrate(&self.relay.uri());
        self.relay.wait(SOON, "the first round", |links| {
            let forward: u64 = links.iter().map(|link| link.forward).sum();
            (forward >= PRECOPY).then_some(())
        });
        self.source.start_postcopy();
    }

    /// Switches, and waits until the guest has stopped for good.
    pub fn switch_for_good(&mut self) {
        self.switch();
        // QEMU 7.2 changes its state before it stops the guest. PONGs 1 to 3 precede RUN.
        self.relay.wait(SOON, "the switch", |links| {
            links.iter().any(|link| link.back > 3 * 8).then_some(())
        });
    }

    /// Waits for `retpath` to fail, and returns the last line of its standard error.
    pub fn refusal(&mut self) -> String {
        let status = self.retpath.wait(SOON);
        assert_eq!(status.code(), Some(1), "{}", self.retpath);
        assert_eq!(self.retpath.output(), "");
        assert_eq!(left(self.folder.path()), [""; 0]);
        let errors = self.retpath.errors();
        errors.lines().last().unwrap_or_default().to_owned()
    }

    /// Waits for `retpath` to fail while keeping the guest's memory. Returns the last line of its
    /// standard error, and the folder.
    pub fn kept(&mut self) -> (String, PathBuf) {
        let status = self.retpath.wait(SOON);
        assert_eq!(status.code(), Some(1), "{}", self.retpath);
        assert_eq!(self.retpath.output(), "");
        let folder = self.left_by_the_process();
        let errors = self.retpath.errors();
        let message = errors.lines().last().unwrap_or_default().to_owned();
        let advice = format!("--continue {}", folder.display());
        assert!(message.contains(&advice), "{message}");
        (message, folder)
    }

    /// Returns the folder that the exited process left behind.
    pub fn left_by_the_process(&self) -> PathBuf {
        let name = format!("image.incomplete-{}", self.retpath.id());
        assert_eq!(left(self.folder.path()), [&name[..]]);
        self.folder.path().join(name)
    }

    /// Starts `retpath receive` again to continue with the folder.
    pub fn go_on(&mut self, folder: &Path) {
        let socket = self.folder.path().join("in");
        let uri = unix(&socket);
        let args = [
            "receive",
            "--listen",
            &uri,
            "--format",
            "json",
            "--continue",
        ];
        self.retpath = Program::retpath(&[&args[..], &[text(folder)]].concat());
        self.retpath
            .wait_error(SOON, |line| line.contains("listening on").then_some(()));
    }

    /// Waits for success, and compares every byte of every block with the stream and with the source's
    /// memory. Returns the report.
    pub fn finish(&mut self) -> Value {
        let (report, sent) = self.finish_live();
        self.source.assert_ram(&sent);
        report
    }

    /// Like [`Ground::finish`], for a guest that ran during precopy: QEMU may miss its last writes (see
    /// [`super`]), so the image is compared only with the stream.
    pub fn finish_live(&mut self) -> (Value, Ram) {
        let report = self.wait_ended();
        let sent = self.relay.ram(&self.source.huge_blocks());
        compare(&self.out(), &sent);
        (report, sent)
    }

    /// Waits for success and returns the report.
    pub fn wait_ended(&mut self) -> Value {
        self.retpath.wait_success(SOON);
        self.source.wait_status(&["completed"], SOON);
        self.source.wait_left(SOON);
        assert_eq!(left(self.folder.path()), ["image"]);
        serde_json::from_str(&self.retpath.output()).expect("output is one JSON object")
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("path is UTF-8")
}

/// Returns the entries of a folder, except sockets.
pub fn left(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .expect("folder is readable")
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != "in").collect();
    names.sort();
    names
}

/// Asserts that every byte of every block in the image equals the stream.
pub fn compare(image: &Path, sent: &Ram) {
    let image = retpath_image::Image::open(image).expect("image is complete");
    assert_eq!(image.blocks().len(), sent.blocks().len());
    for (id, block) in image.blocks().iter().enumerate() {
        let name = String::from_utf8_lossy(block.name.name().as_bytes()).into_owned();
        let len = usize::try_from(block.len).expect("fits in usize");
        let mut ours = vec![0; len];
        image
            .read(id, 0, &mut ours)
            .expect("range lies in the block");
        assert!(ours == sent.block(&name), "{name} differs");
    }
}

/// A mounted file system of limited size, unmounted on drop.
pub struct Small(PathBuf);

impl Small {
    pub fn mount(path: &Path, mib: u64) -> Option<Self> {
        std::fs::create_dir(path).expect("parent folder is writable");
        let size = format!("size={mib}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path)
            .status();
        if !mount.is_ok_and(|status| status.success()) {
            eprintln!("NOT TESTED: mounting a small file system needs root");
            return None;
        }
        Some(Self(path.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
