//! A source, `retpath receive`, and what is compared in the end.

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

/// What a guest of 16 MiB is moved with: 300 ms of it do not fit through, so that it never
/// converges; the rest takes about a second.
pub const PRECOPY: u64 = 1 << 20;
pub const POSTCOPY: u64 = 8 << 20;

pub fn machine() -> Machine {
    Machine::new(16, Guest::mib(1, 8))
}

/// A source whose guest runs, `retpath receive`, and a relay between them.
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

    /// The same with the image elsewhere.
    pub fn at(
        out: &Path,
        folder: TempDir,
        machine: &Machine,
        capabilities: &[&str],
        more: &[&str],
    ) -> Self {
        Self::from(Qemu::boot(machine), out, folder, capabilities, more)
    }

    /// The same with a source that is there already.
    pub fn from(
        source: Qemu,
        out: &Path,
        folder: TempDir,
        capabilities: &[&str],
        more: &[&str],
    ) -> Self {
        Self::with(Program::retpath, source, out, folder, capabilities, more)
    }

    /// The same with `retpath` started in another way.
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
        // The socket is there before it can be connected to.
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

    /// The image, once it is finished; the source ends.
    pub fn into_image(self) -> Image {
        let machine = self.source.machine().clone();
        Image::received(self.folder, machine)
    }

    /// Starts the migration, and switches after the first MiB.
    pub fn switch(&mut self) {
        self.source.migrate(&self.relay.uri());
        self.relay.wait(SOON, "the first round", |links| {
            let forward: u64 = links.iter().map(|link| link.forward).sum();
            (forward >= PRECOPY).then_some(())
        });
        self.source.start_postcopy();
    }

    /// The same, and waits until the guest has stopped for good.
    pub fn switch_for_good(&mut self) {
        self.switch();
        // QEMU 7.2 is in its state before it stops the guest. PONGs 1 to 3 come before RUN.
        self.relay.wait(SOON, "the switch", |links| {
            links.iter().any(|link| link.back > 3 * 8).then_some(())
        });
    }

    /// Waits for the end, which must be a bad one, and gives the last line of what was said.
    pub fn refusal(&mut self) -> String {
        let status = self.retpath.wait(SOON);
        assert_eq!(status.code(), Some(1), "{}", self.retpath);
        assert_eq!(self.retpath.output(), "");
        assert_eq!(left(self.folder.path()), [""; 0]);
        let errors = self.retpath.errors();
        errors.lines().last().unwrap_or_default().to_owned()
    }

    /// Waits for an end at which the guest's memory has to stay. Gives the last line of what was
    /// said, and the folder.
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

    /// The folder that the process, which has ended, has left.
    pub fn left_by_the_process(&self) -> PathBuf {
        let name = format!("image.incomplete-{}", self.retpath.id());
        assert_eq!(left(self.folder.path()), [&name[..]]);
        self.folder.path().join(name)
    }

    /// Starts another `retpath receive`, which goes on with what the last one left.
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

    /// Waits for the end, and compares every byte of every block with what was sent, and with what
    /// the source has. Gives what was printed.
    pub fn finish(&mut self) -> Value {
        let (report, sent) = self.finish_live();
        self.source.assert_ram(&sent);
        report
    }

    /// The same for a guest that ran in precopy's last rounds: QEMU may miss its last writes (see
    /// [`super::support::qemu`]), so the image is compared with what was sent.
    pub fn finish_live(&mut self) -> (Value, Ram) {
        let report = self.wait_ended();
        let sent = self.relay.ram(&self.source.huge_blocks());
        compare(&self.out(), &sent);
        (report, sent)
    }

    /// Waits for a good end, and gives what was printed.
    pub fn wait_ended(&mut self) -> Value {
        self.retpath.wait_success(SOON);
        self.source.wait_status(&["completed"], SOON);
        assert_eq!(self.source.run_state(), "postmigrate");
        assert_eq!(left(self.folder.path()), ["image"]);
        serde_json::from_str(&self.retpath.output()).expect("one JSON object")
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("the test's own paths are UTF-8")
}

/// What is in a folder but sockets.
pub fn left(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != "in").collect();
    names.sort();
    names
}

/// Every byte of every block in the image is what was sent.
pub fn compare(image: &Path, sent: &Ram) {
    let image = retpath_image::Image::open(image).expect("a whole image");
    assert_eq!(image.blocks().len(), sent.blocks().len());
    for (id, block) in image.blocks().iter().enumerate() {
        let name = String::from_utf8_lossy(block.name.name().as_bytes()).into_owned();
        let len = usize::try_from(block.len).expect("small");
        let mut ours = vec![0; len];
        image.read(id, 0, &mut ours).expect("all of it");
        assert!(ours == sent.block(&name), "{name} differs");
    }
}

/// A file system of its own, of so many MiB.
pub struct Small(PathBuf);

impl Small {
    pub fn mount(path: &Path, mib: u64) -> Option<Self> {
        std::fs::create_dir(path).expect("ours");
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
