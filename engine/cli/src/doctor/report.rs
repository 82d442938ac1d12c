//! What this machine lets this user do with userfaultfd, and what to type to be allowed more.
//!
//! [`Report::gather`] looks; [`Report::lacks`] judges, from the report alone. Looking changes
//! nothing and never fails: what cannot be read is absent from the report.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use retpath_engine::memory::Backing;
use retpath_engine::uffd::{Features, Route, RouteError, Step, probe};

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Release of the running kernel.
    pub kernel: String,
    /// Effective user id.
    pub uid: u32,
    /// For each route, best first, what the kernel offers by it or why it does not work.
    pub routes: [(Route, Result<Features, RouteError>); 3],
    /// `vm.unprivileged_userfaultfd`; none where there is no such setting (before Linux 5.2).
    pub unprivileged: Option<bool>,
    /// The pools of huge pages, smallest first.
    pub pools: Vec<Pool>,
    /// Bytes of memory that may be locked.
    pub memlock: Limit,
    /// Descriptors that may be open.
    pub nofile: Limit,
}

/// A pool of huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Bytes in a page.
    pub page_size: u64,
    /// Pages reserved.
    pub reserved: u64,
    /// Pages reserved that nobody uses.
    pub free: u64,
}

/// A resource limit; none is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In force.
    pub soft: Option<u64>,
    /// How far this user may raise it.
    pub hard: Option<u64>,
}

/// How much userfaultfd can do for this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Faults of user code and of system calls.
    All,
    /// Faults of user code.
    UserOnly,
    /// Nothing.
    Nothing,
}

/// Something missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What, and when it matters.
    pub what: String,
    /// What to type, or to do where no command helps.
    pub fix: String,
}

impl Report {
    /// Looks around.
    pub fn gather() -> Self {
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
            routes: Route::ALL.map(|route| (route, probe(route))),
            unprivileged: number("/proc/sys/vm/unprivileged_userfaultfd").map(|value| value != 0),
            pools: pools(),
            memlock: limit(Resource::Memlock),
            nofile: limit(Resource::Nofile),
        }
    }

    /// What the best route that works can do.
    pub fn reach(&self) -> Reach {
        match self.best() {
            Some(Route::Device | Route::Syscall) => Reach::All,
            Some(Route::UserModeOnly) => Reach::UserOnly,
            None => Reach::Nothing,
        }
    }

    /// The route that will be taken.
    pub fn best(&self) -> Option<Route> {
        self.routes
            .iter()
            .find(|(_, works)| works.is_ok())
            .map(|(route, _)| *route)
    }

    /// What the kernel offers; none if no route works, for then nobody can ask it.
    pub fn features(&self) -> Option<Features> {
        self.routes.iter().find_map(|(_, works)| works.ok())
    }

    /// What is missing, most important first, with what to do about it.
    pub fn lacks(&self) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let reach = self.reach();
        for (route, works) in &self.routes {
            // One of the first two routes is enough; the last is the least of them.
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
                continue; // a size that RAM blocks do not come in
            };
            let kib = pool.page_size >> 10;
            lacks.push(Lack {
                what: format!(
                    "huge pages of {}: none reserved; only RAM blocks made of them need any",
                    bytes(pool.page_size)
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
            _ => "none known; `strace -f retpath doctor` shows the call that fails".into(),
        }
    }
}

/// A limit of open files below this is worth a word: channels, memfds and threads' eventfds add up.
const ENOUGH_FILES: u64 = 256;

/// The huge pages that RAM blocks come in, and how many make a sensible first pool.
const POOLS: [(Backing, u64); 2] = [(Backing::Huge2M, 512), (Backing::Huge1G, 1)];

/// Name, feature, what for, and since which kernel.
const WANTED: [(&str, Features, &str, &str); 4] = [
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
    (
        "POISON",
        Features::POISON,
        "without it, a lost page cannot be marked as lost",
        "6.6",
    ),
];

/// A number of bytes in the largest unit that leaves no fraction.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    let unit = UNITS
        .iter()
        .find(|(size, _)| n != 0 && n.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{n} bytes"),
        |(size, name)| format!("{} {name}", n / size),
    )
}

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
