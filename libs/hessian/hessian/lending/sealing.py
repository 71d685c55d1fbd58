"""A few bytes for the holder of one X25519 key: HPKE in base mode (RFC 9180), X25519 with HKDF-SHA256 and AES-256-GCM.

The `context` names what the bytes belong to: sealed for one request, they open for no other. Base mode does not say who sealed them; for a
score answer the chain does, because only the lender can anchor its digest.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from hessian.errors import Malformed

KEY_BYTES = 32
SEAL_BYTES = 32 + 16
"""How much longer sealed bytes are: the encapsulated key and the tag."""

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class SealRefused(Malformed):
    """These bytes were not sealed for this key and this purpose, or the key is none."""


@dataclass(frozen=True)
class SealingKeyPair:
    """An X25519 pair made for one query. The private half stays on the borrower's node and out of every log line."""

    private: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"SealingKeyPair(public={self.public.hex()})"


def sealing_key_pair() -> SealingKeyPair:
    """A fresh pair from the operating system's randomness."""
    private = X25519PrivateKey.generate()
    return SealingKeyPair(private.private_bytes_raw(), private.public_key().public_bytes_raw())


def seal(public_key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """`SEAL_BYTES` longer than the plaintext, different every time. Raises SealRefused for a key of low order or another length."""
    try:
        return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info=context)
    except ValueError as error:  # a wrong length, or an all-zero shared secret
        raise SealRefused("the borrower's key is not a usable X25519 key") from error


def unseal(private_key: bytes, sealed: bytes, context: bytes) -> bytes:
    """The plaintext. Raises SealRefused."""
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private_key), info=context)
    except (InvalidTag, ValueError) as error:
        raise SealRefused from error
