//! What userfaultfd can do for this user on this machine, and the commands that lift its limits.
//!
//! [`Report::gather`] examines the machine; [`Report::lacks`] judges from the report alone.
//! Examining changes nothing and never fails: what cannot be read is absent from the report.

use std::fs;

use retpath_engine::memory::Backing;
use retpath_engine::uffd::{Features, Route, RouteError, Step, probe};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::sandbox;
use crate::size::Human;

/// The state of the machine.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// Release of the running kernel.
    pub(super) kernel: String,
    /// Effective user id.
    pub(super) uid: u32,
    /// What the sandbox of `receive`, `import` and `decode` enforces.
    pub(super) sandbox: sandbox::Status,
    /// For each route, best first, the kernel's features or why the route does not work.
    pub(super) routes: [(Route, Result<Features, RouteError>); 3],
    /// `vm.unprivileged_userfaultfd`; `None` before Linux 5.2, which has no such setting.
    pub(super) unprivileged: Option<bool>,
    /// The pools of huge pages, smallest first.
    pub(super) pools: Vec<Pool>,
    /// Bytes of memory that may be locked.
    pub(super) memlock: Limit,
    /// Descriptors that may be open.
    pub(super) nofile: Limit,
}

/// A pool of huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    /// Bytes in a page.
    pub(super) page_size: u64,
    /// Pages reserved.
    pub(super) reserved: u64,
    /// Pages reserved and not in use.
    pub(super) free: u64,
}

/// A resource limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// In force.
    pub(super) soft: Option<u64>,
    /// The value to which this user may raise it.
    pub(super) hard: Option<u64>,
}

/// The faults that userfaultfd can serve for this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Faults of user code and of system calls.
    All,
    /// Faults of user code.
    UserOnly,
    /// Nothing.
    Nothing,
}

/// Something missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    /// What is missing, and when it matters.
    pub(super) what: String,
    /// The command that helps, or what to do if none does.
    pub(super) fix: String,
}

impl Report {
    /// Examines the machine.
    pub(super) fn gather() -> Self {
        let limit = |resource| {
            let limit = getrlimit(resource);
            Limit {
                soft: limit.current,
                hard: limit.maximum,
            }
        };
        Self {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            uid: rustix::process::geteuid().as_raw(),
            sandbox: sandbox::Status::probe(),
            routes: Route::ALL.map(|route| (route, probe(route))),
            unprivileged: number("/proc/sys/vm/unprivileged_userfaultfd").map(|value| value != 0),
            pools: pools(),
            memlock: limit(Resource::Memlock),
            nofile: limit(Resource::Nofile),
        }
    }

    /// The faults that the best working route can serve.
    pub(super) fn reach(&self) -> Reach {
        match self.best() {
            Some(Route::Device | Route::Syscall) => Reach::All,
            Some(Route::UserModeOnly) => Reach::UserOnly,
            None => Reach::Nothing,
        }
    }

    /// The route that will be used.
    pub(super) fn best(&self) -> Option<Route> {
        self.routes
            .iter()
            .find(|(_, works)| works.is_ok())
            .map(|(route, _)| *route)
    }

    /// The kernel's features; `None` if no route works.
    pub(super) fn features(&self) -> Option<Features> {
        self.routes.iter().find_map(|(_, works)| works.ok())
    }

    /// What is missing, most important first, and what to do about it.
    pub(super) fn lacks(&self) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let reach = self.reach();
        for (route, works) in &self.routes {
            // Either of the first two routes suffices; the last serves the fewest faults.
            let matters = match route {
                Route::Device | Route::Syscall => reach != Reach::All,
                Route::UserModeOnly => reach == Reach::Nothing,
            };
            if let (true, Err(error)) = (matters, works) {
                let instead = match route {
                    Route::Syscall => " (instead of the device, for all users)",
                    Route::Device | Route::UserModeOnly => "",
                };
                let what = format!("{route}{instead}: {error}");
                lacks.push(Lack {
                    what,
                    fix: self.fix(error),
                });
            }
        }
        let offered = self.features();
        for (name, feature, why, since) in WANTED {
            if offered.is_some_and(|offered| !offered.contains(feature)) {
                lacks.push(Lack {
                    what: format!("{name}: not offered by this kernel; {why}"),
                    fix: format!("boot Linux {since} or newer"),
                });
            }
        }
        for pool in self.pools.iter().filter(|pool| pool.reserved == 0) {
            let Some((_, pages)) = POOLS
                .iter()
                .find(|(size, _)| size.page_size() == pool.page_size)
            else {
                continue; // not a page size of RAM blocks
            };
            let kib = pool.page_size >> 10;
            lacks.push(Lack {
                what: format!(
                    "huge pages of {}: none reserved; only RAM blocks on huge pages need them",
                    Human(pool.page_size)
                ),
                fix: format!(
                    "echo {pages} | sudo tee \
                     /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages"
                ),
            });
        }
        if let Some(soft) = self.nofile.soft.filter(|&soft| soft < ENOUGH_FILES) {
            let fix = match self.nofile.hard {
                Some(hard) if hard < ENOUGH_FILES => {
                    format!("sudo prlimit --pid $$ --nofile={ENOUGH_FILES}")
                }
                _ => format!("ulimit -n {ENOUGH_FILES}"),
            };
            lacks.push(Lack {
                what: format!("open files: only {soft} allowed"),
                fix,
            });
        }
        lacks
    }

    fn fix(&self, error: &RouteError) -> String {
        const SANDBOX: &str = "docker run --security-opt seccomp=unconfined … \
                               (or a seccomp profile that allows userfaultfd)";
        match (
            error.route,
            error.step,
            Errno::from_raw_os_error(error.errno),
        ) {
            (_, Step::Create, Errno::NOSYS) => {
                "boot a kernel built with CONFIG_USERFAULTFD=y".into()
            }
            (Route::Device, Step::Device, Errno::NOENT) => {
                "boot Linux 6.1 or newer; in a container: docker run --device /dev/userfaultfd …"
                    .into()
            }
            (Route::Device, Step::Device, Errno::ACCESS) => {
                format!("sudo chown {} /dev/userfaultfd", self.uid)
            }
            (Route::Device, _, Errno::PERM) => "docker run --device /dev/userfaultfd …".into(),
            (Route::Syscall, Step::Create, Errno::PERM) if self.unprivileged == Some(false) => {
                "sudo sysctl -w vm.unprivileged_userfaultfd=1".into()
            }
            (_, Step::Create, Errno::PERM) => SANDBOX.into(),
            (Route::UserModeOnly, Step::Create, Errno::INVAL) => "boot Linux 5.11 or newer".into(),
            _ => "unknown; `strace -f retpath doctor` shows the call that fails".into(),
        }
    }
}

/// A limit of open files below this is reported: connections, memfds and event descriptors add up.
const ENOUGH_FILES: u64 = 256;

/// The huge pages of RAM blocks, and the size of a reasonable first pool.
const POOLS: [(Backing, u64); 2] = [(Backing::Huge2M, 512), (Backing::Huge1G, 1)];

/// The kernel's names of its features, in the order of their bits.
pub(super) const FEATURES: [&str; 17] = [
    "PAGEFAULT_FLAG_WP",
    "EVENT_FORK",
    "EVENT_REMAP",
    "EVENT_REMOVE",
    "MISSING_HUGETLBFS",
    "MISSING_SHMEM",
    "EVENT_UNMAP",
    "SIGBUS",
    "THREAD_ID",
    "MINOR_HUGETLBFS",
    "MINOR_SHMEM",
    "EXACT_ADDRESS",
    "WP_HUGETLBFS_SHMEM",
    "WP_UNPOPULATED",
    "POISON",
    "WP_ASYNC",
    "MOVE",
];

/// Whether a feature, by its place in [`FEATURES`], is in a set.
pub(super) fn has(set: Features, feature: usize) -> bool {
    set.bits() >> feature & 1 != 0
}

/// Features used by retpath: name, feature, purpose, first kernel.
const WANTED: [(&str, Features, &str, &str); 3] = [
    (
        "MISSING_HUGETLBFS",
        Features::MISSING_HUGETLBFS,
        "RAM blocks of huge pages need it",
        "4.11",
    ),
    (
        "MISSING_SHMEM",
        Features::MISSING_SHMEM,
        "shared RAM blocks need it",
        "4.11",
    ),
    (
        "THREAD_ID",
        Features::THREAD_ID,
        "without it, faults are not told apart by thread",
        "4.14",
    ),
];

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn pools() -> Vec<Pool> {
    const FOLDER: &str = "/sys/kernel/mm/hugepages";
    let names = fs::read_dir(FOLDER)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let pool = |name: &str| {
        let kib: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        Some(Pool {
            page_size: kib.checked_mul(1024)?,
            reserved: number(&format!("{FOLDER}/{name}/nr_hugepages"))?,
            free: number(&format!("{FOLDER}/{name}/free_hugepages"))?,
        })
    };
    let mut pools: Vec<_> = names.filter_map(|name| pool(name.to_str()?)).collect();
    pools.sort_unstable_by_key(|pool| pool.page_size);
    pools
}

#[cfg(test)]
mod tests;
