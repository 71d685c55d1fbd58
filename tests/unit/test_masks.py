"""Masks: they cancel, they are bound to one round, and their hashes are the contract's."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_abi.abi import encode as abi_encode
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from hessian.cohorts.masks import (
    MaskingKeyPair,
    MaskRefused,
    MemberRecord,
    expand_mask,
    fresh_seed,
    masking_key_pair,
    members_hash,
    pair_secret,
    round_context,
    self_masks,
    total_masks,
    unlock_commitment,
)
from hessian.identifiers import Address, ChainId, CohortId, Digest, ModelId, RoundId

MODULUS = (1 << 521) - 1
CONTRACT = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
CONTEXT = bytes(range(32))


def key_of(number: int) -> MaskingKeyPair:
    private = hashlib.sha256(f"member {number}".encode()).digest()
    return MaskingKeyPair(private, X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def seed_of(number: int) -> bytes:
    return hashlib.sha256(f"seed {number}".encode()).digest()


@given(members=st.integers(1, 6), ciphertexts=st.integers(1, 3), context=st.binary(min_size=32, max_size=32))
@settings(max_examples=40, deadline=None)
def test_total_masks__over_all_members__leave_the_self_masks_only(members: int, ciphertexts: int, context: bytes) -> None:
    keys, seeds = [key_of(i) for i in range(members)], [seed_of(i) for i in range(members)]
    public = [key.public for key in keys]
    totals = [total_masks(keys[i].private, public, i, seeds[i], context, ciphertexts, MODULUS) for i in range(members)]

    summed = [sum(parts) % MODULUS for parts in zip(*totals, strict=True)]
    assert summed == self_masks(seeds, context, ciphertexts, MODULUS)
    assert len(summed) == ciphertexts
    assert len({mask for total in totals for mask in total}) == members * ciphertexts


def test_total_masks__one_seed_unknown__leave_the_sum_hidden() -> None:
    keys, seeds = [key_of(i) for i in range(3)], [seed_of(i) for i in range(3)]
    totals = [total_masks(keys[i].private, [key.public for key in keys], i, seeds[i], CONTEXT, 1, MODULUS) for i in range(3)]

    rest = (sum(total[0] for total in totals) - self_masks(seeds[:2], CONTEXT, 1, MODULUS)[0]) % MODULUS
    assert rest == expand_mask(seeds[2], CONTEXT, 0, MODULUS) != 0


def test_total_masks__another_round__shares_no_pad() -> None:
    keys = [key_of(i) for i in range(3)]
    other = bytes([CONTEXT[0] ^ 1]) + CONTEXT[1:]
    pads = (
        [
            pad
            for context in (CONTEXT, other)
            for i in range(3)
            for j in range(3)
            if i < j
            for pad in (expand_mask(pair_secret(keys[i].private, keys[j].public, context, i, j), context, c, MODULUS) for c in range(2))
        ]
        + self_masks([seed_of(1)], CONTEXT, 2, MODULUS)
        + self_masks([seed_of(1)], other, 2, MODULUS)
    )

    assert len(set(pads)) == len(pads) == 16


def test_masks__pinned_inputs__give_the_pinned_bytes() -> None:
    """Known answers: every implementation of PROTOCOL §4 must reach these bytes."""
    zero, one = key_of(0), key_of(1)
    secret = pair_secret(zero.private, one.public, CONTEXT, 0, 1)

    assert zero.public.hex() == "17dff7f8377295978416a84896c7080704f782b30fc7f53c6fb423644a20a641"
    assert secret.hex() == "afc3442d7affef9e8aa74a4f475a91f452ece2f149d4d4718d50c64ecd20ca91"
    assert secret == pair_secret(one.private, zero.public, CONTEXT, 1, 0)
    assert expand_mask(secret, CONTEXT, 7, 2**128 - 159) == 0xDB7C2393A486CA348C70F79C75716B2
    assert unlock_commitment(CONTEXT, 3, seed_of(0)).hex() == "d9e2ac90e45771be4d362a48d0090f25b708787ac4a50f4c7c4610a77e1bb4cf"


def test_expand_mask__by_its_definition__is_the_wide_shake_output_reduced() -> None:
    secret = seed_of(4)
    width = -(-(MODULUS.bit_length() + 128) // 8)
    stream = hashlib.shake_256(b"hessian/mask" + CONTEXT + (5).to_bytes(4, "big") + secret).digest(width)

    assert expand_mask(secret, CONTEXT, 5, MODULUS) == int.from_bytes(stream, "big") % MODULUS


members_lists = st.lists(
    st.tuples(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1)), max_size=6
)


@given(members_lists)
@settings(deadline=None)
def test_members_hash__any_members__is_keccak_of_the_abi_encoding(members: list[tuple[bytes, bytes, int]]) -> None:
    records = [MemberRecord(Address("0x" + account.hex()), key, rows) for account, key, rows in members]
    encoded = abi_encode(
        ["address[]", "bytes32[]", "uint32[]"], [[r.account for r in records], [r.masking_key for r in records], [r.rows for r in records]]
    )

    assert members_hash(records) == keccak(encoded)


@given(st.tuples(*[st.integers(0, 2**256 - 1)] * 4), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
@settings(deadline=None)
def test_round_context__any_round__is_keccak_of_the_abi_encoding(numbers: tuple[int, ...], weights: bytes, members: bytes) -> None:
    chain, model, cohort, round_ = numbers
    encoded = abi_encode(
        ["uint256", "address", "uint256", "uint256", "uint256", "bytes32", "bytes32"],
        [chain, CONTRACT, model, cohort, round_, weights, members],
    )

    assert round_context(ChainId(chain), CONTRACT, ModelId(model), CohortId(cohort), RoundId(round_), Digest(weights), members) == keccak(
        encoded
    )


@given(st.integers(0, 2**16 - 1), st.binary(min_size=32, max_size=32))
@settings(deadline=None)
def test_unlock_commitment__any_seed__is_keccak_of_the_abi_encoding(index: int, seed: bytes) -> None:
    assert unlock_commitment(CONTEXT, index, seed) == keccak(abi_encode(["bytes32", "uint256", "bytes32"], [CONTEXT, index, seed]))


# Points of small order: whatever the private key, X25519 answers zero (RFC 7748 §6.1).
SMALL_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


@pytest.mark.parametrize("peer", SMALL_ORDER)
def test_pair_secret__peer_key_of_small_order__is_refused(peer: bytes) -> None:
    with pytest.raises(MaskRefused):
        pair_secret(key_of(0).private, peer, CONTEXT, 0, 1)


@pytest.mark.parametrize(
    ("private", "peer", "context"),
    [(b"x", bytes(32), CONTEXT), (key_of(0).private, b"short", CONTEXT), (key_of(0).private, key_of(1).public, b"")],
)
def test_pair_secret__wrong_lengths__are_refused(private: bytes, peer: bytes, context: bytes) -> None:
    with pytest.raises(MaskRefused):
        pair_secret(private, peer, context, 0, 1)


def test_total_masks__own_key_is_not_at_its_place__is_refused() -> None:
    public = [key_of(i).public for i in range(3)]
    for place in (0, 2, 3, -1):
        with pytest.raises(MaskRefused):
            total_masks(key_of(1).private, public, place, seed_of(0), CONTEXT, 1, MODULUS)


def test_total_masks__key_listed_twice__is_refused() -> None:
    keys = [key_of(0).public, key_of(1).public, key_of(0).public]
    with pytest.raises(MaskRefused, match="same masking key"):
        total_masks(key_of(1).private, keys, 1, seed_of(0), CONTEXT, 1, MODULUS)


def test_members_hash__what_the_abi_cannot_hold__is_refused() -> None:
    good = MemberRecord(CONTRACT, bytes(32), 1)
    for bad in (
        replace(good, account=Address("0x12")),
        replace(good, masking_key=bytes(31)),
        replace(good, rows=2**32),
        replace(good, rows=-1),
    ):
        with pytest.raises(MaskRefused):
            members_hash([bad])


def test_masking_key_pair__made_twice__differs_and_its_repr_hides_the_private_half() -> None:
    pair = masking_key_pair()

    assert pair.private != masking_key_pair().private
    assert pair.private.hex() not in repr(pair)
    assert str(pair.private) not in repr(pair)
    assert fresh_seed() != fresh_seed()
