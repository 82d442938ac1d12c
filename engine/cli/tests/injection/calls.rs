//! Which errors each system call is made to fail with.
//!
//! Not every error of a manual page: those that an ordinary accident on a healthy kernel can bring
//! (a full or broken disk, a limit on descriptors, threads or memory, a signal, a peer that is
//! gone). Calls that cannot fail this way are only points at which the process is killed.

use crate::strace::Call;

/// The errors for one recorded call; `None` if this table does not know the call.
pub(crate) fn errors(call: &Call) -> Option<&'static [&'static str]> {
    let text = &*call.text;
    Some(match &*call.name {
        "read" | "readv" | "pread64" | "preadv" if is_file(text) => &["EIO", "EINTR"],
        "read" | "readv" | "recvfrom" | "recvmsg" if is_socket(text) => {
            &["ECONNRESET", "EINTR", "EAGAIN", "ENOMEM"]
        }
        "read" | "readv" | "recvfrom" | "recvmsg" => &["EIO", "EINTR", "EAGAIN"],
        "write" | "writev" | "pwrite64" | "pwritev" if is_file(text) => &["ENOSPC", "EIO", "EINTR"],
        "write" | "writev" | "sendto" | "sendmsg" if is_socket(text) => {
            &["EPIPE", "ECONNRESET", "EINTR", "EAGAIN", "ENOMEM"]
        }
        "write" | "writev" => &["ENOSPC", "EIO", "EPIPE", "EINTR"],
        "open" | "openat" if text.contains("O_CREAT") => &["ENOSPC", "EIO", "EMFILE"],
        "open" | "openat" => &["EIO", "EMFILE", "ENOMEM"],
        "mkdir" | "mkdirat" | "chmod" | "fchmodat" => &["ENOSPC", "EIO"],
        "rename" | "renameat" | "renameat2" => &["ENOSPC", "EIO"],
        "unlink" | "unlinkat" | "rmdir" => &["EIO"],
        "fsync" | "fdatasync" => &["EIO", "ENOSPC"],
        "ftruncate" => &["EIO", "ENOSPC", "EINTR"],
        "fallocate" => &["EOPNOTSUPP", "ENOSPC", "EIO", "EINTR"],
        "copy_file_range" => &["EIO", "ENOSPC", "EXDEV"],
        "lseek" => &["EIO", "EINVAL"],
        "stat" | "lstat" | "fstat" | "statx" | "newfstatat" | "statfs" | "fstatfs" => {
            &["EIO", "ENOMEM"]
        }
        "getdents64" => &["EIO"],
        "readlink" | "readlinkat" => &["EIO", "ENOMEM"],
        "flock" => &["EAGAIN", "ENOLCK"],
        // Rust's allocator ends the process when it gets no memory, as if it were killed.
        "mmap" => &["ENOMEM"],
        "mremap" => &["ENOMEM"],
        "madvise" => &["ENOMEM"],
        "memfd_create" => &["EMFILE", "ENOMEM"],
        "socket" | "socketpair" | "pipe2" | "eventfd2" => &["EMFILE", "ENOMEM"],
        "userfaultfd" => &["EMFILE", "EPERM"],
        "bind" => &["EIO", "ENOSPC"],
        "listen" => &["EADDRINUSE"],
        "accept4" => &["EMFILE", "ECONNABORTED", "EINTR", "ENOMEM"],
        "connect" => &["ECONNREFUSED", "EAGAIN"],
        "getsockopt" | "setsockopt" | "getsockname" => &["ENOBUFS"],
        "poll" | "ppoll" => &["EINTR", "ENOMEM"],
        "fcntl" if text.contains("F_DUPFD") => &["EMFILE"],
        "fcntl" if text.contains("SEALS") => &["EBUSY"],
        "fcntl" if text.contains("F_SETFL") => &["ENOMEM"],
        "ioctl" if text.contains("UFFD") || text.contains("USERFAULTFD") => uffd(text),
        "ioctl" if text.contains("FIONBIO") => &["ENOMEM"],
        "clone3" | "clone" | "vfork" | "fork" => &["EAGAIN", "ENOMEM"],
        "wait4" | "waitid" | "futex" => &["EINTR"],
        "getrandom" => &["EINTR"],
        // ENOSYS from a kernel without the sandbox, which runs the command without it.
        "landlock_create_ruleset" | "seccomp" => &["ENOSYS", "ENOMEM"],
        "landlock_add_rule" | "landlock_restrict_self" => &["ENOMEM"],
        "sched_getaffinity" => &["ENOMEM"],
        // They fail only for programs that pass nonsense.
        "ioctl" | "fcntl" | "close" | "munmap" | "mprotect" | "shutdown" | "kill" | "dup2"
        | "rt_sigaction" | "rt_sigprocmask" | "rt_sigreturn" | "sigaltstack" | "prctl"
        | "prlimit64" | "pidfd_send_signal" | "brk" | "getpid" | "gettid" | "getuid"
        | "geteuid" | "getppid" | "uname" | "sysinfo" | "sched_yield" | "umask" | "fchmod"
        | "set_tid_address" | "set_robust_list" | "rseq" | "arch_prctl" | "clock_nanosleep"
        | "exit" | "exit_group" | "access" | "execve" | "clock_gettime" | "restart_syscall"
        | "setsid" | "setpgid" | "chdir" => &[],
        _ => return None,
    })
}

fn uffd(text: &str) -> &'static [&'static str] {
    match text {
        _ if text.contains("UFFDIO_COPY") || text.contains("UFFDIO_ZEROPAGE") => {
            &["ENOMEM", "EAGAIN"]
        }
        _ if text.contains("USERFAULTFD_IOC") => &["EMFILE", "ENOMEM"],
        _ if text.contains("UFFDIO_API") => &["EINVAL"],
        _ if text.contains("UFFDIO_WAKE") => &[],
        _ => &["ENOMEM"],
    }
}

/// Whether the first argument is a socket.
pub(crate) fn is_socket(text: &str) -> bool {
    descriptor(text).is_some_and(|(_, object)| object.starts_with("socket:"))
}

/// Whether the first argument is a file that has a path.
pub(crate) fn is_file(text: &str) -> bool {
    descriptor(text)
        .is_some_and(|(_, object)| object.starts_with('/') && !object.starts_with("/dev/"))
}

/// The first argument, if it is a descriptor: its number and what it is open on.
pub(crate) fn descriptor(text: &str) -> Option<(&str, &str)> {
    let (_, arguments) = text.split_once('(')?;
    let (number, rest) = arguments.split_once('<')?;
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    let end = rest.find('>')?;
    Some((number, &rest[..end]))
}

/// Whether a failure of this call must not go unnoticed: the image would not be on disk.
pub(crate) fn must_be_noticed(call: &Call, error: &str) -> bool {
    if error == "EINTR" {
        return false;
    }
    match &*call.name {
        "fsync" | "fdatasync" | "ftruncate" => true,
        "write" | "writev" | "pwrite64" | "pwritev" => is_file(&call.text),
        "rename" | "renameat" | "renameat2" => true,
        _ => false,
    }
}

/// Whether the program's allocator made the call: Rust aborts the process when it fails.
pub(crate) fn is_allocation(call: &Call) -> bool {
    match &*call.name {
        "brk" | "mremap" => true,
        "mmap" => call.text.contains("-1, 0") && !call.text.contains("MAP_STACK"),
        _ => false,
    }
}
