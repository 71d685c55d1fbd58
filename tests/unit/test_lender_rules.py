"""lender-api's rules without its neighbours: states, terms, fitting, what a member's artifact must be, and the CSV's own."""

from __future__ import annotations

import itertools
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_model import Rows, manifest, private_key

from hessian.artifacts.codec import ArtifactRefused
from hessian.artifacts.gradient import MaskedGradient
from hessian.chain import records
from hessian.errors import HessianError, Malformed
from hessian.identifiers import Timestamp
from hessian.learning.cells import CellRefused
from hessian.learning.columns import Label, Numeric
from hessian.learning.fitting import FitRefused, NumericOutline, Outline
from hessian.learning.objective import SQUARED
from hessian.learning.plain import BILLION
from hessian.paillier.packing import LayoutRefused
from hessian.testing import valid_terms
from lender_api.models.fit import ROWS_PER_ENTRY, TooFewRows, WeightsTooLarge, fit_model
from lender_api.models.schemas import CreateModel
from lender_api.models.service import KeyTooSmall
from lender_api.models.states import ForbiddenTransition, ModelState, follow_chain, move_to
from lender_api.models.terms import LONGEST_TRAINING, TermsRefused, check_terms
from lender_api.rounds import submissions
from lender_api.tables import Model
from lender_api.validation_sets import csv_table

NOW = Timestamp(1_800_000_000)
MANIFEST = manifest(valid_terms(NOW, cohort_size=3))
CONTEXT = b"c" * 32


@pytest.mark.parametrize(("before", "after"), list(itertools.product(ModelState, ModelState)))
def test_move_to__every_pair_of_states__follows_the_arrows_only(before: ModelState, after: ModelState) -> None:
    model = Model(state=before.value)
    if after in before.successors:
        move_to(model, after, "why")
        assert (model.state, model.reason) == (after.value, "why")
    else:
        with pytest.raises(ForbiddenTransition):
            move_to(model, after)
        assert model.state == before.value


def test_follow_chain__every_state_of_the_contract__is_known_here() -> None:
    for state in set(records.ModelState) - {records.ModelState.NONE}:
        model = Model(state="open")
        follow_chain(model, state)
        assert model.state == state.name.lower()


def test_follow_chain__an_older_block_says_open__changes_nothing() -> None:
    model = Model(state="expired")
    follow_chain(model, records.ModelState.OPEN)
    assert model.state == "expired"


BAD_TERMS = {
    "bounty": 0,
    "base_fee": 10**16 + 1,
    "target_error": 250_000_000,
    "submit_window": 29,
    "accept_window": 29,
    "unlock_window": 29,
    "evaluate_window": 29,
    "training_deadline": NOW,
}


def test_check_terms__valid__passes() -> None:
    check_terms(valid_terms(NOW, base_fee=10**16, submit_window=30, training_deadline=NOW + LONGEST_TRAINING), minimum_window=30, now=NOW)


@pytest.mark.parametrize("name", [*BAD_TERMS, "late"])
def test_check_terms__one_bad_term__is_named(name: str) -> None:
    changes = {"training_deadline": NOW + LONGEST_TRAINING + 1} if name == "late" else {name: BAD_TERMS[name]}
    with pytest.raises(TermsRefused, match=r"^(bounty|member_bond|target_error|\w+_window|training_deadline)"):
        check_terms(valid_terms(NOW, **changes), minimum_window=30, now=NOW)


WISH: dict[str, Any] = CreateModel.model_json_schema()["examples"][0]
INTEGERS = ["feature_bits", "clip_deviations", "key_bits", "cohort_size"]
TERM_INTEGERS = ["target_error", "max_rounds", "row_cap", "submit_window", "accept_window", "unlock_window", "evaluate_window"]


@pytest.mark.parametrize("value", [True, "6", 6.0])
@pytest.mark.parametrize("name", [*INTEGERS, *TERM_INTEGERS, "training_deadline"])
def test_create_model__an_integer_is_something_else__is_refused(name: str, value: object) -> None:
    CreateModel.model_validate(WISH)
    wish = WISH | {name: value} if name in INTEGERS else WISH | {"terms": WISH["terms"] | {name: value}}
    with pytest.raises(ValidationError, match=rf"(?s)1 validation error.*{name}\n"):
        CreateModel.model_validate(wish)


@pytest.mark.parametrize("refusal", [FitRefused, KeyTooSmall])
def test_refusal__of_a_wish__is_of_the_family_of_its_siblings(refusal: type[HessianError]) -> None:
    assert refusal.status == Malformed.status


OUTLINE = Outline((NumericOutline("income", 0, 100_000 * BILLION),), Label("Class", ("bad",), ("good",)))


def cells(rows: int) -> dict[str, list[str]]:
    return csv_table.cells_of(Rows(1, rows).csv(), ["income", "Class"])


def test_fit_model__enough_rows__starts_at_the_base_rate() -> None:
    fitted = fit_model(OUTLINE, cells(80), SQUARED, key_bits=512, cohort_size=3)
    share = sum(cell == "bad" for cell in cells(80)["Class"]) / 80
    assert fitted.weights == (round(share * 2**fitted.bounds.weight_bits), 0)
    assert fitted.error == pytest.approx(10**9 * share * (1 - share), abs=1000)


def test_fit_model__one_row_less_than_enough__is_refused() -> None:
    enough = 2 * ROWS_PER_ENTRY
    fit_model(OUTLINE, cells(enough), SQUARED, key_bits=512, cohort_size=3)
    with pytest.raises(TooFewRows):
        fit_model(OUTLINE, cells(enough - 1), SQUARED, key_bits=512, cohort_size=3)


def test_fit_model__no_slot_fits_the_key__is_refused() -> None:
    with pytest.raises(LayoutRefused):
        fit_model(OUTLINE, cells(80), SQUARED, key_bits=32, cohort_size=3)


def test_fit_model__weights_beyond_one_artifact__are_refused() -> None:
    with pytest.raises(WeightsTooLarge):
        fit_model(OUTLINE, cells(80), SQUARED, key_bits=4 * 2**20, cohort_size=3)


def test_fit_model__a_specification_nobody_could_read__is_refused() -> None:
    endless = Outline(OUTLINE.features, Label("Class", ("bad",), ("good", "g" * 300)))
    with pytest.raises(Malformed):
        fit_model(endless, cells(80), SQUARED, key_bits=512, cohort_size=3)


def test_fit_model__own_clips__are_published_as_given() -> None:
    outline = Outline((NumericOutline("income", 0, 100_000 * BILLION, (600 * BILLION, 9_000 * BILLION)),), OUTLINE.label)
    (feature,) = fit_model(outline, cells(80), SQUARED, key_bits=512, cohort_size=3).specification.features
    assert isinstance(feature, Numeric)
    assert (feature.clip_low, feature.clip_high) == (600 * BILLION, 9_000 * BILLION)


def artifact(index: int = 1, context: bytes = CONTEXT) -> MaskedGradient:
    values = [secrets.randbelow(2**64) for _ in range(MANIFEST.gradient_ciphertexts)]
    return MaskedGradient.seal(MANIFEST, context, index, private_key().encrypt(values))


def replaced(value: int) -> bytes:
    good = artifact()
    return MaskedGradient(CONTEXT, 1, (value.to_bytes(MANIFEST.public_key.ciphertext_bytes, "big"), *good.ciphertexts[1:])).to_bytes()


N = MANIFEST.public_key.n
BAD_ARTIFACTS = {
    "other member": artifact(index=2).to_bytes(),
    "other round": artifact(context=b"d" * 32).to_bytes(),
    "too few": MaskedGradient(CONTEXT, 1, ()).to_bytes(),
    "too many": MaskedGradient(CONTEXT, 1, artifact().ciphertexts * 2).to_bytes(),
    "short": MaskedGradient(CONTEXT, 1, (b"\x01",) * MANIFEST.gradient_ciphertexts).to_bytes(),
    "zero": replaced(0),
    "n": replaced(N),
    "n squared": replaced(N * N),
    "beyond": replaced(N * N + 1),
    "a factor of n": replaced(private_key().p * 12345),
    "trailing byte": artifact().to_bytes() + b"\x00",
    "empty": b"",
    "other kind": MANIFEST.to_bytes(),
}


@pytest.mark.parametrize("name", BAD_ARTIFACTS)
def test_check__artifact_that_is_not_this_members_of_this_round__is_refused(name: str) -> None:
    with pytest.raises(ArtifactRefused):
        submissions.check(MANIFEST, CONTEXT, 1, BAD_ARTIFACTS[name])


def test_check__honest_artifact__gives_its_ciphertexts() -> None:
    good = artifact()
    expected = [int.from_bytes(item, "big") for item in good.ciphertexts]
    assert submissions.check(MANIFEST, CONTEXT, 1, good.to_bytes()) == expected


@pytest.mark.parametrize("cell", ["nan", "NaN", "-inf", "+Infinity", "INF"])
@pytest.mark.parametrize("row", [1, 3, 5000])
def test_check_csv__a_cell_that_is_no_number_anywhere__is_refused_with_its_row_and_column(cell: str, row: int) -> None:
    lines = [f"{number},{'bad' if number % 2 else 'good'}" for number in range(5000)]
    lines[row - 1] = f"{cell},good"
    with pytest.raises(CellRefused) as refused:
        csv_table.check("\n".join(["x,y", *lines]).encode(), label="y", positive="bad")
    assert (refused.value.row, refused.value.column) == (row, "x")


def test_check_csv__good__is_summed_up() -> None:
    summary = csv_table.check(b"\xef\xbb\xbfx,y\r\n1,bad\r\n2,good\r\n\xc3\xa4,fine\r\n", label="y", positive="bad")
    assert summary == csv_table.Summary(columns=("x", "y"), rows=3, positives=1, negatives=("fine", "good"))


def test_check_csv__label_like_a_number_column__is_refused() -> None:
    rows = "\n".join(f"{number},{number}" for number in range(500))
    with pytest.raises(FitRefused, match="different values"):
        csv_table.check(f"x,y\n{rows}\n".encode(), label="y", positive="1")


@given(st.binary(max_size=300))
def test_check_csv__any_bytes__are_taken_or_refused_but_never_crash(data: bytes) -> None:
    try:
        csv_table.check(b"x,y\n" + data, label="y", positive="bad")
    except Malformed:
        return
