"""The words every room shares, as types: mixing a round with a cohort is a type error, not an incident.

Numbers that name something on chain start at 1; 0 means "none", as it does in the contract.
"""

from __future__ import annotations

import hashlib
from typing import NewType

from hessian.errors import Malformed

ChainId = NewType("ChainId", int)
ModelId = NewType("ModelId", int)
CohortId = NewType("CohortId", int)
RoundId = NewType("RoundId", int)
DeploymentId = NewType("DeploymentId", int)
RequestId = NewType("RequestId", int)
BlockNumber = NewType("BlockNumber", int)

Timestamp = NewType("Timestamp", int)
"""Seconds since 1970 by the chain's clock: deadlines are never judged by a machine's own."""

Wei = NewType("Wei", int)
"""Money. A decimal *string* in JSON, Numeric(78, 0) in Postgres, never a float."""

ErrorUnits = NewType("ErrorUnits", int)
"""A validation error in billionths (10⁻⁹), as the contract counts it (PROTOCOL §6)."""

Address = NewType("Address", str)
"""An account in EIP-55 checksum form."""

Digest = NewType("Digest", bytes)
"""32 bytes: the sha2-256 of an artifact's bytes, and the `bytes32` the contract anchors."""

DIGEST_BYTES = 32


def digest_of(data: bytes) -> Digest:
    """The name of these bytes, on chain and on IPFS (PROTOCOL §8)."""
    return Digest(hashlib.sha256(data).digest())


def digest_from_hex(text: str) -> Digest:
    """Parse `0x` + 64 hexadecimal digits. Raises Malformed."""
    digits = text.removeprefix("0x")
    if len(digits) != 2 * DIGEST_BYTES or not all(c in "0123456789abcdefABCDEF" for c in digits):
        raise Malformed("a digest is 0x followed by 64 hexadecimal digits")
    return Digest(bytes.fromhex(digits))


def digest_to_hex(digest: Digest) -> str:
    """`0x` + 64 lower-case hexadecimal digits."""
    return "0x" + digest.hex()
