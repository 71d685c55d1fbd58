"""Ciphertexts on the wire: big-endian byte strings, all of the key's one length, checked on the way in (PROTOCOL §8)."""

from __future__ import annotations

from collections.abc import Sequence

from hessian.paillier.ciphertext import CiphertextRefused, check_ciphertexts
from hessian.paillier.keys import PublicKey


def ciphertexts_to_bytes(public_key: PublicKey, ciphertexts: Sequence[int]) -> list[bytes]:
    """k ciphertexts, each in exactly `public_key.ciphertext_bytes` bytes. Raises CiphertextRefused for what could not be read back."""
    check_ciphertexts(public_key, ciphertexts)
    return [ciphertext.to_bytes(public_key.ciphertext_bytes, "big") for ciphertext in ciphertexts]


def ciphertexts_from_bytes(public_key: PublicKey, items: Sequence[bytes]) -> list[int]:
    """Read foreign ciphertexts. Raises CiphertextRefused for another type or length, a value outside (0, n²) or a factor of n."""
    if any(type(item) is not bytes or len(item) != public_key.ciphertext_bytes for item in items):
        raise CiphertextRefused(f"a ciphertext under this key is {public_key.ciphertext_bytes} bytes long")
    ciphertexts = [int.from_bytes(item, "big") for item in items]
    check_ciphertexts(public_key, ciphertexts)
    return ciphertexts
