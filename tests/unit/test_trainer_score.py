"""The score query against plaintext arithmetic, and everything it refuses."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import KEY_BITS, manifest, private_key
from small_serving import APPLICANT, DEPLOYMENT, FINAL_WEIGHTS_DIGEST, MARKET, POLICY, opening, plain_score, scale, scoring_model

from hessian.artifacts.application import Opening
from hessian.artifacts.codec import ArtifactRefused
from hessian.artifacts.score_query import ScoreQuery
from hessian.identifiers import Digest, Timestamp
from hessian.learning.application import ApplicationRefused
from hessian.learning.calibration import CalibrationTable
from hessian.lending.decision import decide
from hessian.lending.sealing import sealing_key_pair
from hessian.paillier.blinding import BlindingRefused
from hessian.paillier.certificate import CertificateRefused, KeyCertificate
from hessian.testing import valid_terms
from trainer.score import Applicant, run, score_query

MODEL = manifest(valid_terms(Timestamp(0)))
SCORING = scoring_model(MODEL)
BITS = SCORING.scale.blinding_bits
KEY = sealing_key_pair().public


def applicant(opened: Opening) -> Applicant:
    return Applicant(opened, KEY, MARKET, DEPLOYMENT)


@pytest.mark.parametrize(
    "change", [{}, {"income": 0, "age": 0, "region": "S"}, {"income": 100_000, "age": 150}, {"income": "10000", "age": 18}]
)
def test_score_query__any_applicant__decodes_to_the_plaintext_score(change: dict[str, object]) -> None:
    opened = opening(MODEL, APPLICANT | change)
    query = score_query(MODEL, SCORING, FINAL_WEIGHTS_DIGEST, applicant(opened))
    ciphertext = query.check_against(MARKET, DEPLOYMENT, SCORING.digest, MODEL.public_key)
    assert private_key().decrypt_blinded(ciphertext, BITS) == plain_score(MODEL, dict(opened.features))
    assert private_key().opens_blinded(ciphertext, plain_score(MODEL, dict(opened.features)), opened.blinding, BITS)
    assert query.commitment == opened.commitment(MODEL.public_key)
    assert query.borrower_key == KEY


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 100_000), st.integers(0, 150), st.sampled_from(["N", "S"]), st.sampled_from([0, 1]))
def test_decide__a_private_score_at_the_edge_of_a_band__is_the_plaintext_decision(income: int, age: int, region: str, above: int) -> None:
    """The band begins at this very applicant's score, or one unit above it: the least difference decides."""
    opened = opening(MODEL, {"income": income, "age": age, "region": region})
    score = plain_score(MODEL, dict(opened.features))
    table = CalibrationTable((score + above,), (1_000, 5_000))
    query = score_query(MODEL, SCORING, FINAL_WEIGHTS_DIGEST, applicant(opened))
    private = private_key().decrypt_blinded(query.check_against(MARKET, DEPLOYMENT, SCORING.digest, MODEL.public_key), BITS)
    assert decide(POLICY, table, private) == decide(POLICY, table, score)
    assert decide(POLICY, table, private).approved == bool(above)


def test_score_query__the_same_applicant_twice__gives_other_bytes() -> None:
    opened = opening(MODEL)
    first, second = (score_query(MODEL, SCORING, FINAL_WEIGHTS_DIGEST, applicant(opened)) for _ in range(2))
    assert first.ciphertext != second.ciphertext
    assert replace(first, ciphertext=second.ciphertext) == second


def test_score_query__weights_of_another_model_or_manifest__are_refused() -> None:
    other = replace(MODEL, name="other")
    with pytest.raises(ArtifactRefused, match="another manifest"):
        score_query(other, SCORING, FINAL_WEIGHTS_DIGEST, applicant(opening(MODEL)))
    with pytest.raises(ArtifactRefused, match="other weights"):
        score_query(MODEL, SCORING, Digest(b"o" * 32), applicant(opening(MODEL)))


def test_score_query__a_key_without_a_valid_certificate__is_refused() -> None:
    forged = replace(MODEL, certificate=KeyCertificate((bytes(KEY_BITS // 8 - 1) + b"\x02",) * 7))
    scoring = replace(SCORING, manifest=forged.digest)
    with pytest.raises(CertificateRefused):
        score_query(forged, scoring, FINAL_WEIGHTS_DIGEST, applicant(opening(MODEL)))


def test_score_query__features_the_model_does_not_take__are_refused_by_name() -> None:
    opened = opening(MODEL)
    for change, named in (({"income": "100001"}, "income"), ({"age": "-1"}, "age"), ({"height": "1"}, "height"), ({"age": "033"}, "age")):
        with pytest.raises(ApplicationRefused, match=named):
            score_query(MODEL, SCORING, FINAL_WEIGHTS_DIGEST, applicant(replace(opened, features={**opened.features, **change})))


@pytest.mark.parametrize("blinding", [0, MODEL.public_key.n >> BITS], ids=["zero", "too large"])
def test_score_query__a_blinding_out_of_range__is_refused(blinding: int) -> None:
    with pytest.raises(BlindingRefused):
        score_query(MODEL, SCORING, FINAL_WEIGHTS_DIGEST, applicant(replace(opening(MODEL), blinding=blinding)))


def test_run__the_job_as_the_pool_sends_it__answers_the_artifact() -> None:
    opened = opening(MODEL)
    wanted = {
        "manifest": base64.b64encode(MODEL.to_bytes()).decode(),
        "scoring_model": base64.b64encode(SCORING.to_bytes()).decode(),
        "minimum_key_bits": KEY_BITS,
        "ticket": {
            "features": dict(opened.features),
            "salt": opened.salt.hex(),
            "blinding": f"{opened.blinding:x}",
            "borrower_key": KEY.hex(),
            "chain_id": MARKET.chain_id,
            "contract": "0x" + MARKET.contract.hex(),
            "deployment_id": DEPLOYMENT,
            "weights_digest": FINAL_WEIGHTS_DIGEST.hex(),
        },
    }
    query = ScoreQuery.from_bytes(run(wanted))
    ciphertext = query.check_against(MARKET, DEPLOYMENT, SCORING.digest, MODEL.public_key)
    assert private_key().decrypt_blinded(ciphertext, scale(MODEL).blinding_bits) == plain_score(MODEL, dict(opened.features))
