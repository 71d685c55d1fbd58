"""The decision and the rate against an exact reference, the policy's refusals, reasons of a decline, and the seal."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_model import specification
from small_serving import POLICY

from hessian.learning.calibration import CalibrationTable
from hessian.learning.plain import ShapeRefused
from hessian.lending.decision import Decision, break_even_rate, decide, decisions_by_band, reasons_for_decline
from hessian.lending.policy import LONGEST_REASON, MOST_REASONS, PolicyRefused, RatePolicy
from hessian.lending.sealing import SEAL_BYTES, SealRefused, seal, sealing_key_pair, unseal

policies = st.builds(
    RatePolicy,
    cutoff_bps=st.integers(1, 9_999),
    lgd_bps=st.integers(0, 10_000),
    funding_bps=st.integers(0, 5_000),
    margin_bps=st.integers(0, 5_000),
    cap_bps=st.integers(1, 100_000),
    tier_step_bps=st.integers(1, 1_000),
    quote_valid_seconds=st.just(86_400),
    quote_period_seconds=st.just(86_400),
)
probabilities = st.integers(1, 9_999)


def rate_of(policy: RatePolicy, pd_bps: int) -> Fraction:
    """The lender breaks even: (1 − p)·r = funding + margin + p·LGD, in fractions of one."""
    p, lgd = Fraction(pd_bps, 10_000), Fraction(policy.lgd_bps, 10_000)
    return (Fraction(policy.funding_bps + policy.margin_bps, 10_000) + p * lgd) / (1 - p)


@settings(deadline=None)
@given(policies, probabilities)
def test_break_even_rate__any_policy__is_the_exact_rate_rounded_up_to_a_basis_point(policy: RatePolicy, pd_bps: int) -> None:
    assert break_even_rate(policy, pd_bps) == ceil(rate_of(policy, pd_bps) * 10_000)


@settings(deadline=None)
@given(policies, probabilities)
def test_break_even_rate__in_decimals_of_sixty_digits__is_the_same(policy: RatePolicy, pd_bps: int) -> None:
    with localcontext() as context:
        context.prec = 60
        numerator = Decimal(10_000) * (policy.funding_bps + policy.margin_bps) + Decimal(pd_bps) * policy.lgd_bps
        exact = numerator / (Decimal(10_000) - pd_bps)
        assert break_even_rate(policy, pd_bps) == int(exact.to_integral_value(ROUND_CEILING))


@settings(deadline=None)
@given(policies, st.lists(probabilities, min_size=1, max_size=16, unique=True), st.integers(-100, 100))
def test_decide__any_score__approves_as_the_formula_says_and_rounds_up_to_a_tier(policy: RatePolicy, pds: list[int], score: int) -> None:
    table = CalibrationTable(tuple(range(len(pds) - 1)), tuple(sorted(pds)))
    decision = decide(policy, table, score)
    exact = rate_of(policy, decision.pd_bps) * 10_000
    assert decision.pd_bps == table.probabilities[decision.band]
    assert decision.approved == (decision.pd_bps <= policy.cutoff_bps and exact <= policy.cap_bps)
    if decision.rate_bps is None:
        assert not decision.approved
    else:
        assert exact <= decision.rate_bps <= policy.cap_bps
        assert decision.rate_bps < exact + policy.tier_step_bps
        assert decision.rate_bps % policy.tier_step_bps == 0 or decision.rate_bps == policy.cap_bps


@settings(deadline=None)
@given(policies, st.lists(probabilities, min_size=2, max_size=16, unique=True))
def test_decide__a_worse_score__never_gets_a_better_quote(policy: RatePolicy, pds: list[int]) -> None:
    decisions = decisions_by_band(policy, CalibrationTable(tuple(range(len(pds) - 1)), tuple(sorted(pds))))
    assert [decision.band for decision in decisions] == list(range(len(pds)))
    approved = [decision.approved for decision in decisions]
    assert approved == sorted(approved, reverse=True)
    rates = [decision.rate_bps for decision in decisions if decision.rate_bps is not None]
    assert rates == sorted(rates)


GOLDEN = [  # funding 300, margin 200, LGD 6000, cutoff 2500, cap 2400, tiers of 50: r by hand
    (1, Decision(approved=True, band=0, pd_bps=1, rate_bps=550)),  # 5006000/9999 = 500.65… → 501 → 550
    (400, Decision(approved=True, band=0, pd_bps=400, rate_bps=800)),  # 7400000/9600 = 770.83… → 771 → 800
    (1_800, Decision(approved=True, band=0, pd_bps=1_800, rate_bps=1_950)),  # 15800000/8200 = 1926.8… → 1927 → 1950
    (2_198, Decision(approved=True, band=0, pd_bps=2_198, rate_bps=2_350)),  # 18188000/7802 = 2331.1… → 2332 → 2350
    (2_250, Decision(approved=True, band=0, pd_bps=2_250, rate_bps=2_400)),  # 18500000/7750 = 2387.0… → 2388 → 2400, the cap
    (2_500, Decision(approved=False, band=0, pd_bps=2_500, rate_bps=None)),  # 20000000/7500 = 2666.6… > cap
    (2_501, Decision(approved=False, band=0, pd_bps=2_501, rate_bps=None)),  # above the cutoff
]


@pytest.mark.parametrize(("pd_bps", "wanted"), GOLDEN)
def test_decide__golden_cases__are_these(pd_bps: int, wanted: Decision) -> None:
    assert decide(POLICY, CalibrationTable((), (pd_bps,)), 0) == wanted


def test_decide__between_the_last_full_tier_and_the_cap__asks_the_cap() -> None:
    policy = replace(POLICY, cap_bps=1_940)
    decision = decide(policy, CalibrationTable((), (1_800,)), 0)  # r = 1927, its tier would be 1950
    assert (decision.approved, decision.rate_bps) == (True, 1_940)
    assert not decide(replace(policy, cap_bps=1_926), CalibrationTable((), (1_800,)), 0).approved


@pytest.mark.parametrize(
    "change",
    [
        {"cutoff_bps": 0},
        {"cutoff_bps": 10_000},
        {"lgd_bps": 10_001},
        {"lgd_bps": -1},
        {"funding_bps": -1},
        {"margin_bps": 100_001},
        {"cap_bps": 0},
        {"tier_step_bps": 0},
        {"quote_valid_seconds": 0},
        {"quote_period_seconds": 10**9},
        {"reasons": (("income", "a"), ("income", "b"))},
        {"reasons": (("income", ""),)},
        {"reasons": (("income", "x" * (LONGEST_REASON + 1)),)},
    ],
)
def test_policy__a_field_out_of_range__is_refused(change: dict[str, object]) -> None:
    with pytest.raises(PolicyRefused):
        replace(POLICY, **change)  # type: ignore[arg-type]


def test_policy__reasons_for_a_column_that_is_not_read__are_refused() -> None:
    POLICY.check_against(["income", "age", "region"])
    with pytest.raises(PolicyRefused, match="'age'"):
        POLICY.check_against(["income", "region"])


def test_from_plain__of_to_plain__is_the_same_policy() -> None:
    assert RatePolicy.from_plain(POLICY.to_plain()) == POLICY
    for change in ({"more": 1}, {"cutoff_bps": "2500"}, {"cutoff_bps": 10_000}, {"reasons": [{"column": "income"}]}):
        with pytest.raises((ShapeRefused, PolicyRefused)):
            RatePolicy.from_plain({**POLICY.to_plain(), **change})


def test_reasons__a_decline__names_the_columns_that_raised_the_score_most_first() -> None:
    spec = specification()  # intercept, income, age, region=north, region=other
    policy = replace(POLICY, reasons=(("income", "I"), ("age", "A"), ("region", "R")))
    assert reasons_for_decline(policy, spec, [9, 1, 1, 1, 1], [9, 5, 7, 2, 1]) == ("A", "I", "R")
    assert reasons_for_decline(policy, spec, [9, 1, -1, 1, 1], [9, 5, 7, 2, 1]) == ("I", "R")
    assert reasons_for_decline(policy, spec, [9, 1, 1, 1, 1], [9, 0, 7, -2, 1]) == ("A",)
    assert reasons_for_decline(replace(policy, reasons=()), spec, [9, 1, 1, 1, 1], [9, 5, 7, 2, 1]) == ()
    assert MOST_REASONS == 4


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=40), st.binary(max_size=40))
def test_unseal__of_sealed_bytes__opens_for_this_key_and_context_only(plaintext: bytes, context: bytes, other: bytes) -> None:
    assume(other != context)
    pair, stranger = sealing_key_pair(), sealing_key_pair()
    sealed = seal(pair.public, plaintext, context)
    assert len(sealed) == len(plaintext) + SEAL_BYTES
    assert sealed != seal(pair.public, plaintext, context)
    assert unseal(pair.private, sealed, context) == plaintext
    for private, said in ((stranger.private, context), (pair.private, other)):
        with pytest.raises(SealRefused):
            unseal(private, sealed, said)


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_unseal__a_flipped_bit__is_refused(place: int) -> None:
    pair = sealing_key_pair()
    sealed = bytearray(seal(pair.public, b"quote", b"context"))
    sealed[place] ^= 1
    with pytest.raises(SealRefused):
        unseal(pair.private, bytes(sealed), b"context")


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), (1).to_bytes(32, "little"), (2**255 - 20).to_bytes(32, "little")])
def test_seal__a_key_of_low_order_or_another_length__is_refused(key: bytes) -> None:
    with pytest.raises(SealRefused):
        seal(key, b"quote", b"context")


@pytest.mark.parametrize("sealed", [b"", bytes(10), bytes(47), bytes(200)])
def test_unseal__bytes_that_were_never_sealed__are_refused(sealed: bytes) -> None:
    with pytest.raises(SealRefused):
        unseal(sealing_key_pair().private, sealed, b"context")


def test_key_pair__printed__shows_no_secret() -> None:
    pair = sealing_key_pair()
    assert pair.private.hex() not in f"{pair!r} {pair}"
