"""The backend `bwrap`: each worker in namespaces of its own, with a read-only view of the interpreter and its packages and nothing else.

No network device, no other process, no /proc, /sys or /dev, no home, no configuration, no capability, another user, a small tmpfs.
Bubblewrap installs no system call filter: it is handed ours. https://github.com/containers/bubblewrap
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from hessian.confinement.filter import start_program
from trainer.isolation.local import LocalWorker, start_child
from trainer.isolation.view import View, needed_view
from trainer.isolation.worker import ENVIRONMENT, PROGRAM, Isolation, IsolationUnavailable, JobLimits, arguments_of

TMPFS_BYTES = 16 << 20
NOBODY = 65534
_ALONE = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup",
    "--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "job",
    "--cap-drop", "ALL", "--new-session", "--die-with-parent", "--clearenv",
)  # fmt: skip


class BubblewrapIsolation(Isolation):
    """Sandboxed children of this process. Made by `prepare`, which tries one out."""

    name = "bwrap"

    def __init__(self, limits: JobLimits, *, program: Sequence[str], bwrap: str, view: View, filter_program: bytes) -> None:
        super().__init__(limits, program=program)
        self._filter = filter_program
        shown = [option for path in view.shown for option in ("--ro-bind", str(path), str(path))]
        linked = [option for target, path in view.links for option in ("--symlink", target, str(path))]
        environment = [option for name, value in ENVIRONMENT.items() for option in ("--setenv", name, value)]
        tmp = ("--size", str(TMPFS_BYTES), "--tmpfs", "/tmp")  # noqa: S108 - the sandbox's own; first, for the packages may lie below /tmp
        self._sandbox = [bwrap, *_ALONE, *environment, *tmp, *linked, *shown, "--remount-ro", "/", "--chdir", "/"]

    @classmethod
    async def prepare(cls, limits: JobLimits, *, program: Sequence[str] = PROGRAM) -> BubblewrapIsolation:
        """Learn what the interpreter needs and start one sandbox. Raises IsolationUnavailable with the reason."""
        bwrap, filter_program = shutil.which("bwrap"), start_program()
        if bwrap is None:
            raise IsolationUnavailable("the program bwrap is not installed (Debian, Ubuntu: apt install bubblewrap)")
        if filter_program is None:
            raise IsolationUnavailable(f"no system call filter is known for {os.uname().machine}")
        isolation = cls(limits, program=program, bwrap=bwrap, view=await needed_view(), filter_program=filter_program)
        await isolation.prove()
        return isolation

    async def _begin(self) -> LocalWorker:
        """A sandbox that dies with this process."""
        descriptor = os.memfd_create("filter")
        try:
            os.write(descriptor, self._filter)
            os.lseek(descriptor, 0, os.SEEK_SET)
            command = [*self._sandbox, "--seccomp", str(descriptor), sys.executable, *self.program, *arguments_of(self.limits, 0)]
            return await start_child(command, {}, pass_fds=(descriptor,))
        finally:
            os.close(descriptor)
