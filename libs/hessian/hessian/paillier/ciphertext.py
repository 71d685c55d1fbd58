"""What anyone with the public key can do: check, encrypt, add, and apply an integer affine map (PROTOCOL §2–3).

Whatever leaves a node carries a fresh full-width randomiser rⁿ: the holder of the private key can read a ciphertext's randomness, which
after scalar products encodes the rows, and a short exponent would not hide it. Opening ciphertexts is `hessian.paillier.decryption`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from hessian.errors import Malformed, Violated
from hessian.paillier.keys import PublicKey
from hessian.paillier.multiexp import SimultaneousPowers, simultaneous_powers


class CiphertextRefused(Malformed):
    """A ciphertext is not one under this key."""


class PlaintextOverflow(Violated):
    """A number to be encrypted does not fit between −n/2 and n/2."""


class RandomiserReused(Violated):
    """A randomiser is missing, or would serve twice: the results would be linkable."""


def check_ciphertexts(public_key: PublicKey, ciphertexts: Sequence[int]) -> None:
    """Raise CiphertextRefused unless each of the k ciphertexts is an int with 0 < c < n² and gcd(c, n) = 1 (PROTOCOL §2).

    An unchecked ciphertext gives the private key away: a raw decryption of 0, n or n² returns p + q. One gcd with the product of them
    all answers for the whole sequence.
    """
    n = mpz(public_key.n)
    product = mpz(1)
    for index, ciphertext in enumerate(ciphertexts):
        if type(ciphertext) is not int or not 0 < ciphertext < public_key.n_squared:
            raise CiphertextRefused(f"ciphertext {index} is not an integer between 0 and n²")
        product = product * ciphertext % n
    if gmpy2.gcd(product, n) != 1:
        culprit = next(index for index, ciphertext in enumerate(ciphertexts) if gmpy2.gcd(ciphertext, n) != 1)
        raise CiphertextRefused(f"ciphertext {culprit} has a common factor with the modulus")


def randomiser(public_key: PublicKey) -> int:
    """rⁿ mod n² for a fresh uniform r in Z*_n: the randomness of one ciphertext. Never use one twice.

    Paillier, "Public-key cryptosystems based on composite degree residuosity classes" (EUROCRYPT 1999), §8, self-blinding. The slow part
    of encrypting (docs/kernel.md); it depends on nothing but the key, so it can be made ahead of time. Halves beat GMP's
    `powmod` here as well: by a tenth at 2048 bits and a quarter at 3072.
    """
    while True:
        r = secrets.randbelow(public_key.n)
        if gmpy2.gcd(r, public_key.n) == 1:
            return simultaneous_powers(public_key.n, [r], [[public_key.n]])[0]


def require_plaintext(public_key: PublicKey, plaintext: int) -> None:
    """Raise PlaintextOverflow unless −n/2 < plaintext < n/2: only then does the centred lift return it. TypeError unless it is an int."""
    if type(plaintext) is not int:
        raise TypeError(f"a plaintext is an int, not {type(plaintext).__name__}")
    if 2 * abs(plaintext) >= public_key.n:
        raise PlaintextOverflow


def encrypt(public_key: PublicKey, plaintext: int, randomiser: int) -> int:
    """(1 + m·n)·rⁿ mod n² for −n/2 < m < n/2, `randomiser` being rⁿ mod n².

    Paillier 1999, §4, with g = n + 1 as in Damgård and Jurik, "A generalisation, a simplification and some applications of Paillier's
    probabilistic public-key system" (PKC 2001). Raises PlaintextOverflow; CiphertextRefused for a randomiser that is no unit.
    """
    require_plaintext(public_key, plaintext)
    check_ciphertexts(public_key, [randomiser])
    return int((1 + plaintext * mpz(public_key.n)) * randomiser % public_key.n_squared)


def add(public_key: PublicKey, vectors: Sequence[Sequence[int]]) -> list[int]:
    """Element by element the ciphertext of the sum: the product over the k vectors (a cohort's members) of C ciphertexts each.

    Paillier 1999, §8: products of ciphertexts are sums of plaintexts, mod n. Raises CiphertextRefused for a bad ciphertext, and for
    vectors of different lengths or none.
    """
    if not vectors or any(len(vector) != len(vectors[0]) for vector in vectors):
        raise CiphertextRefused("the members' ciphertexts do not line up")
    sums = [mpz(1)] * len(vectors[0])
    for vector in vectors:
        check_ciphertexts(public_key, vector)
        sums = [total * ciphertext % public_key.n_squared for total, ciphertext in zip(sums, vector, strict=True)]
    return [int(total) for total in sums]


def affine_map(
    public_key: PublicKey,
    weights: Sequence[int],
    multipliers: Sequence[Sequence[int]],
    offsets: Sequence[int],
    randomisers: Sequence[int] | None = None,
) -> list[int]:
    """c_c = Π_j weights[j] ^ multipliers[c][j] · Enc(offsets[c]; fresh randomiser): encrypted weights through an integer affine map.

    weights: d foreign ciphertexts, checked here. multipliers: C rows of d signed integers below n/2, usually column-packed
    (`packing.pack_columns`). offsets: C integers in (−n/2, n/2), packed −b and masks together. randomisers: C made ahead of time, each
    never used before; made here when absent. Returns C ciphertexts.

    Raises CiphertextRefused for the weights; PlaintextOverflow for a multiplier or offset out of range; RandomiserReused when the given
    randomisers are not as many as the outputs, or not distinct. ValueError when the shapes do not fit. PROTOCOL §3.
    """
    if len(multipliers) != len(offsets) or any(len(row) != len(weights) for row in multipliers):
        raise ValueError("one row of multipliers per offset, one multiplier per weight")
    check_ciphertexts(public_key, weights)
    for row in multipliers:
        for multiplier in row:
            require_plaintext(public_key, multiplier)
    for offset in offsets:
        require_plaintext(public_key, offset)
    count = len(offsets)
    if randomisers is not None and (len(randomisers) != count or len(set(randomisers)) != count):
        raise RandomiserReused
    powers = SimultaneousPowers(public_key.n, weights, multipliers)
    fresh = list(randomisers) if randomisers is not None else [randomiser(public_key) for _ in range(count)]
    return [
        int(powers.output(place) * mpz(encrypt(public_key, offset, one)) % public_key.n_squared)
        for place, (offset, one) in enumerate(zip(offsets, fresh, strict=True))
    ]
