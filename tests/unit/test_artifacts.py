"""The four artifacts: closed schemas, checks against each other, hostile bytes; and one encrypted round through them in plain sight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.artifacts.codec import ArtifactRefused, decode, encode
from hessian.artifacts.gradient import MaskedGradient
from hessian.artifacts.manifest import ModelManifest
from hessian.artifacts.report import RoundReport, aggregate_digest
from hessian.artifacts.terms import TermsSummary
from hessian.artifacts.weights import EncryptedWeights
from hessian.chain.records import SplitRule, Terms
from hessian.cohorts.masks import masking_key_pair, self_masks, total_masks
from hessian.identifiers import Digest, ErrorUnits, Timestamp, Wei, digest_of
from hessian.learning.affine import bounds_for, descend, gradient_map, initial_weights, step_size
from hessian.learning.columns import Category, Label, Level, Numeric
from hessian.learning.features import FeatureSpecification
from hessian.learning.objective import Objective
from hessian.learning.plain import BILLION, Plain
from hessian.learning.statistics import accumulate
from hessian.paillier.certificate import CertificateRefused, prove_certificate
from hessian.paillier.ciphertext import add, affine_map
from hessian.paillier.decryption import PrivateKey, generate_private_key
from hessian.paillier.fixed_point import centre
from hessian.paillier.packing import pack, pack_columns, unpack
from hessian.privacy.requirement import UNIT, PrivacyRequirement

BITS = 512  # the test-only switch: foreign manifests are read with minimum_bits=BITS
CONTEXT = bytes(range(32))
SPECIFICATION = FeatureSpecification(
    (
        Numeric("a", -9 * BILLION, 9 * BILLION, -3 * BILLION, 3 * BILLION, 0, BILLION),
        Category("c", (Level("x", ("x",), 0, BILLION), Level("other", (), 0, BILLION))),
    ),
    Label("bad", ("1",), ("0",)),
)
TERMS = Terms(
    Wei(2**100),
    Wei(5),
    Wei(5),
    ErrorUnits(50_000_000),
    ErrorUnits(40_000_000),
    8,
    3,
    10_000,
    SplitRule.BY_ROWS,
    60,
    60,
    60,
    60,
    Timestamp(2_000_000_000),
)


@cache
def key() -> PrivateKey:
    return generate_private_key(BITS, minimum_bits=BITS)


@cache
def manifest() -> ModelManifest:
    return ModelManifest(
        name="Test loans",
        description="",
        specification=SPECIFICATION,
        bounds=bounds_for(SPECIFICATION),
        step=2**31,
        public_key=key().public_key,
        certificate=prove_certificate(key().p, key().q),
        terms=TermsSummary.of(TERMS),
    )


@cache
def weights() -> EncryptedWeights:
    return EncryptedWeights.seal(manifest(), 0, manifest().digest, key().encrypt(initial_weights(1, 4, 4, manifest().bounds)))


@cache
def gradient() -> MaskedGradient:
    return MaskedGradient.seal(manifest(), CONTEXT, 2, key().encrypt([1] * manifest().gradient_ciphertexts))


def report() -> RoundReport:
    return RoundReport(CONTEXT, ErrorUnits(45_000_000), 2**31, digest_of(b"aggregate"), digest_of(b"weights"))


def read_manifest(data: bytes) -> ModelManifest:
    return ModelManifest.from_bytes(data, minimum_bits=BITS)


KINDS: dict[str, tuple[Callable[[], bytes], Callable[[bytes], object]]] = {
    "manifest": (lambda: manifest().to_bytes(), read_manifest),
    "weights": (lambda: weights().to_bytes(), EncryptedWeights.from_bytes),
    "gradient": (lambda: gradient().to_bytes(), MaskedGradient.from_bytes),
    "report": (lambda: report().to_bytes(), RoundReport.from_bytes),
}


def test_from_bytes__of_to_bytes__is_the_same_artifact() -> None:
    for artifact, (to_bytes, from_bytes) in zip((manifest(), weights(), gradient(), report()), KINDS.values(), strict=True):
        assert from_bytes(to_bytes()) == artifact
    assert manifest().digest == digest_of(manifest().to_bytes())


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_from_bytes__flipped_cut_or_grown_bytes__read_or_are_refused_and_never_crash(kind: str, data: st.DataObject) -> None:
    to_bytes, from_bytes = KINDS[kind]
    octets = bytearray(to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(octets) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                octets[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del octets[place : place + data.draw(st.integers(1, 40))]
            case "insert":
                octets[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        if not octets:
            break
    try:
        from_bytes(bytes(octets))
    except ArtifactRefused:
        return


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_from_bytes__fields_of_other_types__are_refused(kind: str, data: st.DataObject) -> None:
    to_bytes, from_bytes = KINDS[kind]
    fields = decode(to_bytes())
    assert isinstance(fields, dict)
    name = data.draw(st.sampled_from(sorted(set(fields) - {"name", "description"})))
    scalar = st.one_of(
        st.booleans(),
        st.text(max_size=5),
        st.lists(st.integers(0, 9), min_size=1, max_size=3),
        st.just({}),
        st.integers(-9, -1),
        st.just(b"?"),
    )
    changed: dict[str, Plain] = {**fields, name: data.draw(scalar.filter(lambda value: value != fields[name]))}
    with pytest.raises(ArtifactRefused):
        from_bytes(encode(changed))


@pytest.mark.parametrize("kind", KINDS)
def test_from_bytes__field_missing_or_unknown__is_refused(kind: str) -> None:
    to_bytes, from_bytes = KINDS[kind]
    fields = decode(to_bytes())
    assert isinstance(fields, dict)
    for name in fields:
        with pytest.raises(ArtifactRefused):
            from_bytes(encode({other: value for other, value in fields.items() if other != name}))
    with pytest.raises(ArtifactRefused, match="unknown fields: zzz"):
        from_bytes(encode({**fields, "zzz": 1}))
    for wrong in (kind for kind in KINDS if KINDS[kind][0] is not to_bytes):
        with pytest.raises(ArtifactRefused):
            from_bytes(KINDS[wrong][0]())


@pytest.mark.parametrize("text", ["a\0b", "a\x1b[2J", "a\tb", "a\x7f", "a\x85"])
def test_manifest_from_bytes__control_character_in_any_text__is_refused(text: str) -> None:
    levels = (Level("x", (text,), 0, BILLION), Level("other", (), 0, BILLION))
    changes: list[dict[str, Plain]] = [
        {"name": text},
        {"description": text},
        {"specification": replace(SPECIFICATION, label=Label(text, ("1",), ("0",))).to_plain()},
        {"specification": replace(SPECIFICATION, features=(Category("c", levels),)).to_plain()},
    ]
    fields = decode(manifest().to_bytes())
    assert isinstance(fields, dict)
    for change in changes:
        with pytest.raises(ArtifactRefused, match="holds a control character"):
            read_manifest(encode({**fields, **change}))


def test_manifest_from_bytes__description_of_several_lines__is_read() -> None:
    assert read_manifest(replace(manifest(), description="Grüße\nund mehr").to_bytes()).description == "Grüße\nund mehr"


def with_modulus(n: int) -> bytes:
    fields = decode(manifest().to_bytes())
    assert isinstance(fields, dict)
    return encode({**fields, "modulus": n.to_bytes(-(-n.bit_length() // 8) or 1, "big")})


@pytest.mark.parametrize(
    "modulus",
    [
        lambda: 0,
        lambda: 15,
        lambda: key().public_key.n - 1,
        lambda: key().p,
        lambda: key().p ** 2,
        lambda: 3 * key().public_key.n,
        lambda: 2**9000 + 1,
    ],
)
def test_manifest_from_bytes__modulus_not_acceptable__is_refused(modulus: Callable[[], int]) -> None:
    with pytest.raises(ArtifactRefused):
        read_manifest(with_modulus(modulus()))


def test_manifest_from_bytes__key_of_a_test__is_refused_by_default() -> None:
    with pytest.raises(ArtifactRefused, match="between 2048 and"):
        ModelManifest.from_bytes(manifest().to_bytes())


def test_manifest_from_bytes__modulus_with_leading_zero__is_refused() -> None:
    fields = decode(manifest().to_bytes())
    assert isinstance(fields, dict)
    with pytest.raises(ArtifactRefused, match="shortest form"):
        read_manifest(encode({**fields, "modulus": b"\0" + manifest().public_key.modulus_bytes}))


def test_manifest__bounds_that_do_not_fit_the_key__is_refused() -> None:
    wide = replace(
        manifest().bounds, weight_bits=48, matrix_bits=48, largest_weight=2**31 - 1, largest_row_sum=2**31 - 1, largest_offset=2**31 - 1
    )
    with pytest.raises(ArtifactRefused, match="does not fit a key of 128 bits"):
        replace(manifest(), bounds=wide, public_key=generate_private_key(128, minimum_bits=128).public_key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"objective": Objective(local_steps=100), "step": 1 << 32}, "narrower"),
        ({"objective": Objective(ridge=1 << 36)}, "narrower"),
        ({"metric": "auc"}, "metric"),
        ({"privacy": PrivacyRequirement(UNIT, 1, 1, 2 << 16)}, "noised"),
        ({"privacy": PrivacyRequirement(UNIT, 1, 1, 2)}, "clip norm"),
        ({"step": 0}, "step"),
        ({"step": 2**41}, "step"),
        ({"bounds": replace(bounds_for(SPECIFICATION), largest_row_sum=1)}, "narrower"),
        ({"bounds": replace(bounds_for(SPECIFICATION), largest_offset=1)}, "narrower"),
    ],
)
def test_manifest__contradicts_itself__is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ArtifactRefused, match=reason):
        replace(manifest(), **change)  # type: ignore[arg-type]  # single fields of the dataclass


def test_manifest__weights_would_not_fit_an_artifact__is_refused() -> None:
    levels = tuple(Level(str(place), (str(place),), 0, BILLION) for place in range(1000))
    large = FeatureSpecification((Category("many", levels),), SPECIFICATION.label)
    with pytest.raises(ArtifactRefused, match="do not fit one artifact"):
        replace(manifest(), specification=large, bounds=bounds_for(large), public_key=replace(key().public_key, n=1 << 4200))


@pytest.mark.parametrize(
    "change",
    [
        {"cohort_size": 0},
        {"max_rounds": 0},
        {"row_cap": 2**32},
        {"bounty": 2**128},
        {"base_fee": -1},
        {"target_error": 50_000_000},
        {"split_rule": "all"},
    ],
)
def test_terms__the_contract_would_not_take__are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArtifactRefused):
        replace(manifest().terms, **change)  # type: ignore[arg-type]  # single fields of the dataclass


def test_manifest_check_against__terms_of_the_chain__must_be_equal() -> None:
    manifest().check_against(TERMS)
    for change in ({"bounty": Wei(1)}, {"cohort_size": 4}, {"split_rule": SplitRule.EQUAL}, {"target_error": ErrorUnits(1)}):
        with pytest.raises(ArtifactRefused, match="not the contract's"):
            manifest().check_against(replace(TERMS, **change))


def test_manifest_verify_certificate__of_another_key__is_refused() -> None:
    manifest().verify_certificate()
    other = generate_private_key(BITS, minimum_bits=BITS)
    with pytest.raises(CertificateRefused):
        replace(manifest(), certificate=prove_certificate(other.p, other.q)).verify_certificate()


def bad_ciphertexts() -> list[bytes]:
    public = key().public_key
    size = public.ciphertext_bytes
    return [n.to_bytes(size, "big") for n in (0, public.n, public.n_squared, public.n_squared - public.n, key().p, 7 * key().q)] + [
        b"\x01",
        bytes(size + 1),
    ]


def test_check_against__bad_ciphertext__is_refused_for_weights_and_gradient() -> None:
    for bad in bad_ciphertexts():
        with pytest.raises(ArtifactRefused):
            replace(weights(), ciphertexts=(*weights().ciphertexts[:-1], bad)).check_against(manifest())
        with pytest.raises(ArtifactRefused):
            replace(gradient(), ciphertexts=(*gradient().ciphertexts[:-1], bad)).check_against(manifest(), CONTEXT, 2)


def test_weights_check_against__count_or_parent_wrong__is_refused() -> None:
    assert len(weights().check_against(manifest())) == 4
    with pytest.raises(ArtifactRefused, match="3 ciphertexts"):
        replace(weights(), ciphertexts=weights().ciphertexts[1:]).check_against(manifest())
    with pytest.raises(ArtifactRefused, match="do not belong"):
        replace(weights(), parent=Digest(bytes(32))).check_against(manifest())


def test_gradient_check_against__another_round_member_or_count__is_refused() -> None:
    assert len(gradient().check_against(manifest(), CONTEXT, 2)) == manifest().gradient_ciphertexts
    with pytest.raises(ArtifactRefused, match="another round"):
        gradient().check_against(manifest(), bytes(32), 2)
    with pytest.raises(ArtifactRefused, match="another member"):
        gradient().check_against(manifest(), CONTEXT, 1)
    with pytest.raises(ArtifactRefused, match="ciphertexts instead of"):
        replace(gradient(), ciphertexts=gradient().ciphertexts * 2).check_against(manifest(), CONTEXT, 2)


def test_report_check_against__what_the_chain_says__must_be_equal() -> None:
    report().check_against(CONTEXT, report().new_error, report().weights)
    for context, error, digest in (
        (bytes(32), report().new_error, report().weights),
        (CONTEXT, 1, report().weights),
        (CONTEXT, report().new_error, CONTEXT),
    ):
        with pytest.raises(ArtifactRefused):
            report().check_against(context, ErrorUnits(error), Digest(digest))


def test_round__three_masked_members_through_artifacts__equals_the_integer_replay() -> None:
    generator = np.random.default_rng(11)
    bounds, public, layout, d = manifest().bounds, key().public_key, manifest().layout, manifest().dimension
    tables = [
        {
            "a": [repr(float(a)) for a in generator.normal(size=n)],
            "c": list(generator.choice(["x", "y"], n)),
            "bad": list(generator.choice(["0", "1"], n)),
        }
        for n in (30, 12, 5)
    ]
    statistics = [accumulate([SPECIFICATION.matrix(table)], d) for table in tables]
    maps = [gradient_map(each, 47, SPECIFICATION.feature_bits, bounds) for each in statistics]
    start = initial_weights(1, 3, d, bounds)
    published = EncryptedWeights.from_bytes(EncryptedWeights.seal(manifest(), 0, manifest().digest, key().encrypt(start)).to_bytes())
    pairs, seeds = [masking_key_pair() for _ in tables], [bytes([member]) * 32 for member in range(3)]
    count, n = manifest().gradient_ciphertexts, public.n
    artifacts = []
    for member, each in enumerate(maps):
        masks = total_masks(pairs[member].private, [pair.public for pair in pairs], member, seeds[member], CONTEXT, count, n)
        offsets = [centre((packed + mask) % n, n) for packed, mask in zip(pack([-b for b in each.offset], layout), masks, strict=True)]
        ciphertexts = affine_map(public, published.check_against(manifest()), pack_columns(each.matrix, layout), offsets)
        artifacts.append(MaskedGradient.seal(manifest(), CONTEXT, member, ciphertexts).to_bytes())

    members = [MaskedGradient.from_bytes(data).check_against(manifest(), CONTEXT, member) for member, data in enumerate(artifacts)]
    aggregate = add(public, members)
    unmasked = [centre((key().decrypt(c) - mask) % n, n) for c, mask in zip(aggregate, self_masks(seeds, CONTEXT, count, n), strict=True)]
    opened = unpack(unmasked, layout, d)
    replayed = [sum(entries) for entries in zip(*(each.at(start) for each in maps), strict=True)]

    assert opened == replayed
    assert descend(start, opened, step_size(statistics[0], SPECIFICATION.feature_bits), bounds) != start
    assert aggregate_digest(public, aggregate) == aggregate_digest(public, add(public, members[::-1]))
