"""A blinded scalar product: what a borrower sends instead of its features (PROTOCOL §10).

q = Π_j W_j^{x_j} · Enc(R·2^t; fresh r)      R uniform in [1, ⌊n/2^t⌋ − 1)

The lender decrypts Σ w_j·x_j + R·2^t mod n and keeps the low t bits. For an honest score nothing wraps around. Whatever numbers the weights
really are, R leaves of the plaintext its low t bits and, through the wrap-around, one comparison: t + 1 bits.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from hessian.errors import Malformed
from hessian.paillier.ciphertext import affine_map
from hessian.paillier.fixed_point import centre
from hessian.paillier.keys import PublicKey


class BlindingRefused(Malformed):
    """The blinding number is not one that this key and t allow."""


def draw_blinding(public_key: PublicKey, blinding_bits: int) -> int:
    """A fresh R from the operating system's randomness. Store it before anything is computed with it, and never draw it again for the same
    query: the lender would learn more. Raises BlindingRefused."""
    return 1 + secrets.randbelow(_end(public_key, blinding_bits) - 1)


def check_blinding(public_key: PublicKey, blinding: int, blinding_bits: int) -> None:
    """Raise BlindingRefused unless 1 ≤ R < ⌊n/2^t⌋ − 1."""
    if type(blinding) is not int or not 1 <= blinding < _end(public_key, blinding_bits):
        raise BlindingRefused


def blinded_product(public_key: PublicKey, weights: Sequence[int], features: Sequence[int], blinding: int, blinding_bits: int) -> int:
    """The ciphertext of Σ features[j]·w_j + blinding·2^blinding_bits: weights d foreign ciphertexts (checked), features d signed integers.

    Re-randomised: two runs give different ciphertexts. Raises CiphertextRefused, BlindingRefused, PlaintextOverflow.
    """
    check_blinding(public_key, blinding, blinding_bits)
    return affine_map(public_key, weights, [features], [centre(blinding << blinding_bits, public_key.n)])[0]


def _end(public_key: PublicKey, blinding_bits: int) -> int:
    """⌊n/2^t⌋ − 1, which R stays below."""
    end = (public_key.n >> blinding_bits) - 1
    if end < 2:
        raise BlindingRefused("the key is too small for these blinding bits")
    return end
