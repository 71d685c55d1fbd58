"""The house's own rules: a folder is a test's kind, and no tracked file names a machine or a registry."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.toolchain import ROOT

KINDS = {"unit", "integration", "e2e", "faults", "architecture"}
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
REGISTRIES = re.compile(r"\b(pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|proxy\.golang\.org|registry\.yarnpkg\.com)\b")
PLACES = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[\w-]+")


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_tests__each_file__lies_in_the_folder_of_its_kind_under_a_name_of_its_own() -> None:
    assert {path.relative_to(ROOT / "tests").parts[0] for path in TESTS} <= KINDS
    assert all(len(path.relative_to(ROOT / "tests").parts) == 2 for path in TESTS)
    assert len({path.name for path in TESTS}) == len(TESTS)


def _tests_in(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_tests__each_name__says_action_state_effect(path: Path) -> None:
    assert [test.name for test in _tests_in(path) if not 2 <= len(test.name.split("__")) <= 3] == []


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_tests__each_file__does_not_sleep_to_hope(path: Path) -> None:
    """A loop that polls with a deadline may sleep, and `sleep(0)` lets others run; a bare sleep in a test's own body hopes."""
    statements = [(test.name, statement) for test in _tests_in(path) for statement in test.body if isinstance(statement, ast.Expr)]
    assert [name for name, statement in statements if re.search(r"\bsleep\((?!0\))", ast.unparse(statement))] == []


def test_files__tracked__name_no_registry_and_no_place_on_this_machine() -> None:
    found = []
    for path in _tracked():
        if path == Path(__file__) or path.suffix in {".png", ".ico", ".woff2"}:
            continue
        text = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for pattern in (REGISTRIES, PLACES) for match in pattern.finditer(text)]
    assert not found


def test_modules__each_of_ours__opens_with_what_the_room_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for folder in ("libs", "services", "devstack")
        for path in (ROOT / folder).rglob("*.py")
        if path.stat().st_size and "versions" not in path.parts and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert not silent
