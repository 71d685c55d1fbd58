"""Dashboard, alerts and operators' table name figures that the services really have; figures are divided by nothing personal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from exposition import LABELS, counted, declared

from coordinator import metrics as coordinator
from devstack.toolchain import ROOT
from hessian.metrics import REGISTRY
from hessian.service import metrics as service
from hessian.service import outbox_metrics as outbox
from lender_api import metrics as lender
from owner_api import metrics as owner

FOLDER = ROOT / "deploy" / "observability"
OURS = {f"hessian_{name}" for name in declared(coordinator, lender, owner, outbox, service)} | counted()
NOT_OURS = {"up"}  # Prometheus' own


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / "grafana" / "hessian.json").read_text(encoding="utf-8"))["panels"])


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def selectors(expression: str) -> Iterator[Any]:
    """Every vector selector in it, however deep. Raises ValueError for what is no PromQL."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return (node for node in found if isinstance(node, promql_parser.VectorSelector))


@pytest.mark.parametrize("expression", expressions())
def test_expression__of_dashboard_or_alert__is_promql_over_figures_that_exist(expression: str) -> None:
    named = [selector.name for selector in selectors(expression)]
    assert named
    assert [name for name in named if name not in OURS | NOT_OURS] == []


@pytest.mark.parametrize("expression", expressions())
def test_expression__that_selects_by_label__selects_by_one_that_exists(expression: str) -> None:
    used = {matcher.name for selector in selectors(expression) for matcher in selector.matchers.matchers}
    assert used <= LABELS | {"job", "le"}


def test_alerts__each__has_a_name_of_its_own_a_severity_and_a_place_in_the_handbook() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    assert {rule["labels"]["severity"] for rule in rules()} <= {"page", "ticket"}
    assert all(rule["annotations"]["summary"] for rule in rules())
    handbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in handbook] == []


def test_handbook__its_table_of_figures__names_all_of_ours_and_no_others() -> None:
    handbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = handbook.partition("### Metrics")[2].partition("\n### ")[0]
    named = set(re.findall(r"^\| `(hessian_\w+)", table, re.MULTILINE))
    families = {family.name + ("_total" if family.type == "counter" else "") for family in REGISTRY.collect()}
    assert named == {name for name in families if name.startswith("hessian_")} | (OURS - counted())


def test_dashboard__its_panels__have_places_of_their_own_and_cover_the_subjects() -> None:
    titles = [panel["title"] for panel in panels()]
    assert {"Rounds", "Queue", "Chain", "Outbox", "Payouts", "Trainer"} <= set(titles)
    assert len({panel["id"] for panel in panels()}) == len(titles)
    taken = [(panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy) for panel in panels()
             for dx in range(panel["gridPos"]["w"]) for dy in range(panel["gridPos"]["h"])]  # fmt: skip
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_labels__of_every_figure_a_process_counts__are_of_the_few_that_name_nobody() -> None:
    of_ours = {label for collector in list(REGISTRY._collector_to_names) for label in getattr(collector, "_labelnames", ())}
    assert of_ours <= LABELS


def test_tracing__its_packages__are_imported_by_one_file() -> None:
    importing = [path for folder in ("libs", "services", "devstack") for path in (ROOT / folder).rglob("*.py")
                 if re.search(r"^\s*(from|import) opentelemetry", path.read_text(encoding="utf-8"), re.MULTILINE)]  # fmt: skip
    assert [str(path.relative_to(ROOT)) for path in importing] == ["libs/hessian/hessian/tracing/telemetry.py"]


def test_prometheus__its_targets__are_the_four_services_on_their_metrics_port() -> None:
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in settings["scrape_configs"]}
    assert set(jobs) == {"coordinator", "lender-api", "owner-api", "trainer"}
    assert {job["port"] for job in jobs.values()} == {9100}
    common = yaml.safe_load((ROOT / "docker-compose.common.yml").read_text(encoding="utf-8"))
    for name in jobs:
        assert common["services"][name]["environment"]["HESSIAN_METRICS_PORT"] == "${HESSIAN_METRICS_PORT:-9100}"


def test_compose__prometheus_and_grafana__are_asked_for_confined_and_published_on_this_machine_only() -> None:
    added = yaml.safe_load((ROOT / "docker-compose.observability.yml").read_text(encoding="utf-8"))["services"]
    assert set(added) == {"prometheus", "grafana"}
    for one in added.values():
        assert (one["profiles"], one["read_only"], one["cap_drop"]) == (["observability"], True, ["ALL"])
        assert all(port.startswith("127.0.0.1:") for port in one["ports"])
        mounted = [volume.split(":")[0] for volume in one["volumes"] if volume.startswith("./")]
        assert all((ROOT / place).is_file() for place in mounted)
