"""A node at a glance: models, rounds, jobs and money, from the coordinator's and lender-api's read routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from hessian.errors import ServiceUnavailable

_SECONDS = 10.0
_ROUNDS = 10
_WEI_PER_ETHER = 10**18


@dataclass(frozen=True)
class Overview:
    """As the services answered: `models` and the newest `rounds` of `GET /v1/models` and `/v1/rounds`, `jobs` by state, the wallet."""

    lag_blocks: int | None
    lag_seconds: int | None
    jobs: dict[str, int]
    models: list[dict[str, Any]] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    wallet: dict[str, Any] = field(default_factory=dict)


def overview(coordinator: str, lender: str, token: str, *, transport: httpx.BaseTransport | None = None) -> Overview:
    """Ask both. Raises ServiceUnavailable when one does not answer as it must."""
    with httpx.Client(timeout=_SECONDS, trust_env=False, transport=transport, headers={"Authorization": f"Bearer {token}"}) as client:
        try:
            status = _get(client, f"{coordinator}/v1/status")
            return Overview(
                lag_blocks=status["lag_blocks"],
                lag_seconds=status["lag_seconds"],
                jobs=status["jobs"],
                models=_all(client, f"{coordinator}/v1/models"),
                rounds=_all(client, f"{coordinator}/v1/rounds")[-_ROUNDS:],
                wallet=_get(client, f"{lender}/v1/wallet"),
            )
        except (httpx.HTTPError, ValueError, LookupError) as error:
            raise ServiceUnavailable(f"the services do not tell how things stand ({type(error).__name__})") from error


def show(seen: Overview, console: Console) -> None:
    """Three tables; those without rows are left out."""
    if seen.models:
        console.print()
        console.print(_models(seen.models))
    if seen.rounds:
        console.print()
        console.print(_rounds(seen.rounds))
    jobs = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in seen.jobs.items() if count) or "none yet"
    wallet = seen.wallet
    console.print(f"\njobs             {jobs}", soft_wrap=True, markup=False)
    money = f"{_ether(wallet['balance_wei'])} ether, {_ether(wallet['credit_wei'])} more to withdraw"
    console.print(f"lender's wallet  {wallet['address']}: {money}", soft_wrap=True, markup=False)


def _models(models: list[dict[str, Any]]) -> Table:
    table = Table(
        "model", "state", "error: start", "best", "target", "rounds", "members waiting", "bounty", "paid", "back", box=None, pad_edge=False
    )
    for model in models:
        forming = [cohort for cohort in model["cohorts"] if not cohort["is_sealed"]]
        waiting = f"{len(forming[0]['members'])}/{model['cohort_size']}" if forming else ""
        errors = (f"{model[name] / 1e9:.6f}" for name in ("initial_error", "best_error", "target_error"))
        money = (_ether(model[name]) for name in ("bounty_wei", "paid_wei", "refunded_wei"))
        table.add_row(str(model["model_id"]), model["state"], *errors, f"{model['rounds_paid']}/{model['max_rounds']}", waiting, *money)
    return table


def _rounds(rounds: list[dict[str, Any]]) -> Table:
    table = Table("round", "of model", "state", "submitted", "unlocked", "error", "paid", "jobs", box=None, pad_edge=False)
    for one in rounds:
        members = len(one["members"])
        aside = sum(job["state"] == "set_aside" for job in one["jobs"])
        table.add_row(
            str(one["round_id"]),
            str(one["model_id"]),
            one["state"],
            f"{one['submitted']}/{members}",
            f"{one['unlocked']}/{members}",
            "" if one["error_after"] is None else f"{one['error_after'] / 1e9:.6f}",
            "" if one["pool_wei"] is None else _ether(one["pool_wei"]),
            f"{len(one['jobs'])}" + (f", {aside} set aside" if aside else ""),
        )
    return table


def _get(client: httpx.Client, url: str, **query: str) -> dict[str, Any]:
    return dict(client.get(url, params=query).raise_for_status().json())


def _all(client: httpx.Client, url: str) -> list[dict[str, Any]]:
    page = _get(client, url)
    items: list[dict[str, Any]] = page["items"]
    while page["next"] is not None:
        page = _get(client, url, after=page["next"])
        items += page["items"]
    return items


def _ether(wei: str) -> str:
    return f"{int(wei) / _WEI_PER_ETHER:.4f}"
