"""Digest ⇄ CID: one spelling, and nothing else is accepted."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hessian.identifiers import Digest, digest_of
from hessian.ipfs.cid import CidRefused, cid_of, digest_of_cid


def test_cid_of__hello_world__is_what_kubo_prints() -> None:
    # `printf 'hello world' | ipfs add --cid-version 1 --raw-leaves -Q`
    assert cid_of(digest_of(b"hello world")) == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


@given(st.binary(min_size=32, max_size=32))
def test_digest_of_cid__of_its_own_cid__comes_back(digest: bytes) -> None:
    assert digest_of_cid(cid_of(Digest(digest))) == digest


def _spelt(prefix: bytes, digest: bytes) -> str:
    return "b" + base64.b32encode(prefix + digest).decode().rstrip("=").lower()


_DIGEST = hashlib.sha256(b"x").digest()
_GOOD = cid_of(Digest(_DIGEST))


@pytest.mark.parametrize(
    "cid",
    [
        "",
        "b",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",  # CIDv0
        _GOOD.upper(),
        "B" + _GOOD[1:].upper(),
        "z" + _GOOD[1:],
        _GOOD + "a",
        _GOOD[:-1],
        " " + _GOOD[:-1],
        _GOOD[:-1] + "1",
        _GOOD[:-1] + "ä",
        "b" + "a" * 10_000,
        _spelt(bytes((0x01, 0x70, 0x12, 0x20)), _DIGEST),  # dag-pb
        _spelt(bytes((0x01, 0x55, 0x00, 0x20)), _DIGEST),  # identity
        _spelt(bytes((0x01, 0x55, 0x1B, 0x20)), _DIGEST),  # keccak-256
        _spelt(bytes((0x01, 0x55, 0x12, 0x14)), _DIGEST),  # cut digest
    ],
)
def test_digest_of_cid__another_kind_or_spelling__is_refused(cid: str) -> None:
    with pytest.raises(CidRefused):
        digest_of_cid(cid)


def test_digest_of_cid__unused_bits_set__is_refused() -> None:
    """59 characters hold 290 bits, 2 more than the CID has: a second spelling must not pass for the first."""
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    for bits in (1, 2, 3):
        with pytest.raises(CidRefused):
            digest_of_cid(_GOOD[:-1] + alphabet[alphabet.index(_GOOD[-1]) ^ bits])
