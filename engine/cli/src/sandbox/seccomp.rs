//! The system calls that the sandbox refuses.
//!
//! A list of refused calls, not of allowed ones. Landlock already keeps files out of reach; this
//! filter takes away what Landlock does not control: sockets that reach a service of this machine
//! (such as a container engine, which runs programs), changes of permissions and owners by path,
//! other processes, keys, and the large parts of the kernel that these commands never use.
//!
//! A list of allowed calls would be stricter, but it depends on the C library, its version, the
//! allocator and the architecture: each makes calls of its own, at moments that no test reaches
//! (out of memory, a panic, a new thread). A call that such a list forgets ends the process, and in
//! postcopy that can cost the guest. A refused call fails with EPERM instead of ending the process,
//! for the same reason: errors of calls are handled, and leave the guest resumable.
//!
//! `clone3` fails with ENOSYS, because a filter cannot see its flags; C libraries then use `clone`,
//! which may start threads but no namespaces. So do the numbers of the x32 interface, which would be
//! a second name for each refused call. Calls of another architecture (32-bit programs) end the
//! process.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

/// Calls that are refused whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // New sockets.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    // Files by path, which Landlock lets through.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    FILE_SETATTR,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    REMOVEXATTRAT,
    libc::SYS_open_by_handle_at,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_kcmp,
    libc::SYS_mq_open,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    // Large parts of the kernel; requests through io_uring pass no filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
    libc::SYS_personality,
    // The machine, for a command that runs as root.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// System V's shared memory, semaphores and queues: one call for all of them on some of the
/// architectures that have no filter here.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
const SYSTEM_V: &[libc::c_long] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_semget,
    libc::SYS_msgget,
];
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
const SYSTEM_V: &[libc::c_long] = &[];

// New calls, whose numbers are the same on every architecture; the crate `libc` lacks them on some.
const FCHMODAT2: libc::c_long = 452;
const SETXATTRAT: libc::c_long = 463;
const REMOVEXATTRAT: libc::c_long = 466;
const OPEN_TREE_ATTR: libc::c_long = 467;
const FILE_SETATTR: libc::c_long = 469;

/// Flags of `clone` that start a namespace.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Installs the filter for the calling thread; returns whether the kernel has filters for this
/// architecture.
///
/// # Errors
///
/// The kernel refuses the filter.
pub(super) fn enter(userfaultfd: bool) -> Result<bool, String> {
    let Ok(arch) = TargetArch::try_from(ARCH) else {
        return Ok(false);
    };
    let program = program(arch, userfaultfd).map_err(|error| error.to_string())?;
    match apply_filter(&program) {
        Ok(()) => Ok(true),
        Err(Error::Prctl(error) | Error::Seccomp(error)) if is_missing(&error) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a kernel built without filters fails with this error.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP)
    )
}

fn program(arch: TargetArch, userfaultfd: bool) -> Result<BpfProgram, Error> {
    let refused = REFUSED.iter().chain(SYSTEM_V);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        refused.map(|&call| (call, Vec::new())).collect();
    if !userfaultfd {
        rules.insert(libc::SYS_userfaultfd, Vec::new());
    }
    // A thread may signal itself, as abort(3) and raise(3) do; musl uses tkill for that.
    if cfg!(not(target_env = "musl")) {
        rules.insert(libc::SYS_tkill, Vec::new());
    }
    let process = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(SeccompCmpOp::Ne, process)?]);
    let namespace = |flag: libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        rule(SeccompCmpOp::MaskedEq(flag), flag)
    };
    let namespaces: Result<_, _> = NAMESPACES.into_iter().map(namespace).collect();
    rules.insert(libc::SYS_clone, namespaces?);

    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?;
    let mut program = unknown_calls().to_vec();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// A rule about the first argument.
fn rule(operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

/// The beginning of the program: ENOSYS for `clone3` and for the x32 interface.
fn unknown_calls() -> [sock_filter; 5] {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const JUMP_IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    /// Offset of the call's number in `seccomp_data`.
    const NUMBER: u32 = 0;
    const CLONE3: u32 = 435;
    const X32: u32 = 0x4000_0000;
    /// The number -1: a call that a tracer has cancelled.
    const CANCELLED: u32 = u32::MAX;
    let step = |code, (jt, jf), k| sock_filter { code, jt, jf, k };
    [
        step(LOAD, (0, 0), NUMBER),
        step(JUMP_IF_EQUAL, (2, 0), CLONE3),
        step(JUMP_IF_NOT_LESS, (0, 2), X32),
        step(JUMP_IF_EQUAL, (1, 0), CANCELLED),
        step(
            RETURN,
            (0, 0),
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const MISSING: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

    /// Interprets the program for one call, as the kernel does.
    fn answer(program: &[sock_filter], call: u32, argument: u64) -> u32 {
        let arch: u32 = match ARCH {
            "x86_64" => 0xc000_003e,
            "aarch64" => 0xc000_00b7,
            _ => 0xc000_00f3,
        };
        let halves = [argument & 0xffff_ffff, argument >> 32];
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |taken| usize::from(if taken { jt } else { jf });
            match code {
                0x06 => return k,
                0x20 => {
                    value = match k {
                        0 => call,
                        4 => arch,
                        16 => halves[0] as u32,
                        20 => halves[1] as u32,
                        _ => panic!("loads {k}"),
                    }
                }
                0x54 => value &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(value == k),
                0x25 => at += jump(value > k),
                0x35 => at += jump(value >= k),
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    /// The answer to a call of a command that needs a userfaultfd, or not.
    fn answers(userfaultfd: bool) -> Option<impl Fn(libc::c_long, u64) -> u32> {
        let arch = TargetArch::try_from(ARCH).ok()?;
        let program = program(arch, userfaultfd).expect("a valid filter");
        Some(move |call, argument| {
            answer(&program, u32::try_from(call).expect("a number"), argument)
        })
    }

    #[test]
    fn refuses_the_listed_calls_and_allows_others() {
        let Some(answer) = answers(false) else { return };
        for call in REFUSED.iter().chain(SYSTEM_V) {
            assert_eq!(answer(*call, 0), REFUSE, "{call}");
        }
        for call in [
            libc::SYS_read,
            libc::SYS_openat,
            libc::SYS_accept4,
            libc::SYS_exit_group,
        ] {
            assert_eq!(answer(call, 0), ALLOW, "{call}");
        }
    }

    #[test]
    fn allows_a_userfaultfd_only_where_one_is_needed() {
        for (needed, expected) in [(true, ALLOW), (false, REFUSE)] {
            let Some(answer) = answers(needed) else {
                return;
            };
            assert_eq!(answer(libc::SYS_userfaultfd, 0), expected);
        }
    }

    #[test]
    fn allows_threads_but_no_namespaces() {
        let Some(answer) = answers(false) else { return };
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
        let bits = |flags: libc::c_int| u64::from(flags.cast_unsigned());
        assert_eq!(answer(libc::SYS_clone, bits(thread)), ALLOW);
        for flag in NAMESPACES {
            assert_eq!(
                answer(libc::SYS_clone, bits(thread | flag)),
                REFUSE,
                "{flag:#x}"
            );
        }
        assert_eq!(answer(libc::SYS_clone3, 0), MISSING);
    }

    #[test]
    fn allows_signals_to_this_process_only() {
        let Some(answer) = answers(false) else { return };
        let process = u64::from(std::process::id());
        assert_eq!(answer(libc::SYS_tgkill, process), ALLOW);
        assert_eq!(answer(libc::SYS_tgkill, process + 1), REFUSE);
    }

    #[test]
    fn knows_no_second_name_of_a_call() {
        let Some(answer) = answers(false) else { return };
        for call in [libc::SYS_execve, libc::SYS_read, 520] {
            assert_eq!(answer(call | 0x4000_0000, 0), MISSING, "{call}");
        }
        assert_eq!(answer(libc::c_long::from(u32::MAX), 0), ALLOW);
    }
}
