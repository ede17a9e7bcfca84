"""What a process gives up before the first line of a submission runs in it: limits, privileges, files, network, others.

It runs on the far side of the border, after the fork, and imports nothing of the grader. Each layer is a function that
raises `OSError` where the kernel refuses it; grader/canary.py proves that they hold.
"""

import ctypes
import errno
import os
import resource
from collections.abc import Sequence
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 38, 4
# Numbers and structures of linux/landlock.h; the three calls have the same number on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
READING = EXECUTE | READ_FILE | READ_DIR
WRITING = READING | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_A_FILE = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # access rights that an ABI knows; 16 from the fifth on

# Refused with EPERM: no sockets, no other program, nobody else's memory or signals, nothing that outlives the process.
REFUSED = (
    "socket", "fork", "vfork", "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "unshare", "setns", "mount", "umount2",
    "open_tree", "move_mount", "fsopen", "fsmount", "mount_setattr", "pivot_root", "chroot", "memfd_create",
    "memfd_secret",
    "shmget", "semget", "msgget", "mq_open", "open_by_handle_at", "name_to_handle_at", "fanotify_init", "quotactl",
    "reboot", "kexec_load", "init_module", "finit_module", "swapon", "acct", "settimeofday", "clock_settime",
    "personality",
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setsid", "setpgid",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo", "sched_setaffinity", "move_pages", "migrate_pages", "process_madvise",
)  # fmt: skip
CLONE_THREAD = 0x10000


def confine(limits: dict[str, int], readable: Sequence[str], writable: Sequence[str], uid: int | None) -> None:
    """Give up all that a submission must not have; there is no way back for this process and its threads.

    Args:
        limits: memory (bytes), cpu (seconds), file (bytes of one file), files (open at once).
        readable: files and folders that may be read.
        writable: folders that may be written.
        uid: to become, where this process may choose; None to stay.
    """
    own_proc()
    limit(limits)
    drop_privileges(uid)
    allowed = [(path, READING) for path in readable] + [(path, WRITING) for path in writable]
    allowed += [("/dev/null", READ_FILE | WRITE_FILE), ("/dev/urandom", READ_FILE)]
    if landlock_abi():
        landlock([*allowed, *((f"/proc/{name}", READING) for name in ("self", "cpuinfo", "meminfo", "stat"))])
    filter_calls()


def limit(limits: dict[str, int]) -> None:
    """Bound memory, time, files and core dumps; Linux kills this process before any other when memory runs out."""
    bounds = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CPU: limits["cpu"],
        resource.RLIMIT_FSIZE: limits["file"],
        resource.RLIMIT_NOFILE: limits["files"],
        resource.RLIMIT_CORE: 0,
    }
    for kind, wanted in bounds.items():
        highest = resource.getrlimit(kind)[1]
        bound = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
        resource.setrlimit(kind, (bound, bound))
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def drop_privileges(uid: int | None) -> None:
    """Become `uid`, where it is given, and keep no capability, whoever this is."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    must(LIBC.capset(header, nothing))
    must(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    own_proc()


def own_proc() -> None:
    """Open this process's own /proc/self to it, which a fork of the parent and a change of the user close."""
    must(LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))


def landlock_abi() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    return max(0, LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1))


def landlock(allowed: Sequence[tuple[str, int]]) -> None:
    """Close the file system but for what is allowed; TCP, abstract sockets and signals outwards, where it can."""
    abi = landlock_abi()
    handled = (1 << FS_BITS.get(abi, 16)) - 1
    rules = [handled, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0]
    attributes = (ctypes.c_uint64 * 3)(*rules)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = must(LIBC.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0))
    for path, access in allowed:
        if os.path.exists(path):
            allow(ruleset, path, access & handled)
    must(LIBC.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def allow(ruleset: int, path: str, access: int) -> None:
    """Open one file or folder, with all that is below it."""

    class Beneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))

    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = Beneath(access if os.path.isdir(path) else access & OF_A_FILE, opened)
        must(LIBC.syscall(ADD_RULE, ruleset, 1, ctypes.byref(rule), 0))
    finally:
        os.close(opened)


def filter_calls() -> None:
    """Refuse system calls by libseccomp: a thread may be made, a process may not, and signals reach only oneself."""
    import pyseccomp as seccomp

    refuse, own = seccomp.ERRNO(errno.EPERM), os.getpid()
    rules = seccomp.SyscallFilter(defaction=seccomp.ALLOW)

    def add(action: Any, name: str, *conditions: Any) -> None:
        if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:  # an architecture may lack fork, say
            rules.add_rule(action, name, *conditions)

    for name in REFUSED:
        add(refuse, name)
    add(refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD, 0))
    add(seccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags can't be read here: glibc falls back to clone
    for name in ("kill", "tgkill"):
        add(refuse, name, seccomp.Arg(0, seccomp.NE, own))
    add(refuse, "tkill")
    add(refuse, "prlimit64", seccomp.Arg(0, seccomp.NE, 0), seccomp.Arg(2, seccomp.NE, 0))
    rules.load()


def must(result: int) -> int:
    """The result of a call of libc.

    Raises:
        OSError: if it failed.
    """
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
