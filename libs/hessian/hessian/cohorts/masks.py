"""Masks: what hides one member's gradient from the lender until every member has unlocked (PROTOCOL §4, to the byte).

Each pair of members shares masks that cancel in the cohort's sum; each member adds a self-mask, whose 32-byte seed it publishes last.
Whoever lacks one seed sees noise; whoever has all of them sees the sum and nothing else. A pad is bound to one round by its context: it is
never used twice. Hashes are the contract's own: keccak256 over abi.encode.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from Crypto.Hash import keccak
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hessian.errors import Malformed
from hessian.identifiers import Address, ChainId, CohortId, Digest, ModelId, RoundId

SEED_BYTES = 32
_FIELD = 2**255 - 19  # of Curve25519
_SMOOTHING_BITS = 128  # a pad is this much wider than the modulus, so that reducing it leaves no bias


class MaskRefused(Malformed):
    """A masking key, a seed or a member's place cannot be used."""


@dataclass(frozen=True)
class MaskingKeyPair:
    """A member's X25519 pair, made for one cohort. The private half stays on the owner's node and out of every log line."""

    private: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"MaskingKeyPair(public={self.public.hex()})"


@dataclass(frozen=True)
class MemberRecord:
    """A member as the contract lists it; its place in the list is its index."""

    account: Address
    masking_key: bytes
    rows: int


def masking_key_pair() -> MaskingKeyPair:
    """A fresh pair from the operating system's randomness."""
    private = X25519PrivateKey.generate()
    return MaskingKeyPair(private.private_bytes_raw(), private.public_key().public_bytes_raw())


def fresh_seed() -> bytes:
    """A self-mask seed u_i, drawn once for each round and persisted before anything is computed with it."""
    return secrets.token_bytes(SEED_BYTES)


def members_hash(members: Sequence[MemberRecord]) -> bytes:
    """keccak256(abi.encode(address[] accounts, bytes32[] maskingKeys, uint32[] rows)). Raises MaskRefused."""
    arrays = (
        [_address_word(member.account) for member in members],
        [_bytes32(member.masking_key) for member in members],
        [_word(member.rows, 32) for member in members],
    )
    heads, tails, offset = b"", b"", 32 * len(arrays)
    for words in arrays:
        heads += _word(offset)
        tail = _word(len(words)) + b"".join(words)
        tails += tail
        offset += len(tail)
    return _keccak256(heads + tails)


def round_context(
    chain_id: ChainId,
    contract: Address,
    model_id: ModelId,
    cohort_id: CohortId,
    round_id: RoundId,
    weights_digest: Digest,
    members_hash: bytes,
) -> bytes:
    """The 32 bytes that bind masks, commitments and artifacts to one round: `contextOf` of the contract. Raises MaskRefused."""
    return _keccak256(
        _word(chain_id)
        + _address_word(contract)
        + _word(model_id)
        + _word(cohort_id)
        + _word(round_id)
        + _bytes32(weights_digest)
        + _bytes32(members_hash)
    )


def unlock_commitment(context: bytes, member_index: int, seed: bytes) -> bytes:
    """keccak256(abi.encode(bytes32 context, uint256 memberIndex, bytes32 seed)). Raises MaskRefused."""
    return _keccak256(_bytes32(context) + _word(member_index) + _bytes32(seed))


def pair_secret(private_key: bytes, peer_public: bytes, context: bytes, index: int, peer_index: int) -> bytes:
    """s_ij, the same 32 bytes on both sides. Raises MaskRefused for a peer key that makes the X25519 output all-zero, hence public."""
    if index == peer_index:
        raise MaskRefused("a member shares no mask with itself")
    try:
        shared = X25519PrivateKey.from_private_bytes(private_key).exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError as error:  # cryptography refuses keys of a wrong length and all-zero secrets this way
        raise MaskRefused("a member's masking key is not a usable X25519 key") from error
    low, high = sorted((index, peer_index))
    info = b"hessian/pair" + _bytes32(context) + low.to_bytes(4, "big") + high.to_bytes(4, "big")
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


def unusable_keys(public_keys: Sequence[bytes]) -> list[int]:
    """The places of keys with which no member could compute: points of low order, whose X25519 output is zero whatever the private key is,
    and second encodings of another member's point (RFC 7748 §5 ignores the top bit and reduces modulo 2^255 − 19)."""
    probe, context = masking_key_pair().private, bytes(32)
    points = [int.from_bytes(key, "little") % 2**255 % _FIELD for key in public_keys]
    unusable = []
    for index, key in enumerate(public_keys):
        try:
            pair_secret(probe, key, context, 0, 1)
        except MaskRefused:
            unusable.append(index)
            continue
        if points[index] in points[:index]:
            unusable.append(index)
    return unusable


def expand_mask(secret: bytes, context: bytes, ciphertext_index: int, modulus: int) -> int:
    """mask(z, c) in [0, n): the pad of one ciphertext from a pair secret or a self-mask seed. Raises MaskRefused."""
    width = (modulus.bit_length() + _SMOOTHING_BITS + 7) // 8
    stream = hashlib.shake_256(b"hessian/mask" + _bytes32(context) + ciphertext_index.to_bytes(4, "big") + _bytes32(secret))
    return int.from_bytes(stream.digest(width), "big") % modulus


def self_masks(seeds: Sequence[bytes], context: bytes, ciphertexts: int, modulus: int) -> list[int]:
    """Σ mask(u_i, c) mod n for each ciphertext: what the lender takes off the opened sum. Raises MaskRefused."""
    return [sum(expand_mask(seed, context, index, modulus) for seed in seeds) % modulus for index in range(ciphertexts)]


def total_masks(
    private_key: bytes, public_keys: Sequence[bytes], member_index: int, seed: bytes, context: bytes, ciphertexts: int, modulus: int
) -> list[int]:
    """What a member adds to each of its plaintexts, mod n: Σ_{j>i} mask(s_ij) − Σ_{j<i} mask(s_ij) + mask(u_i).

    `public_keys` are the whole cohort's in the contract's order, its own included. Raises MaskRefused: also when the key at `member_index`
    is not this private key's, for then the masks would not cancel.
    """
    if not 0 <= member_index < len(public_keys) or public_keys[member_index] != _public_of(private_key):
        raise MaskRefused("the cohort does not list this member's masking key at its place")
    if len(set(public_keys)) != len(public_keys):
        raise MaskRefused("two members of the cohort have the same masking key")
    totals = self_masks([seed], context, ciphertexts, modulus)
    for peer_index, peer_key in enumerate(public_keys):
        if peer_index != member_index:
            secret, sign = pair_secret(private_key, peer_key, context, member_index, peer_index), 1 if peer_index > member_index else -1
            totals = [(total + sign * expand_mask(secret, context, index, modulus)) % modulus for index, total in enumerate(totals)]
    return totals


def _public_of(private_key: bytes) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
    except ValueError as error:
        raise MaskRefused("the private masking key does not have 32 bytes") from error


def _keccak256(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()


def _word(value: int, bits: int = 256) -> bytes:
    if not 0 <= value < 1 << bits:
        raise MaskRefused(f"{value} does not fit an unsigned integer of {bits} bits")
    return value.to_bytes(32, "big")


def _address_word(account: Address) -> bytes:
    digits = account.removeprefix("0x")
    if len(digits) != 40 or not all(character in "0123456789abcdefABCDEF" for character in digits):
        raise MaskRefused("an account is 0x followed by 40 hexadecimal digits")
    return bytes(12) + bytes.fromhex(digits)


def _bytes32(value: bytes) -> bytes:
    if len(value) != 32:
        raise MaskRefused(f"32 bytes are needed, not {len(value)}")
    return value
