"""What a confined process may ask of the kernel: two lists of system calls as seccomp programs, assembled here as classic BPF.

START is what an interpreter needs to start and import; a sandbox holds it until the process narrows itself to WORK, before its first byte.
WORK is what arithmetic between two pipes needs: no path, no socket, no process, no signal to others, no new executable page; threads of
its own, which read a table's pieces side by side. A call that is not listed fails with EPERM (clone3, whose flags no filter can see, with
ENOSYS: the C library then asks by clone); one from another processor architecture's table kills. Lists rather than exceptions: a call that
a future kernel adds is closed until somebody opens it.

seccomp(2); struct seccomp_data and sock_filter in linux/seccomp.h and linux/filter.h; numbers: the kernel's tables for x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _ARGUMENT_BYTES = 0, 4, 16, 8
_X32_BIT = 0x40000000  # x86-64 kernels know a second table under numbers with this bit
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_PROT_EXEC, _TCGETS, _CLONE_THREAD = 0x4, 0x5401, 0x10000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Machine:
    """A processor architecture: its audit name, and where its numbers stand in the tables below."""

    audit: int
    column: int
    has_x32: bool


MACHINES = {"x86_64": Machine(0xC000003E, 0, True), "aarch64": Machine(0xC00000B7, 1, False)}

_Numbers = Mapping[str, tuple[int | None, int | None]]

WORK: _Numbers = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "close": (3, 57), "lseek": (8, 62),
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233), "brk": (12, 214),
    "futex": (202, 98), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "getrandom": (318, 278), "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
    "getpid": (39, 172), "gettid": (186, 178), "getrusage": (98, 165), "times": (100, 153), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sysinfo": (99, 179), "poll": (7, None), "ppoll": (271, 73),
    "clone": (56, 220), "set_robust_list": (273, 99), "rseq": (334, 293),
}  # fmt: skip

START: _Numbers = {
    **WORK,
    "execve": (59, 221), "open": (2, None), "openat": (257, 56), "fstat": (5, 80), "stat": (4, None), "lstat": (6, None),
    "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17), "getdents64": (217, 61), "ioctl": (16, 29), "fcntl": (72, 25),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pread64": (17, 67), "prctl": (157, 167), "seccomp": (317, 277),
    "arch_prctl": (158, None), "set_tid_address": (218, 96), "uname": (63, 160),
    "prlimit64": (302, 261), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getppid": (110, 173), "wait4": (61, 260), "umask": (95, 166),
}  # fmt: skip


@dataclass(frozen=True)
class _Only:
    """The call is allowed only while `argument & mask == value` (low 32 bits, as the kernel reads these arguments)."""

    argument: int
    mask: int
    value: int


_THREADS_ONLY = {"clone": _Only(0, _CLONE_THREAD, _CLONE_THREAD)}
_START_RULES = {
    **_THREADS_ONLY,
    "open": _Only(1, _WRITING, 0),
    "openat": _Only(2, _WRITING, 0),
    "prlimit64": _Only(0, 0xFFFFFFFF, 0),  # its own limits, nobody else's
    "ioctl": _Only(1, 0xFFFFFFFF, _TCGETS),  # "is this a terminal?", asked of every file that Python opens
}
_WORK_RULES = {"mmap": _Only(2, _PROT_EXEC, 0), "mprotect": _Only(2, _PROT_EXEC, 0), **_THREADS_ONLY}
_CLONE3 = (435, 435)


def start_program(machine: str = platform.machine()) -> bytes | None:
    """The program for START, as `bwrap --seccomp` reads it; None where no table is known."""
    return _program(machine, START, _START_RULES)


def work_program(machine: str = platform.machine()) -> bytes | None:
    """The program for WORK; None where no table is known."""
    return _program(machine, WORK, _WORK_RULES)


def is_known() -> bool:
    """Whether this machine's kernel takes these programs."""
    return sys.platform == "linux" and platform.machine() in MACHINES


def narrow() -> None:
    """Hold this process to WORK, for good. Where no table is known nothing happens. Raises OSError when the kernel takes no filter."""
    program = work_program() if is_known() else None
    if program is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))  # struct sock_fprog
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no system call filter")


def _program(machine: str, allowed: _Numbers, rules: Mapping[str, _Only]) -> bytes | None:
    described = MACHINES.get(machine)
    if described is None:
        return None
    code = [*_statement(_LOAD, _ARCHITECTURE), *_jump(_EQUAL, described.audit, 1, 0), *_statement(_RETURN, _KILL)]
    code += _statement(_LOAD, _NUMBER)
    if described.has_x32:
        code += [*_jump(_AT_LEAST, _X32_BIT, 0, 1), *_statement(_RETURN, _KILL)]
    code += [*_jump(_EQUAL, _CLONE3[described.column], 0, 1), *_statement(_RETURN, _UNKNOWN)]
    for name in sorted(allowed):
        if (number := allowed[name][described.column]) is not None:
            block = [*_rule(rules.get(name)), *_statement(_RETURN, _ALLOW)]
            code += [*_jump(_EQUAL, number, 0, len(block)), *block]
    return b"".join([*code, *_statement(_RETURN, _REFUSE)])


def _rule(only: _Only | None) -> Iterator[bytes]:
    if only is not None:
        yield from _statement(_LOAD, _FIRST_ARGUMENT + _ARGUMENT_BYTES * only.argument)
        yield from _statement(_AND, only.mask)
        yield from _jump(_EQUAL, only.value, 1, 0)
        yield from _statement(_RETURN, _REFUSE)


def _statement(code: int, value: int) -> Iterator[bytes]:
    yield struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, when_true: int, when_false: int) -> Iterator[bytes]:
    yield struct.pack("=HBBI", code, when_true, when_false, value)
