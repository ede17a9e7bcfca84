"""What a process gives up before the first line of a submission runs in it: limits, privileges, files, network, others.

It runs in the sandbox's guest, after the fork, and imports nothing of the grader. Each layer is a function that raises
`OSError` where the kernel refuses it; grader/sandbox/guest/canary.py shows that they hold.
"""

import ctypes
import errno
import os
import resource
import signal
from collections.abc import Sequence
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_THP_DISABLE = 1, 4, 38, 41
# Numbers and structures of linux/landlock.h; the three calls have the same number on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
READING = EXECUTE | READ_FILE | READ_DIR
WRITING = READING | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_A_FILE = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # access rights that an ABI knows; 16 from the fifth on

# Refused with EPERM: no sockets, no other program, nobody else's memory, signals or priority, nothing that outlives the
# process. A pair of sockets is one too many: one for datagrams can send to any socket in the file system. Pages that a
# pipe was given count as nobody's memory.
REFUSED = (
    "socket", "socketpair", "fork", "vfork", "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev",
    "kcmp", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "unshare", "setns", "mount", "umount2",
    "open_tree", "move_mount", "fsopen", "fsmount", "mount_setattr", "pivot_root", "chroot", "memfd_create",
    "memfd_secret", "vmsplice", "splice", "tee", "symlink", "symlinkat", "truncate",
    "shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semctl", "msgget", "msgsnd", "msgrcv", "msgctl",
    "mq_open", "mq_unlink", "open_by_handle_at", "name_to_handle_at", "inotify_init", "inotify_init1", "fanotify_init",
    "quotactl", "reboot", "kexec_load", "init_module", "finit_module", "swapon", "acct", "settimeofday",
    "clock_settime", "personality",
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setsid", "setpgid",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo", "sched_setscheduler", "sched_setparam", "sched_setattr", "ioprio_set",
    "move_pages", "migrate_pages", "process_madvise",
    "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr",
)  # fmt: skip
# Done without effect: Landlock does not bound them, so they would reach every file of this user; copying calls them.
# The last two are what homework says on a machine that is shared with others.
PRETENDED = (
    "chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat", "utime", "utimes", "utimensat", "futimesat",
    "setpriority", "sched_setaffinity",
)  # fmt: skip
UNKNOWN = range(450, 512)  # younger than this list, some unknown to libseccomp: libc does without them
# What Python and libc ask of a descriptor (asm-generic/ioctls.h): TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX and
# FIOCLEX. Of the others, some take disk space beside every limit, as fallocate does.
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
MAKES_A_FILE = {
    "open": 2,
    "openat": 3,
    "creat": 1,
    "mknod": 1,
    "mknodat": 2,
    "mkdir": 1,
    "mkdirat": 2,
}  # argument: mode
SUID, SGID = 0o4000, 0o2000
# Of /proc/self, without net and task: in the network namespace of the host, they hold the connections of the host.
OWN_PROC = ("auxv", "cgroup", "cmdline", "comm", "environ", "fd", "limits", "maps", "smaps", "stat", "statm", "status")
OWNER_OF_SIGNALS = (8, 10, 15)  # fcntl's F_SETOWN, F_SETSIG, F_SETOWN_EX: any signal to any process of this user
CLONE_THREAD = 0x10000
SHARED_ANONYMOUS = 0x21  # flags of mmap: memory to share with other processes, of which there are none


def confine(limits: dict[str, int], readable: Sequence[str], writable: Sequence[str], uid: int | None) -> None:
    """Give up all that a submission must not have; there is no way back for this process and its threads.

    Args:
        limits: memory (bytes), cpu (seconds), file (bytes of one file), files (open at once), threads.
        readable: files and folders that may be read.
        writable: folders that may be written.
        uid: to become, where this process may choose; None to stay.
    """
    own_proc()
    if len(os.listdir("/proc/self/task")) > 1:  # it would keep all that this one gives up
        raise OSError("there is a thread already")
    limit(limits, uid)
    drop_privileges(uid)
    check_libc(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))  # after the change of the user, which clears it
    allowed = [(path, READING) for path in readable] + [(path, WRITING) for path in writable]
    allowed += [("/dev/null", READ_FILE | WRITE_FILE), ("/dev/urandom", READ_FILE)]
    if landlock_abi():
        proc = (*(f"self/{name}" for name in OWN_PROC), "cpuinfo", "meminfo", "stat")
        landlock([*allowed, *((f"/proc/{name}", READING) for name in proc)])
    filter_calls()


def limit(limits: dict[str, int], uid: int | None) -> None:
    """Bound memory, time, files and core dumps; Linux kills this process before any other when memory runs out."""
    bounds = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CPU: limits["cpu"],
        resource.RLIMIT_FSIZE: limits["file"],
        resource.RLIMIT_NOFILE: limits["files"],
        resource.RLIMIT_CORE: 0,
    }
    if uid is not None:  # the threads of anybody else would count too
        bounds[resource.RLIMIT_NPROC] = limits["threads"]
    for kind, wanted in bounds.items():
        highest = resource.getrlimit(kind)[1]
        bound = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
        resource.setrlimit(kind, (bound, bound))
    LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # of a huge page, 4 kB count where only they are left; the canary looks
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def drop_privileges(uid: int | None) -> None:
    """Become `uid`, where it is given, and keep no capability, whoever this is."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    check_libc(LIBC.capset(header, nothing))
    check_libc(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    own_proc()


def own_proc() -> None:
    """Open this process's own /proc/self to it, which a fork of the parent and a change of the user close."""
    check_libc(LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))


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
    ruleset = check_libc(LIBC.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0))
    for path, access in allowed:
        if os.path.exists(path):
            allow(ruleset, path, access & handled)
    check_libc(LIBC.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def allow(ruleset: int, path: str, access: int) -> None:
    """Open one file or folder, with all that is below it."""

    class Beneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))

    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = Beneath(access if os.path.isdir(path) else access & OF_A_FILE, opened)
        check_libc(LIBC.syscall(ADD_RULE, ruleset, 1, ctypes.byref(rule), 0))
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

    def add_if(name: str, argument: int, mask: int, value: int) -> None:  # the kernel reads 32 bits of these
        add(refuse, name, seccomp.Arg(argument, seccomp.MASKED_EQ, mask, value))

    for name in REFUSED:
        add(refuse, name)
    for name in PRETENDED:
        add(seccomp.ERRNO(0), name)
    for number in UNKNOWN:
        rules.add_rule(seccomp.ERRNO(errno.ENOSYS), number)
    for command in OWNER_OF_SIGNALS:
        add_if("fcntl", 1, 0xFFFFFFFF, command)
    for option in (PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_THP_DISABLE):
        add_if("prctl", 0, 0xFFFFFFFF, option)
    for name, argument in (("open", 1), ("openat", 2)):  # old versions of Landlock take this for reading
        add_if(name, argument, os.O_ACCMODE | os.O_TRUNC, os.O_TRUNC)
    add_if("mmap", 3, SHARED_ANONYMOUS, SHARED_ANONYMOUS)  # its pages stay when a process drops them
    for name, argument in MAKES_A_FILE.items():  # chmod has no effect, and neither may this
        for bit in (SUID, SGID):
            add_if(name, argument, bit, bit)
    unsupported = seccomp.ERRNO(errno.EOPNOTSUPP)
    for request in set(range(min(IOCTLS), max(IOCTLS))) - set(IOCTLS):
        add(unsupported, "ioctl", seccomp.Arg(1, seccomp.EQ, request))
    add(unsupported, "ioctl", seccomp.Arg(1, seccomp.LT, min(IOCTLS)))
    add(unsupported, "ioctl", seccomp.Arg(1, seccomp.GT, max(IOCTLS)))
    add(seccomp.ERRNO(errno.ENOSYS), "openat2")
    add(unsupported, "fallocate")  # it takes the whole disk in less than a tick; libc writes zeros
    add_if("clone", 0, CLONE_THREAD, 0)
    add(seccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags can't be read here: glibc falls back to clone
    for name in ("kill", "tgkill"):
        add(refuse, name, seccomp.Arg(0, seccomp.NE, own))
    add(refuse, "tkill")
    add(refuse, "prlimit64", seccomp.Arg(0, seccomp.NE, 0), seccomp.Arg(2, seccomp.NE, 0))
    rules.load()


def check_libc(result: int) -> int:
    """The result of a call of libc.

    Raises:
        OSError: if it failed.
    """
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
