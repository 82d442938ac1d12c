//! The judgement, on reports made up for the purpose.

use linux_raw_sys::general as kernel;
use rustix::io::Errno;

use super::*;

fn failed(route: Route, step: Step, errno: Errno) -> (Route, Result<Features, RouteError>) {
    (
        route,
        Err(RouteError {
            route,
            step,
            errno: errno.raw_os_error(),
        }),
    )
}

/// A machine without a fault.
fn healthy() -> Report {
    let unlimited = Limit {
        soft: None,
        hard: None,
    };
    Report {
        kernel: "6.8.0".into(),
        uid: 1000,
        sandbox: sandbox::Status::default(),
        routes: Route::ALL.map(|route| (route, Ok(Features::WANTED))),
        unprivileged: Some(false),
        pools: vec![Pool {
            page_size: 2 << 20,
            reserved: 8,
            free: 0,
        }],
        memlock: unlimited,
        nofile: unlimited,
    }
}

/// An ordinary user on a machine as it comes.
fn ordinary() -> Report {
    let mut report = healthy();
    report.routes[0] = failed(Route::Device, Step::Device, Errno::ACCESS);
    report.routes[1] = failed(Route::Syscall, Step::Create, Errno::PERM);
    report
}

fn fixes(report: &Report) -> Vec<String> {
    report.lacks().into_iter().map(|lack| lack.fix).collect()
}

#[test]
fn reports_nothing_missing_on_a_healthy_machine() {
    assert_eq!(healthy().lacks(), []);
    assert_eq!(
        (healthy().reach(), healthy().best()),
        (Reach::All, Some(Route::Device))
    );
}

#[test]
fn accepts_one_route_that_serves_all_faults() {
    let mut report = ordinary();
    report.routes[1].1 = Ok(Features::WANTED);
    assert_eq!(
        (report.reach(), report.best()),
        (Reach::All, Some(Route::Syscall))
    );
    assert_eq!(report.lacks(), []);
}

#[test]
fn names_both_ways_for_an_ordinary_user_to_serve_all_faults() {
    let report = ordinary();
    assert_eq!(
        (report.reach(), report.best()),
        (Reach::UserOnly, Some(Route::UserModeOnly))
    );
    let expected = [
        "sudo chown 1000 /dev/userfaultfd",
        "sudo sysctl -w vm.unprivileged_userfaultfd=1",
    ];
    assert_eq!(fixes(&report), expected);
}

#[test]
fn names_the_sandbox_when_even_user_faults_are_forbidden() {
    let mut report = ordinary();
    report.routes[2] = failed(Route::UserModeOnly, Step::Create, Errno::PERM);
    assert_eq!((report.reach(), report.best()), (Reach::Nothing, None));
    assert_eq!(report.lacks().len(), 3);
    assert!(fixes(&report)[2].contains("seccomp"), "{report:?}");
    // The setting allows it, and still it is forbidden.
    report.unprivileged = Some(true);
    assert!(fixes(&report)[1].contains("seccomp"), "{report:?}");
}

#[test]
fn names_the_kernel_release_that_suffices() {
    let mut report = ordinary();
    report.routes[0] = failed(Route::Device, Step::Device, Errno::NOENT);
    report.routes[2] = failed(Route::UserModeOnly, Step::Create, Errno::INVAL);
    let fixes_now = fixes(&report);
    assert!(fixes_now[0].contains("Linux 6.1"), "{fixes_now:?}");
    assert!(fixes_now[2].contains("Linux 5.11"), "{fixes_now:?}");
    for (i, route) in Route::ALL.into_iter().enumerate() {
        report.routes[i] = failed(route, Step::Create, Errno::NOSYS);
    }
    assert_eq!(
        fixes(&report),
        ["boot a kernel built with CONFIG_USERFAULTFD=y"; 3]
    );
}

#[test]
fn names_each_missing_feature_of_the_kernel() {
    let mut report = healthy();
    report.routes = Route::ALL.map(|route| (route, Ok(Features::default())));
    let lacks = report.lacks();
    assert_eq!(lacks.len(), WANTED.len());
    for ((name, ..), lack) in WANTED.iter().zip(&lacks) {
        assert!(
            lack.what.starts_with(name) && lack.fix.starts_with("boot Linux"),
            "{lack:?}"
        );
    }
}

#[test]
fn names_the_command_that_reserves_huge_pages() {
    let mut report = healthy();
    let empty = |page_size| Pool {
        page_size,
        reserved: 0,
        free: 0,
    };
    report.pools = [64 << 10, 2 << 20, 1 << 30].map(empty).to_vec();
    let expected = [
        "echo 512 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "echo 1 | sudo tee /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
    ];
    assert_eq!(fixes(&report), expected);
}

#[test]
fn names_the_command_that_raises_the_limit_of_open_files() {
    let mut report = healthy();
    report.nofile = Limit {
        soft: Some(64),
        hard: Some(4096),
    };
    assert_eq!(fixes(&report), ["ulimit -n 256"]);
    report.nofile = Limit {
        soft: Some(64),
        hard: Some(64),
    };
    assert_eq!(fixes(&report), ["sudo prlimit --pid $$ --nofile=256"]);
}

#[test]
fn has_a_fix_for_every_error() {
    let report = ordinary();
    for route in Route::ALL {
        for step in [Step::Device, Step::Create, Step::Handshake] {
            for errno in 1..134 {
                assert!(!report.fix(&RouteError { route, step, errno }).is_empty());
            }
        }
    }
}

#[test]
fn reads_the_pools_of_this_machine() {
    let pools = pools();
    assert!(pools.is_sorted_by_key(|pool| pool.page_size));
    assert!(
        pools
            .iter()
            .all(|pool| pool.page_size.is_power_of_two() && pool.free <= pool.reserved)
    );
}

#[test]
fn names_features_in_the_order_of_the_kernel_headers() {
    let bits = [
        kernel::UFFD_FEATURE_PAGEFAULT_FLAG_WP,
        kernel::UFFD_FEATURE_EVENT_FORK,
        kernel::UFFD_FEATURE_EVENT_REMAP,
        kernel::UFFD_FEATURE_EVENT_REMOVE,
        kernel::UFFD_FEATURE_MISSING_HUGETLBFS,
        kernel::UFFD_FEATURE_MISSING_SHMEM,
        kernel::UFFD_FEATURE_EVENT_UNMAP,
        kernel::UFFD_FEATURE_SIGBUS,
        kernel::UFFD_FEATURE_THREAD_ID,
        kernel::UFFD_FEATURE_MINOR_HUGETLBFS,
        kernel::UFFD_FEATURE_MINOR_SHMEM,
        kernel::UFFD_FEATURE_EXACT_ADDRESS,
        kernel::UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
        kernel::UFFD_FEATURE_WP_UNPOPULATED,
        kernel::UFFD_FEATURE_POISON,
        kernel::UFFD_FEATURE_WP_ASYNC,
        kernel::UFFD_FEATURE_MOVE,
    ];
    assert_eq!(bits.len(), FEATURES.len());
    for (at, bit) in bits.into_iter().enumerate() {
        assert_eq!(bit, 1 << at, "{}", FEATURES[at]);
    }
}
