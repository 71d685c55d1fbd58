"""`.env.example`: every variable of every service, grouped by the class that reads it. Made from those classes; a test compares."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from devstack.services import LAUNCHER, SERVICES

_HEAD = """\
# Every variable of the four services and the launcher, grouped by the section that reads it (`hessian env-example` writes this file).
# Required ones stand open, the others show their default. Secrets are named by file: a value here would show in process lists.
"""


def env_example() -> str:
    """The whole file."""
    readers: dict[type[BaseSettings], list[str]] = {}
    for service in (*SERVICES, LAUNCHER):
        for section in _sections(service.settings):
            readers.setdefault(section, []).append(service.name)
    groups = [
        "\n".join([f"# --- {_name(section)}: {_first_line(section)}", f"# Read by {', '.join(names)}.", *_lines(section)])
        for section, names in sorted(readers.items(), key=lambda item: (not _is_shared(item[0]), -len(item[1])))
    ]
    return "\n\n".join([_HEAD.rstrip(), *groups]) + "\n"


def _sections(settings: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
    """The classes that declare fields of their own, base sections first."""
    for parent in reversed(settings.__mro__):
        if issubclass(parent, BaseSettings) and parent is not BaseSettings and _own_fields(parent):
            yield parent


def _own_fields(section: type[BaseSettings]) -> dict[str, FieldInfo]:
    return {name: field for name, field in section.model_fields.items() if name in section.__annotations__}


def _lines(section: type[BaseSettings]) -> Iterator[str]:
    for name, field in _own_fields(section).items():
        if field.description:
            yield f"# {field.description}"
        variable = f"HESSIAN_{name.upper()}"
        if field.is_required():
            yield f"{variable}="
        else:
            default = "" if field.default is None or field.default is PydanticUndefined else field.default
            yield f"#{variable}={default}"


def _is_shared(section: type[BaseSettings]) -> bool:
    return section.__module__.startswith("hessian.")


def _name(section: type[BaseSettings]) -> str:
    return section.__name__ if _is_shared(section) else f"{section.__module__.partition('.')[0]} {section.__name__}"


def _first_line(section: type[BaseSettings]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]
