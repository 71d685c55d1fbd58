"""`python -m hessian.service.node_secrets make|given <directory> [<service> …]`: the step that gives a node its secrets as files.

The directory holds `originals/`, and one folder for each of the services, which get copies: a service sees its own secrets and no other's.
Without names: whoever has a volume there.
`make` makes what a new node lacks and says so; `given` makes nothing. Both stop when a secret that was here once is gone: what it
protects could not be opened with a new one.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hessian.errors import HessianError
from hessian.settings import BadSettings

ORIGINALS = "originals"
_KNOWN = "known.json"
_GROUP_READS = {"postgres"}  # its image runs as a user of its own, which gets our group

ADMIN, COORDINATOR, TRAINER, LAUNCHER = "admin.token", "coordinator.token", "trainer.token", "launcher.token"
SCHEMAS: Mapping[str, str] = {"lender-api": "lender", "owner-api": "owner", "coordinator": "coordinator"}
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "postgres": ("postgres.database-password",),
    "roles": ("postgres.database-password",),
    "lender-api": (ADMIN, COORDINATOR, TRAINER, "lender.database-password", "lender.passphrase"),
    "owner-api": (ADMIN, COORDINATOR, TRAINER, "owner.database-password", "owner.passphrase"),
    "trainer": (COORDINATOR, TRAINER),
    "launcher": (LAUNCHER,),
    "coordinator": (ADMIN, COORDINATOR, "coordinator.database-password"),
}


class SecretGone(BadSettings):
    """A secret that this node had is not there any more."""


@dataclass(frozen=True)
class Outcome:
    """Names of files, never what is in them."""

    made: tuple[str, ...]
    taken: tuple[str, ...]


def needs(services: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which secrets each of these services reads. Raises BadSettings for a service nobody knows."""
    present = sorted(services)
    if unknown := [service for service in present if service not in _NEEDS]:
        raise BadSettings(f"there is no service {unknown[0]}: secrets are for {', '.join(_NEEDS)}")
    passwords = tuple(f"{SCHEMAS[service]}.database-password" for service in present if service in SCHEMAS)
    more = {"roles": passwords, "trainer": (LAUNCHER,) if "launcher" in present else ()}
    return {service: _NEEDS[service] + more.get(service, ()) for service in present}


def mounted(directory: Path) -> list[str]:
    """The services of a composed node: each has a volume of its own in the directory. Raises BadSettings when there is none."""
    found = [place.name for place in directory.glob("*") if place.is_mount() and place.name != ORIGINALS]
    if not found:
        raise BadSettings(f"no volume is mounted below {directory}: name the services whose secrets are to be handed out")
    return found


def hand_out(directory: Path, services: Iterable[str], *, may_make: bool) -> Outcome:
    """Bring originals and copies in order. Raises BadSettings (SecretGone) before anything was written."""
    originals, wanted = directory / ORIGINALS, needs(services)
    try:
        known: dict[str, str] = json.loads((originals / _KNOWN).read_text(encoding="utf-8")) if (originals / _KNOWN).exists() else {}
        names = sorted({name for own in wanted.values() for name in own})
        absent = [name for name in names if not (originals / name).exists()]
        for name in absent:
            _require_new(directory, name, known, wanted, may_make=may_make)
        for name in absent:
            _write(originals / name, secrets.token_urlsafe(32), 0o600)
        contents = {name: (originals / name).read_text(encoding="utf-8").strip() for name in names}
        if empty := [name for name, content in contents.items() if not content]:
            raise BadSettings(f"the secret {originals / empty[0]} is empty")
        known |= {name: "made here" if name in absent else "given" for name in names if name not in known}
        _write(originals / _KNOWN, json.dumps(known, indent=2), 0o600)
        for service, own in wanted.items():
            for name in own:
                _write(directory / service / name, contents[name], 0o640 if service in _GROUP_READS else 0o600)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds something else than text"
        place = error.filename if isinstance(error, OSError) else originals
        raise BadSettings(f"the secrets in {place} cannot be read or written: {reason}") from error
    return Outcome(tuple(absent), tuple(name for name in names if name not in absent))


def _require_new(directory: Path, name: str, known: Mapping[str, str], wanted: Mapping[str, tuple[str, ...]], *, may_make: bool) -> None:
    """Raises SecretGone when this node had the secret once, BadSettings when it may not be made."""
    original = directory / ORIGINALS / name
    if name in known:
        raise SecretGone(f"the secret {original} was here and is gone: restore it from your backup, a new one would open nothing")
    holders = [service for service, own in wanted.items() if name in own and (directory / service / name).exists()]
    if holders:
        raise SecretGone(f"the secret {original} is gone, {holders[0]} still holds a copy of it: restore it from your backup or from there")
    if not may_make:
        raise BadSettings(f"the secret {original} is missing: put it there, 32 random bytes or more in text")


def _write(path: Path, text: str, mode: int) -> None:
    """All or nothing, and at no moment readable by more than `mode` says. Untouched when it already says so."""
    if path.exists() and path.read_text(encoding="utf-8") == text and path.stat().st_mode & 0o777 == mode:
        return
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(mode)  # whatever the umask took away
    draft.replace(path)


def main(arguments: list[str]) -> None:
    """The command line."""
    match arguments:
        case ["make" | "given" as mode, place, *services]:
            outcome = hand_out(Path(place), services or mounted(Path(place)), may_make=mode == "make")
        case _:
            sys.exit("usage: python -m hessian.service.node_secrets make|given <directory> [<service> …]")
    for verb, names in (("made", outcome.made), ("found", outcome.taken)):
        if names:
            print(f"secrets {verb}: {', '.join(names)}")
    if outcome.made:
        print(f"back up {place}/{ORIGINALS} now, apart from the database: without the passphrases nobody opens the keys in it")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except HessianError as error:
        sys.exit(f"secrets: {error}")
