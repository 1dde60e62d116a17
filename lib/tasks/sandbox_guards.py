"""What a Linux process can give up by itself, for good and without rights: two guards of the kernel.

seccomp refuses system calls: no process or thread is made, nobody is signalled, traced or reached by a socket, no
owner, mode or system setting is changed. Landlock refuses files: only `readable` is read, only one folder is written.
Only the standard library is used, for the sandbox's bare interpreter runs this.
"""

import ctypes
import os
import platform
import struct

# System calls that are refused: numbers on x86_64 and aarch64 (None: there is none).
REFUSED = {
    # processes and threads
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "clone3": (435, 435),
    "execve": (59, 221), "execveat": (322, 281), "unshare": (272, 97), "setns": (308, 268),
    # signals, and the memory of others
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    # network, what else can carry it out, and what stays in the kernel after the process
    "socket": (41, 198), "connect": (42, 203), "io_uring_setup": (425, 425), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    # files in ways that Landlock does not see
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "open_by_handle_at": (304, 265), "mknod": (133, None), "mknodat": (259, 33), "chroot": (161, 51),
    # the machine: limits, mounts, clocks, names, modules
    "setrlimit": (160, 164), "prlimit64": (302, 261), "setpriority": (141, 140), "mount": (165, 40),
    "umount2": (166, 39), "move_mount": (429, 429), "open_tree": (428, 428), "pivot_root": (155, 41),
    "reboot": (169, 142), "kexec_load": (246, 104), "swapon": (167, 224), "swapoff": (168, 225),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "iopl": (172, None), "ioperm": (173, None), "acct": (163, 89), "quotactl": (179, 60),
    "syslog": (103, 116),
}  # fmt: skip
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of REFUSED; the kernel's word for it

NO_NEW_PRIVILEGES, SECCOMP, DUMPABLE, SUBREAPER, DEATH_SIGNAL = 38, 22, 4, 36, 1  # of prctl
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ, FILE_ONLY = 0b1101, 0b1100_0000_0000_0111  # execute, read a file or folder; what a rule on a file may name


def available() -> bool:
    """Whether this machine's words are known here; whether its kernel has the guards, `apply` finds out."""
    return platform.system() == "Linux" and platform.machine() in MACHINES


def prctl(option: int, value: int, *more) -> None:
    """Raises OSError where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), *more, *[ctypes.c_ulong(0)] * (3 - len(more))) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def apply(readable: list[str], folder: str) -> None:
    """Give up all but reading `readable` and writing inside of `folder`. Raises OSError where a guard is missing."""
    if not available():
        raise OSError("no guards are known for this machine")
    prctl(NO_NEW_PRIVILEGES, 1)
    _landlock(readable, folder)
    _seccomp()


def _landlock(readable: list[str], folder: str) -> None:
    version = _call(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 3:  # before it a file could be emptied
        raise OSError("this kernel's Landlock is too old")
    everything = (1 << (16 if version >= 5 else 15)) - 1
    network, scopes = 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0
    asked = struct.pack("=QQQ", everything, network, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _call(LANDLOCK_CREATE, asked, ctypes.c_size_t(len(asked)), ctypes.c_uint32(0))
    devices = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]
    rules = [(path, READ) for path in [*readable, *devices]] + [("/dev/null", READ | 2), (folder, everything)]
    for path, access in rules:
        try:
            file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not on this machine
        access &= everything if os.path.isdir(path) else FILE_ONLY & everything
        rule = ctypes.create_string_buffer(struct.pack("=Qi", access, file), 12)
        _call(LANDLOCK_ADD, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
        os.close(file)
    _call(LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _call(number: int, *arguments) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(ctypes.c_long(number), *arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return found


def _seccomp() -> None:
    """A program for the kernel: load a word, compare, return. The refused calls end in EPERM."""
    column, machine = MACHINES[platform.machine()]
    numbers = [pair[column] for pair in REFUSED.values() if pair[column] is not None]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | 1, 0x80000000
    steps = [(load, 0, 0, 4), (equal, 1, 0, machine), (give, 0, 0, kill), (load, 0, 0, 0)]
    steps += [(at_least, len(numbers) + 1, 0, 0x40000000)]  # x86_64's second set of numbers
    steps += [(equal, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    steps += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    prctl(SECCOMP, 2, program)
