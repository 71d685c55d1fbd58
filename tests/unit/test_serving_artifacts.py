"""The serving artifacts: closed schemas, checks against each other, hostile bytes; and one quote through them in plain sight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import KEY_BITS, manifest, private_key
from small_serving import (
    APPLICANT,
    DEPLOYMENT,
    FINAL_WEIGHTS_DIGEST,
    MARKET,
    POLICY,
    calibration,
    opening,
    plain_score,
    scale,
    scoring_model,
)

from hessian.artifacts.application import OpenApplication, Opening, fresh_salt
from hessian.artifacts.codec import ArtifactRefused, decode, encode
from hessian.artifacts.market import Market
from hessian.artifacts.score_answer import QUOTE_BYTES, Quote, ScoreAnswer
from hessian.artifacts.score_query import ScoreQuery
from hessian.artifacts.scoring_model import ScoringModel
from hessian.identifiers import Address, ChainId, DeploymentId, Digest, RequestId, Timestamp, digest_of
from hessian.learning.application import check_canonical, encode_features, read_features
from hessian.learning.calibration import CalibrationTable
from hessian.learning.plain import Plain
from hessian.learning.scoring import ScoringScale
from hessian.lending.decision import Decision, decide
from hessian.lending.sealing import SEAL_BYTES, sealing_key_pair
from hessian.paillier.blinding import blinded_product
from hessian.testing import valid_terms

MODEL = manifest(valid_terms(Timestamp(0)))
BORROWER = sealing_key_pair()
REQUEST = RequestId(9)
OPENED = opening(MODEL)


@cache
def scoring() -> ScoringModel:
    return scoring_model(MODEL)


@cache
def query() -> ScoreQuery:
    weights = scoring().check_against(MODEL, FINAL_WEIGHTS_DIGEST)
    features = encode_features(scoring().scale, MODEL.specification, OPENED.features)
    ciphertext = blinded_product(MODEL.public_key, weights, features, OPENED.blinding, scoring().scale.blinding_bits)
    return ScoreQuery.seal(
        MARKET, DEPLOYMENT, scoring().digest, OPENED.commitment(MODEL.public_key), BORROWER.public, MODEL.public_key, ciphertext
    )


def quote() -> Quote:
    return Quote(decide(POLICY, calibration(MODEL), plain_score(MODEL, dict(OPENED.features))), Timestamp(1_900_000_000))


@cache
def answer() -> ScoreAnswer:
    return ScoreAnswer.seal(MARKET, REQUEST, query().digest, BORROWER.public, quote())


@cache
def application() -> OpenApplication:
    return OpenApplication(MARKET, DEPLOYMENT, read_features(MODEL.specification, APPLICANT), fresh_salt(), BORROWER.public)


Artifact = ScoringModel | ScoreQuery | ScoreAnswer | OpenApplication
KINDS: dict[str, tuple[Callable[[], Artifact], Callable[[bytes], Artifact]]] = {
    "scoring model": (scoring, ScoringModel.from_bytes),
    "query": (query, ScoreQuery.from_bytes),
    "answer": (answer, ScoreAnswer.from_bytes),
    "open application": (application, OpenApplication.from_bytes),
}


def test_quote__from_query_to_answer__is_the_plaintext_decision_and_the_opening_fits() -> None:
    """Everything the parties do, on one page."""
    received = ScoreQuery.from_bytes(query().to_bytes())
    ciphertext = received.check_against(MARKET, DEPLOYMENT, scoring().digest, MODEL.public_key)
    score = private_key().decrypt_blinded(ciphertext, scoring().scale.blinding_bits)
    assert score == plain_score(MODEL, dict(OPENED.features))

    decision = decide(scoring().policy, scoring().calibration, score)
    anchored = ScoreAnswer.seal(MARKET, REQUEST, received.digest, received.borrower_key, Quote(decision, Timestamp(5)))
    opened = ScoreAnswer.from_bytes(anchored.to_bytes()).open(BORROWER.private, MARKET, REQUEST, query().digest)
    assert opened == Quote(decision, Timestamp(5))

    check_canonical(MODEL.specification, OPENED.features)
    assert Opening(dict(OPENED.features), OPENED.salt, OPENED.blinding).commitment(MODEL.public_key) == received.commitment
    assert private_key().opens_blinded(ciphertext, score, OPENED.blinding, scoring().scale.blinding_bits)


@pytest.mark.parametrize("kind", KINDS)
def test_from_bytes__of_to_bytes__is_the_same_artifact(kind: str) -> None:
    make, from_bytes = KINDS[kind]
    assert from_bytes(make().to_bytes()) == make()
    assert make().digest == digest_of(make().to_bytes())


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_from_bytes__flipped_cut_or_grown_bytes__read_or_are_refused_and_never_crash(kind: str, data: st.DataObject) -> None:
    make, from_bytes = KINDS[kind]
    octets = bytearray(make().to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(octets) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                octets[place] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del octets[place:]
                octets = octets or bytearray(b"\x00")
            case _:
                octets.insert(place, data.draw(st.integers(0, 255)))
    try:
        read = from_bytes(bytes(octets))
    except ArtifactRefused:
        return
    assert read.to_bytes() == bytes(octets)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [{"extra": 1}, {"version": 2}, {"kind": "hessian/masked-gradient"}])
def test_from_bytes__an_unknown_field_version_or_kind__is_refused(kind: str, change: dict[str, Plain]) -> None:
    make, from_bytes = KINDS[kind]
    fields = decode(make().to_bytes())
    assert isinstance(fields, dict)
    with pytest.raises(ArtifactRefused):
        from_bytes(encode(fields | change))
    for name in fields:
        with pytest.raises(ArtifactRefused):
            from_bytes(encode({key: value for key, value in fields.items() if key != name}))


OTHER = Digest(b"o" * 32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"manifest": OTHER}, "another manifest"),
        ({"weights": OTHER}, "other weights"),
        ({"ciphertexts": ()}, "0 weights"),
        ({"ciphertexts": (b"x",) * 5}, "bytes long"),
        ({"ciphertexts": (bytes(MODEL.public_key.ciphertext_bytes),) * 5}, "between 0 and n²"),
        ({"scale": ScoringScale(16, 30, 1 << 28), "calibration": CalibrationTable((), (5,))}, "too fine"),
        ({"scale": ScoringScale(17, 1, 1), "calibration": CalibrationTable((), (5,))}, "finer"),
        ({"policy": replace(POLICY, reasons=(("shoe size", "x"),))}, "shoe size"),
    ],
)
def test_check__a_scoring_model_that_does_not_fit_its_manifest__is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ArtifactRefused, match=says):
        replace(scoring(), **change).check_against(MODEL, FINAL_WEIGHTS_DIGEST)  # type: ignore[arg-type]


def test_scoring_model__a_threshold_that_is_no_score__is_refused() -> None:
    limit = scale(MODEL).score_limit
    with pytest.raises(ArtifactRefused, match="threshold"):
        replace(scoring(), calibration=CalibrationTable((limit,), (5, 6)))


@pytest.mark.parametrize("bits", [41, 64, 7])
def test_from_bytes__blinding_bits_out_of_range__are_refused(bits: int) -> None:
    fields = decode(scoring().to_bytes())
    assert isinstance(fields, dict)
    with pytest.raises(ArtifactRefused, match="between 8 and 40"):
        ScoringModel.from_bytes(encode(fields | {"scale": scoring().scale.to_plain() | {"blinding_bits": bits}}))


@pytest.mark.parametrize("key_size", [2 * KEY_BITS // 8 - 1, 2 * KEY_BITS // 8 + 1])
def test_check__a_query_that_does_not_belong__is_refused(key_size: int) -> None:
    elsewhere = Market.at(ChainId(1), Address("0x" + "11" * 20))
    for market, deployment, digest in (
        (elsewhere, DEPLOYMENT, scoring().digest),
        (MARKET, DeploymentId(4), scoring().digest),
        (MARKET, DEPLOYMENT, OTHER),
    ):
        with pytest.raises(ArtifactRefused, match="another"):
            query().check_against(market, deployment, digest, MODEL.public_key)
    for ciphertext in (bytes(key_size), bytes(2 * KEY_BITS // 8), MODEL.public_key.n.to_bytes(2 * KEY_BITS // 8, "big")):
        with pytest.raises(ArtifactRefused):
            replace(query(), ciphertext=ciphertext).check_against(MARKET, DEPLOYMENT, scoring().digest, MODEL.public_key)


def test_open__an_answer_to_another_request_or_for_another_key__is_refused() -> None:
    other = sealing_key_pair()
    assert answer().open(BORROWER.private, MARKET, REQUEST, query().digest) == quote()
    with pytest.raises(ArtifactRefused):
        answer().open(other.private, MARKET, REQUEST, query().digest)
    for market, request, digest in (
        (Market.at(ChainId(1), Address("0x" + "11" * 20)), REQUEST, query().digest),
        (MARKET, RequestId(10), query().digest),
        (MARKET, REQUEST, OTHER),
    ):
        with pytest.raises(ArtifactRefused, match="another request"):
            answer().open(BORROWER.private, market, request, digest)
        moved = ScoreAnswer(market, request, digest, answer().sealed)  # the outside rewritten, the seal kept
        with pytest.raises(ArtifactRefused, match="sealed"):
            moved.open(BORROWER.private, market, request, digest)


def test_seal__for_a_key_to_which_nothing_can_be_sealed__is_refused() -> None:
    with pytest.raises(ArtifactRefused, match="usable"):
        ScoreAnswer.seal(MARKET, REQUEST, query().digest, bytes(32), quote())


def test_answer__approval_decline_or_reasons__all_have_one_length() -> None:
    quotes = [
        Quote(Decision(approved=True, band=0, pd_bps=1, rate_bps=50), Timestamp(1)),
        Quote(Decision(approved=False, band=15, pd_bps=9_999, rate_bps=None), Timestamp(2**40)),
        Quote(Decision(approved=False, band=15, pd_bps=9_999, rate_bps=None), Timestamp(2**63 - 1), ("€" * 80,) * 4),
    ]
    answers = [ScoreAnswer.seal(MARKET, REQUEST, query().digest, BORROWER.public, each) for each in quotes]
    assert {len(each.sealed) for each in answers} == {QUOTE_BYTES + SEAL_BYTES}
    assert [each.open(BORROWER.private, MARKET, REQUEST, query().digest) for each in answers] == quotes


@pytest.mark.parametrize(
    "data",
    [b"", bytes(QUOTE_BYTES), b"\x80".ljust(QUOTE_BYTES, b"\0"), b"\xa0\x80".ljust(QUOTE_BYTES, b"\0"), quote().to_padded_bytes() + b"\0"],
    ids=["empty", "zeros", "no quote", "an empty map", "too long"],
)
def test_from_padded_bytes__what_is_no_quote__is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactRefused):
        Quote.from_padded_bytes(data)


@pytest.mark.parametrize("change", [{"features": {**OPENED.features, "age": "34"}}, {"salt": bytes(32)}, {"blinding": OPENED.blinding + 1}])
def test_commitment__another_opening__gives_another_one(change: dict[str, object]) -> None:
    assert replace(OPENED, **change).commitment(MODEL.public_key) != OPENED.commitment(MODEL.public_key)  # type: ignore[arg-type]


def test_commitment__fixed_opening__is_this_one() -> None:
    """Golden: sha2-256 of a0… canonical DAG-CBOR put together by hand."""
    key = MODEL.public_key
    opened = Opening({"b": "1", "a": "2"}, bytes(32), 7)
    head = b"\xa4" + b"\x64salt\x58\x20" + bytes(32) + b"\x66domain\x73hessian/application"
    body = (
        b"\x68blinding\x58"
        + bytes([key.modulus_length])
        + (7).to_bytes(key.modulus_length, "big")
        + b"\x68features\xa2\x61a\x612\x61b\x611"
    )
    assert opened.commitment(key) == digest_of(head + body)


@pytest.mark.parametrize(
    ("salt", "blinding"),
    [(b"", 7), (bytes(31), 7), (bytes(32), -1), (bytes(32), MODEL.public_key.n)],
    ids=["no salt", "short salt", "negative", "n"],
)
def test_commitment__an_opening_out_of_shape__is_refused(salt: bytes, blinding: int) -> None:
    with pytest.raises(ArtifactRefused):
        Opening({"a": "1"}, salt, blinding).commitment(MODEL.public_key)


def test_open_application__for_another_deployment__is_refused() -> None:
    application().check_against(MARKET, DEPLOYMENT)
    with pytest.raises(ArtifactRefused, match="another deployment"):
        application().check_against(MARKET, DeploymentId(4))


def test_secrets__printed__do_not_show() -> None:
    shown = f"{OPENED!r} {application()!r}"
    assert OPENED.salt.hex() not in shown
    assert "4200.5" not in shown


@pytest.mark.parametrize("address", ["", "0x12", "5FbDB2315678afecb367f032d93F642f64180aa", "0x" + "zz" * 20])
def test_market__what_is_no_address__is_refused(address: str) -> None:
    with pytest.raises(ArtifactRefused):
        Market.at(ChainId(1), Address(address))
