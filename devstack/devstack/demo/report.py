"""What a run is worth: `report.json`, the checks that decide the exit code, and the summary people read.

The encrypted model is compared with plaintext training on the same rows, which only this report can do: it holds every party's files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from devstack.demo import quotes
from devstack.demo.case import Case, Shards
from devstack.demo.checks import Check
from devstack.demo.display import ether, seconds_of
from devstack.demo.ledger import FunctionGas, Ledger
from devstack.demo.quotes import Quote, Served
from devstack.demo.target import peers, real, replayed
from hessian.artifacts.manifest import ModelManifest
from hessian.chain.events import Credited, MemberJoined, ModelCreated, RoundSettled, Withdrawn
from hessian.chain.records import CreditReason, ModelState
from hessian.identifiers import ErrorUnits
from hessian.learning.features import FloatMatrix
from hessian.learning.metrics import auc, auc_lead_standard_error, auc_standard_error, scores

KEY_BITS = 3072
TRAINING_SECONDS, TOTAL_SECONDS = 75, 180
_BILLION = 10**9
_LEAST_MARGIN = 0.01
LIMITS = (
    "One machine plays every party: isolation here is by role (own process, own database role, own token), not by host.",
    "Differential privacy is off: an owner's protection rests on the masks, and on the other owners.",
    "The lender learns the cohort's aggregate: the declared row counts and the sum of the owners' statistics.",
    "The rows were cut by this program, the owners trust each other's counts, and the ether is test ether.",
)


@dataclass(frozen=True)
class RoundRow:
    """One settled round."""

    error_before: float
    error_after: float
    reward_wei: str
    members: int
    seconds: float


@dataclass
class Report:
    """Everything in `report.json`, in its order. Wei are decimal strings, errors fractions."""

    rows: dict[str, Any]
    features: int
    owners: int
    key_bits: int
    rounds: list[RoundRow]
    auc_encrypted: float
    auc_plaintext: float
    auc_least_squares: float
    auc_logistic: float
    standard_errors: dict[str, float]
    lead_standard_error: float
    max_weight_error: float
    escrowed_wei: str
    paid_wei: str
    refunded_wei: str
    contract_balance_wei: str
    bonds_wei: dict[str, str]
    gas: dict[str, FunctionGas]
    bytes: dict[str, dict[str, int]]
    seconds: dict[str, float]
    deployment: dict[str, Any]
    quotes: list[Quote]
    checks: list[Check] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the run was what it had to be."""
        return all(check.holds for check in self.checks if check.decides)

    def write(self, file: Path) -> None:
        """As JSON."""
        file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Played:
    """A finished run: `weights` is lender-api's answer, `artifacts` the published bytes by kind, `owners` the accounts."""

    case: Case
    shards: Shards
    target: ErrorUnits
    weights: dict[str, Any]
    artifacts: dict[str, list[bytes]]
    owners: Sequence[str]
    served: Served


def measure(ledger: Ledger, played: Played, seconds: dict[str, float], *, key_bits: int = KEY_BITS) -> Report:
    """Build the report of a finished run."""
    shards, weights, label = played.shards, played.weights, played.case.label
    manifest = ModelManifest.from_bytes(played.artifacts["manifest"][0], minimum_bits=key_bits)
    settled = ledger.all(RoundSettled)
    final = np.array(weights["weights"], dtype=np.float64) / 2.0 ** weights["scale_bits"]
    x_test, y_test = manifest.specification.matrix(shards.test)
    replay, logistic, least_squares = _plaintext(manifest, shards, len(settled))
    decided = {
        "auc_encrypted": np.array(scores(weights["weights"], x_test), dtype=np.float64),
        "auc_plaintext": real(x_test, manifest.specification.feature_bits) @ replay,
        "auc_least_squares": least_squares,
        "auc_logistic": logistic,
    }
    areas = {name: auc(found, y_test) for name, found in decided.items()}
    gas, deposited = ledger.costs()
    money = _money(ledger, played.owners)
    report = Report(
        rows={
            "owners": [len(shard[label]) for shard in shards.owners],
            "validation": len(shards.validation[label]), "test": len(shards.test[label]),
        },
        features=manifest.dimension,
        owners=len(played.owners),
        key_bits=manifest.public_key.bits,
        rounds=_rounds(ledger, settled),
        auc_encrypted=areas["auc_encrypted"],
        auc_plaintext=areas["auc_plaintext"],
        auc_least_squares=areas["auc_least_squares"],
        auc_logistic=areas["auc_logistic"],
        standard_errors={name: auc_standard_error(area, y_test) for name, area in areas.items()},
        lead_standard_error=auc_lead_standard_error(decided["auc_encrypted"], logistic, y_test),
        max_weight_error=float(np.abs(final - replay).max()),
        escrowed_wei=str(money["escrowed_wei"]),
        paid_wei=str(money["paid_wei"]),
        refunded_wei=str(money["refunded_wei"]),
        contract_balance_wei=str(ledger.balance),
        bonds_wei={"deposited": str(money["bonds"]), "returned": str(money["returned"])},
        gas=gas,
        bytes={kind: _sizes(found) for kind, found in played.artifacts.items()},
        seconds=seconds,
        deployment=quotes.deployment(played.served),
        quotes=played.served.quotes,
    )  # fmt: skip
    report.checks = _checks(report, played, settled, money, deposited, key_bits) + quotes.checks(played.served)
    return report


def _plaintext(manifest: ModelManifest, shards: Shards, rounds: int) -> tuple[FloatMatrix, FloatMatrix, FloatMatrix]:
    """The weights of the same updates without encryption, and the test scores of two models of scikit-learn."""
    parts = [manifest.specification.matrix(owner) for owner in shards.owners]
    x, y = np.concatenate([part for part, _ in parts]), np.concatenate([part for _, part in parts])
    logistic, least_squares = peers(x, y, manifest.specification.matrix(shards.test)[0])
    return replayed(manifest, shards, rounds), logistic, least_squares


def _sizes(artifacts: Sequence[bytes]) -> dict[str, int]:
    lengths = [len(artifact) for artifact in artifacts]
    return {"count": len(lengths), "largest": max(lengths), "total": sum(lengths)}


def _rounds(ledger: Ledger, settled: Sequence[RoundSettled]) -> list[RoundRow]:
    rows, before = [], ledger.all(ModelCreated)[0].terms.initial_error
    for event in settled:
        members = len(ledger.progress_of(event.round_id)[1])
        rows.append(
            RoundRow(before / _BILLION, event.new_error / _BILLION, str(event.reward), members, round(seconds_of(ledger, event), 3))
        )
        before = event.new_error
    return rows


def _money(ledger: Ledger, owners: Sequence[str]) -> dict[str, int]:
    """What went in and out of the contract, as its events tell it. Bonds are apart: they are the owners' own, lent and returned."""
    terms = ledger.all(ModelCreated)[0].terms
    withdrawn = sum(event.amount for event in ledger.all(Withdrawn))
    of_owners = sum(event.amount for event in ledger.all(Withdrawn) if event.account in owners)
    returned = sum(event.amount for event in ledger.all(Credited) if event.reason is CreditReason.BOND)
    return {
        "escrowed_wei": terms.bounty + terms.base_fee * terms.max_rounds,
        "paid_wei": of_owners - returned,
        "refunded_wei": withdrawn - of_owners,
        "bonds": terms.member_bond * len(ledger.all(MemberJoined)),
        "returned": returned,
        "withdrawn": withdrawn,
    }


def _checks(
    report: Report, played: Played, settled: Sequence[RoundSettled], money: dict[str, int], deposited: int, key_bits: int
) -> list[Check]:
    target, errors = played.target, played.case.standard_errors
    margin = max(_LEAST_MARGIN, errors * report.lead_standard_error)
    less = f"less {margin:.3f}" + (f" ({errors} standard errors of the difference)" if margin > _LEAST_MARGIN else "")
    last, balance = settled[-1], int(report.contract_balance_wei)
    gap, lead = abs(report.auc_encrypted - report.auc_plaintext), report.auc_encrypted - report.auc_logistic
    training, total = report.seconds["training"], report.seconds["total"]
    apart = {
        "escrowed = paid + refunded + balance": money["escrowed_wei"] - money["paid_wei"] - money["refunded_wei"] - balance,
        "the owners were paid what the rounds were worth": money["paid_wei"] - sum(event.pool for event in settled),
        "every bond went back to its owner": money["bonds"] - money["returned"],
        "all ether that was sent in = withdrawn + balance": deposited - money["withdrawn"] - balance,
    }
    return [
        Check(f"the error falls to {target / _BILLION:.6f}", f"{last.new_error / _BILLION:.6f}", last.new_error <= target),
        Check("the model is trained", last.model_state.name.lower(), last.model_state is ModelState.TRAINED),
        Check(f"a key of {key_bits} bits", f"{report.key_bits} bits", report.key_bits == key_bits),
        Check("trained under encryption or without, the AUC is the same within 0.0001", f"{gap:.1e} apart", gap < 1e-4),
        Check(f"the AUC is above logistic regression's {less}", f"{lead:+.4f}", lead > -margin),
        *(Check(f"{expected}, to the wei", f"{difference} wei apart", difference == 0) for expected, difference in apart.items()),
        Check(f"training takes less than {TRAINING_SECONDS} s", f"{training:.1f} s", training < TRAINING_SECONDS, decides=False),
        Check(f"the whole run takes less than {TOTAL_SECONDS} s", f"{total:.1f} s", total < TOTAL_SECONDS, decides=False),
    ]


def show(report: Report, console: Console, file: Path) -> None:
    """The summary."""
    console.print(Text("\nWhat came out", style="bold"))
    rounds = Table("round", "error before", "error after", "reward, ether", "members", "seconds", box=None, pad_edge=True)
    for number, row in enumerate(report.rounds, start=1):
        cells = (f"{row.error_before:.6f}", f"{row.error_after:.6f}", ether(int(row.reward_wei)), str(row.members), f"{row.seconds:.1f}")
        rounds.add_row(str(number), *cells)
    console.print(rounds)
    areas = Table("area under the ROC curve, on rows nobody has seen", "AUC", "± standard error", box=None, pad_edge=True)
    for name, title in _TITLES.items():
        areas.add_row(title, f"{getattr(report, name):.6f}", f"{report.standard_errors[name]:.4f}")
    console.print(areas)
    console.print(
        f"  money: {ether(int(report.escrowed_wei))} ether escrowed, {ether(int(report.paid_wei))} paid to the owners, "
        f"{ether(int(report.refunded_wei))} back to the lender, {report.contract_balance_wei} wei left in the contract",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(quotes.table(report.quotes))
    console.print(Text("\nWhat was expected", style="bold"))
    for check in report.checks:
        mark = Text("  holds  ", style="green") if check.holds else Text("  FAILS  " if check.decides else "  slower ", style="bold red")
        console.print(mark + Text(f"{check.expected}: {check.measured}"), soft_wrap=True)
    console.print(Text("\nWhat this run does not show", style="bold"))
    for limit in LIMITS:
        console.print(f"  · {limit}", highlight=False, soft_wrap=True)
    console.print(f"\n  {file}", highlight=False, soft_wrap=True)


_TITLES = {
    "auc_encrypted": "trained under encryption",
    "auc_plaintext": "the same updates without encryption",
    "auc_least_squares": "least squares (scikit-learn)",
    "auc_logistic": "logistic regression (scikit-learn)",
}
