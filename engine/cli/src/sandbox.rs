//! The sandbox of the commands that read a stream of somebody else: `decode`, `import` and
//! `receive`.
//!
//! A command enters it once its files are open and before it reads the first byte of the stream, so
//! that a stream which exploits a bug still finds no file, no program to run and no other machine.
//! Nothing here is needed for correctness: a command works alike without the sandbox, and where the
//! kernel has only a part of it, that part is used.
//!
//! | mechanism | takes away |
//! |---|---|
//! | Landlock, Linux 5.13 | opening and changing files, except below the folders of the command |
//! | Landlock, Linux 6.7 | new TCP connections and listening TCP sockets |
//! | Landlock, Linux 6.12 | signals to processes outside, abstract Unix sockets of processes outside |
//! | seccomp | [system calls](seccomp) that Landlock does not control |
//! | `no_new_privs` | privileges by way of set-user-ID programs |
//!
//! Landlock and seccomp confine the calling thread and the threads that it starts, so a command
//! enters before it starts any. Descriptors that are open stay usable: standard output, the input, a
//! listening socket, which still accepts connections.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    make_bitflags,
};
use retpath_engine::socket::Address;
use retpath_image::shown;
use tracing::{info, warn};

mod seccomp;

/// The newest version of Landlock that the tests have run with. Newer kernels enforce the same.
const NEWEST: ABI = ABI::V7;

/// Rights below the folder of the image: to create, write, read, replace and remove files.
const IMAGE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadDir | ReadFile | WriteFile | Truncate | MakeReg | RemoveFile
});

/// Rights below the folder that holds the image: to rename the image's folder, to sync its name, and
/// to remove it after a failure. Landlock cannot grant them for one name.
const PARENT: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadDir | MakeDir | RemoveDir});

/// Rights to a device that is opened later.
const DEVICE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev});

/// The option of the commands that enter the sandbox.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SandboxArgs {
    /// Read the stream without a sandbox
    ///
    /// Without this option, the kernel lets this command open no files but those of an image that it
    /// makes, run no program and make no connection while it reads the stream. `retpath doctor`
    /// prints which part of that this kernel enforces.
    #[arg(long)]
    no_sandbox: bool,
}

impl SandboxArgs {
    /// Enters the sandbox, unless the option turns it off.
    ///
    /// # Errors
    ///
    /// The kernel has a sandbox but refuses this one.
    pub(crate) fn enter(&self, sandbox: Sandbox) -> Result<(), String> {
        if self.no_sandbox {
            warn!("no sandbox, by --no-sandbox");
            return Ok(());
        }
        let status = sandbox.enter().map_err(|error| {
            format!("cannot enter the sandbox: {error}; --no-sandbox runs without it")
        })?;
        match status.is_complete() {
            true => info!("sandbox: {status}"),
            false => warn!("sandbox: {status}"),
        }
        Ok(())
    }
}

/// What a command still needs in the sandbox; nothing by default.
#[derive(Debug, Default)]
pub(crate) struct Sandbox {
    rules: Vec<(PathBuf, BitFlags<AccessFs>)>,
    /// The image's folder moves to another parent folder.
    moves: bool,
    userfaultfd: bool,
}

impl Sandbox {
    /// Allows to write an image in `folder`, which exists, and to rename that folder to `out`.
    pub(crate) fn image(mut self, folder: &Path, out: &Path) -> Self {
        let (from, to) = (parent(folder), parent(out));
        self.rules.push((folder.into(), IMAGE));
        self.moves = from != to;
        let parents: &[_] = match self.moves {
            true => &[from, to],
            false => &[to],
        };
        let rights = match self.moves {
            true => PARENT | AccessFs::Refer,
            false => PARENT,
        };
        self.rules
            .extend(parents.iter().map(|parent| ((*parent).into(), rights)));
        self
    }

    /// Allows to remove the file of a listening socket.
    pub(crate) fn socket(mut self, address: &Address) -> Self {
        if let Address::Unix(path) = address {
            self.rules
                .push((parent(path).into(), AccessFs::RemoveFile.into()));
        }
        self
    }

    /// Allows to open a userfaultfd.
    pub(crate) fn userfaultfd(mut self) -> Self {
        let device = PathBuf::from("/dev/userfaultfd");
        if device.exists() {
            self.rules.push((device, DEVICE));
        }
        self.userfaultfd = true;
        self
    }

    /// Confines the calling thread, and those that it starts, for good.
    ///
    /// # Errors
    ///
    /// The kernel has a sandbox but refuses this one.
    fn enter(self) -> Result<Status, String> {
        let landlock = self.landlock().map_err(|error| error.to_string())?;
        let seccomp = seccomp::enter(self.userfaultfd)?;
        Ok(Status { landlock, seccomp })
    }

    /// Returns the version of Landlock that is in force, if there is one.
    fn landlock(&self) -> Result<Option<i32>, Box<dyn Error>> {
        // Linux 5.13 to 5.18 never let a confined process move anything to another folder.
        if self.moves && !can_move() {
            return Ok(None);
        }
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?;
        for (path, rights) in &self.rules {
            let rule = PathBeneath::new(PathFd::new(path)?, *rights);
            let added = ruleset.add_rule(rule);
            ruleset = added.map_err(|error| format!("{}: {error}", shown(path)))?;
        }
        let status = ruleset.restrict_self()?;
        Ok(match (status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, _) => None,
            (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi as i32),
            _ => None,
        })
    }
}

/// The folder that a path is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether this kernel's Landlock can allow to move a folder to another one.
fn can_move() -> bool {
    let refer = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer);
    refer.and_then(Ruleset::create).is_ok()
}

/// The parts of the sandbox that are in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Version of Landlock's interface.
    pub(crate) landlock: Option<i32>,
    pub(crate) seccomp: bool,
}

impl Status {
    /// What a sandbox would enforce here: tried out in a thread, which it confines and which ends.
    pub(crate) fn probe() -> Self {
        let probe = || Sandbox::default().enter().unwrap_or_default();
        let thread = thread::Builder::new().spawn(probe);
        let status = thread.map(thread::JoinHandle::join);
        status.ok().and_then(Result::ok).unwrap_or_default()
    }

    fn is_complete(self) -> bool {
        self.landlock >= Some(ABI::V6 as i32) && self.seccomp
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            None => f.write_str("files not confined (Landlock is off, or older than needed)")?,
            Some(version) => {
                let what = match version {
                    ..4 => "files",
                    4..6 => "files and TCP",
                    6.. => "files, TCP and signals",
                };
                write!(f, "{what} confined by Landlock {version}")?;
            }
        }
        f.write_str(match self.seccomp {
            true => ", system calls by seccomp",
            false => ", system calls not confined (this kernel has no seccomp filters)",
        })
    }
}

#[cfg(test)]
mod tests;
