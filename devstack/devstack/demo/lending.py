"""The second half of the demo: the trained model is deployed, and borrowers from the test set apply without showing their features.

What each of them is told is compared with the decision on its features in the clear, at the scoring scale. The lender never answers any of
this program's questions about features: it is asked for its own weights and for the scores it decoded, which only a report can bring
together with the test rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from devstack.anvil import Anvil
from devstack.demo.case import Table
from devstack.demo.display import Display
from devstack.demo.in_the_clear import Clear
from devstack.demo.parties import Borrower, Lender, RequestRefused, Rest
from devstack.demo.quotes import FEE, Quote, Served, percent, sentence_of
from hessian.identifiers import Wei
from hessian.learning.columns import Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.plain import BILLION
from hessian.lending.decision import break_even_rate
from hessian.lending.policy import RatePolicy

BORROWERS_ETHER = Wei(2 * 10**16)
_ANSWER_WINDOW = 3600
_DAY = 86_400
_DONE = ("quoted", "unreadable", "expired", "failed")
SAFE, INSIDE, OUTSIDE = "a safe borrower", "one just inside the cutoff", "one just outside it"
RISKY, OPEN, IMPOSSIBLE = "a risky borrower", "the same, openly", "one with an impossible number"


_Asked = tuple[str, int, Borrower]
"""What a borrower is to show, its test row, and itself."""


class Lending:
    """Deploy, apply, compare."""

    def __init__(
        self, lender: Lender, owner_api: tuple[str, str], anvil: Anvil, display: Display, until: Callable[[Callable[[], bool], str], None]
    ) -> None:
        """`owner_api` is the URL and admin token of the borrowers' node; `until` waits for something and keeps the display alive."""
        self._lender, self._owner_api, self._anvil, self._display, self._until = lender, owner_api, anvil, display, until

    def deploy(self, model: str, specification: FeatureSpecification) -> Served:
        """Calibrate, publish, deploy."""
        probabilities: list[int] = self._lender.get(f"/v1/models/{model}/calibration")["probabilities_bps"]
        wish = {"model": model, "policy": _policy(probabilities, specification), "fee_wei": str(FEE), "answer_window": _ANSWER_WINDOW}
        deployment: dict[str, Any] = self._lender.post("/v1/deployments", wish)

        def is_serving() -> bool:
            deployment.update(self._lender.get(f"/v1/deployments/{deployment['id']}"))
            if deployment["state"] == "failed":
                raise RequestRefused(f"the deployment failed: {deployment['reason']}")
            return bool(deployment["state"] == "serving")

        self._until(is_serving, "the model was not deployed")
        calibration = deployment["calibration"]
        brier = calibration["brier"][calibration["method"]] / 1e9
        self._display.say(
            f"deployed as {deployment['deployment_id']}: {calibration['method']} calibration, Brier score {brier:.5f} "
            f"(base rate alone {calibration['base_rate_brier'] / 1e9:.5f}), {len(deployment['bands'])} bands"
        )
        return Served(deployment)

    def quote(self, served: Served, weights: dict[str, Any], specification: FeatureSpecification, rows: Table, closing: ExitStack) -> None:
        """Borrowers from the test rows apply; one accepts. Raises RequestRefused, ProcessFailed."""
        clear = Clear.of(served.deployment, weights, specification)
        safe, inside, outside, risky = clear.choose(rows)
        chosen = {SAFE: safe, INSIDE: inside, OUTSIDE: outside, RISKY: risky, OPEN: risky}
        self._until(self._is_offered(served.deployment["deployment_id"]), "the borrowers' node did not see the deployment")
        asked = [(name, row, self._borrower(name, closing)) for name, row in chosen.items()]
        served.refusal = self._apply_impossibly(served, specification, rows, self._borrower(IMPOSSIBLE, closing))
        took: dict[str, float] = {}
        for group in (asked[:1], asked[1:]):  # one alone, the others at once
            self._ask(served.deployment["deployment_id"], group, specification, rows, took)
        for name, row, borrower in asked:
            served.quotes.append(self._compare(name, rows, row, borrower, clear, took[name]))
            self._display.say(sentence_of(served.quotes[-1]))
        accepting = next(borrower for name, _, borrower in asked if name == SAFE)
        served.confirmation = accepting.accept(self._lender)
        self._display.say(
            f"{SAFE} opened its commitment; the lender recomputed it and confirmed {percent(served.confirmation['rate_bps'])}"
        )
        served.fees_wei = self._lender.get("/v1/wallet")["fees_credit_wei"]

    def _ask(
        self, deployment_id: int, group: list[_Asked], specification: FeatureSpecification, rows: Table, took: dict[str, float]
    ) -> None:
        """These borrowers apply; `took` gets the seconds of each until its quote."""
        begun: dict[str, float] = {}
        for name, row, borrower in group:
            begun[name] = time.monotonic()
            mode = "open" if name == OPEN else "private"
            borrower.apply(deployment_id, _named(specification, rows, row), FEE, mode=mode)

        def all_quoted() -> bool:
            for name, _, borrower in group:
                application = borrower.application()
                if name == OPEN and application["state"] == "waiting" and not borrower.has_shown:
                    borrower.show(self._lender)
                if application["state"] in _DONE and name not in took:
                    took[name] = time.monotonic() - begun[name]
            return all(name in took for name, _, _ in group)

        self._until(all_quoted, "not every borrower got its quote")

    def _is_offered(self, deployment_id: int) -> Callable[[], bool]:
        def is_offered() -> bool:
            with Rest(*self._owner_api) as admin:
                return any(one["deployment_id"] == deployment_id for one in admin.all("/v1/deployments"))

        return is_offered

    def _borrower(self, name: str, closing: ExitStack) -> Borrower:
        with Rest(*self._owner_api) as admin:
            borrower = closing.enter_context(Borrower(self._owner_api[0], admin.post("/v1/owners", {"name": name})))
        self._anvil.fund(borrower.address, BORROWERS_ETHER)
        return borrower

    def _apply_impossibly(self, served: Served, specification: FeatureSpecification, rows: Table, borrower: Borrower) -> str:
        features = impossible(specification, _named(specification, rows, 0))
        try:
            borrower.apply(served.deployment["deployment_id"], features, FEE)
        except RequestRefused as refusal:
            self._display.say(f"{IMPOSSIBLE} was refused by its own node, before anything was sent: {refusal.sentence}")
            return refusal.sentence
        return ""

    def _compare(self, name: str, rows: Table, row: int, borrower: Borrower, clear: Clear, seconds: float) -> Quote:
        application = borrower.application()
        if application["quote"] is None:
            raise RequestRefused(f"{name} got no quote: {application['state']}, {application['reason']}")
        quote = application["quote"]
        decoded: int = self._lender.get(f"/v1/requests/{application['request_id']}")["score"]
        one = {column: [cells[row]] for column, cells in rows.items()}
        wanted = clear.decide(clear.scores(one)[0])
        return Quote(
            borrower=name,
            mode=application["mode"],
            decision=quote["decision"],
            decision_in_the_clear="approve" if wanted.approved else "decline",
            rate_bps=quote["rate_bps"],
            rate_in_the_clear_bps=wanted.rate_bps,
            pd_bps=quote["pd_bps"],
            score_error=decoded / 2.0**clear.scale.score_bits - clear.unrounded(rows, row),
            reasons=quote["reasons"],
            seconds=round(seconds, 3),
        )


def _policy(probabilities: Sequence[int], specification: FeatureSpecification) -> dict[str, Any]:
    """Approve the safer half of the bands, at cost: a policy that fits any table this program is given."""
    cutoff = probabilities[(len(probabilities) - 1) // 2]
    reasons = {feature.name: f"{feature.name}: above the usual risk"[:80] for feature in specification.features}
    policy: dict[str, Any] = {
        "cutoff_bps": cutoff, "lgd_bps": 6_000, "funding_bps": 300, "margin_bps": 200, "cap_bps": 100_000, "tier_step_bps": 25,
        "quote_valid_seconds": _DAY, "quote_period_seconds": _DAY,
    }  # fmt: skip
    highest = break_even_rate(RatePolicy(**policy), cutoff)
    return policy | {"cap_bps": -(-highest // policy["tier_step_bps"]) * policy["tier_step_bps"], "reasons": reasons}


def impossible(specification: FeatureSpecification, features: dict[str, Any]) -> dict[str, Any]:
    """The same with a number beyond its legal range; without the first feature where there are only categories."""
    for feature in specification.features:
        if isinstance(feature, Numeric):
            return features | {feature.name: feature.maximum // BILLION + 1}
    return {name: value for name, value in features.items() if name != specification.features[0].name}


def _named(specification: FeatureSpecification, rows: Table, row: int) -> dict[str, Any]:
    """One row as a borrower would write it: named as in the manifest."""
    return {feature.name: rows[feature.name][row] for feature in specification.features}
