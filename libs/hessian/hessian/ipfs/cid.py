"""Digest ⇄ CID. An artifact is one block: CIDv1, codec `raw`, multihash sha2-256 (PROTOCOL §8), so that each follows from the other.

CID = "b" + base32-lower-unpadded(01 55 12 20 ‖ digest)         https://github.com/multiformats/cid
"""

from __future__ import annotations

import base64
import binascii

from hessian.errors import Malformed
from hessian.identifiers import DIGEST_BYTES, Digest

_PREFIX = bytes((0x01, 0x55, 0x12, DIGEST_BYTES))
_CID_CHARACTERS = 59


class CidRefused(Malformed):
    """A content identifier is CIDv1 raw with sha2-256, in lower-case base32."""


def cid_of(digest: Digest) -> str:
    """The CID of an artifact: 59 characters, starting with `bafkrei`."""
    return "b" + base64.b32encode(_PREFIX + digest).decode().rstrip("=").lower()


def digest_of_cid(cid: str) -> Digest:
    """The digest in a CID. Raises CidRefused for any other kind or spelling of CID."""
    if len(cid) != _CID_CHARACTERS or cid[0] != "b" or not cid.isascii():
        raise CidRefused
    try:
        data = base64.b32decode(cid[1:].upper() + "=" * (-len(cid[1:]) % 8))
    except binascii.Error as error:
        raise CidRefused from error
    digest = Digest(data[len(_PREFIX) :])
    if data[: len(_PREFIX)] != _PREFIX or cid_of(digest) != cid:
        raise CidRefused
    return digest
