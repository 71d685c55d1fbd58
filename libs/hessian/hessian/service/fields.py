"""JSON fields with units: wei as decimal strings, digests as 0x-hex, addresses in checksum form, pages by keyset."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from typing import Annotated, Generic, TypeVar

from fastapi import Header, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from hessian.errors import Malformed
from hessian.identifiers import Digest, Wei, digest_to_hex

MAXIMUM_WEI = 2**256 - 1
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_HEX_DIGEST = re.compile(r"0x[0-9a-f]{64}", re.ASCII)


def _parse_wei(value: object) -> Wei:
    if isinstance(value, int) and not isinstance(value, bool):  # from our own rows, never from JSON: strict mode below
        number = value
    elif isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = int(value)
    else:
        raise ValueError("wei are a string of decimal digits")
    if not 0 <= number <= MAXIMUM_WEI:
        raise ValueError("wei fit 256 bits")
    return Wei(number)


def _parse_wei_text(value: object) -> Wei:
    if not isinstance(value, str):
        raise ValueError("wei are a string of decimal digits: JSON numbers lose digits above 2^53")
    return _parse_wei(value)


def _parse_digest(value: object) -> Digest:
    if isinstance(value, bytes) and len(value) == 32:
        return Digest(value)
    if isinstance(value, str) and _HEX_DIGEST.fullmatch(value):
        return Digest(bytes.fromhex(value[2:]))
    raise ValueError("a digest is 0x followed by 64 lower-case hexadecimal digits")


_WEI_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^(0|[1-9][0-9]{0,77})$", "examples": ["1000000000000000000"]})
_TO_TEXT = PlainSerializer(str, return_type=str, when_used="json")

WeiRead = Annotated[int, BeforeValidator(_parse_wei), _TO_TEXT, _WEI_SCHEMA]
"""Wei going out, from a row or a chain read."""

WeiIn = Annotated[int, BeforeValidator(_parse_wei_text), _TO_TEXT, _WEI_SCHEMA]
"""Wei coming in: only a decimal string."""

PositiveWeiIn = Annotated[
    int,
    BeforeValidator(_parse_wei_text),
    Field(gt=0),
    _TO_TEXT,
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,77}$", "examples": ["1000000000000000000"]}),
]
"""The same where zero makes no sense."""

DigestField = Annotated[
    bytes,
    BeforeValidator(_parse_digest),
    PlainSerializer(lambda digest: digest_to_hex(Digest(digest)), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-f]{64}$", "examples": ["0x" + "ab" * 32]}),
]

AddressField = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$", examples=["0x52908400098527886E0F7030069857D2E4169EE7"])]


def _printable(text: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn"} for character in text):
        raise ValueError("control and invisible characters are not allowed")
    return text


def _prose(text: str) -> str:
    _printable(text.replace("\n", " "))
    return text


NameField = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
"""A short name that people read: no control, format or unassigned characters, which would lie to the eye or break a column."""

ProseField = Annotated[str, Field(max_length=4_000), AfterValidator(_prose)]
"""A description; line ends allowed."""

IdempotencyKey = Annotated[
    str,
    Header(alias="Idempotency-Key", min_length=8, max_length=200, description="Drawn by the caller; the same key has its effect once"),
]

ItemT = TypeVar("ItemT")
PAGE_LIMIT = 200


class Page(BaseModel, Generic[ItemT]):
    """One page of a list, newest last. `next` continues it; null on the last page."""

    items: list[ItemT]
    next: str | None = Field(default=None, description="Pass as `after` to read on")


PageLimit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]


def _parse_after(value: object) -> int:
    if value is None or value == "":
        return 0
    try:
        text = base64.urlsafe_b64decode(str(value).encode() + b"==").decode()
        if not re.fullmatch(r"k[0-9]{1,18}", text, re.ASCII):
            raise ValueError
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise Malformed("`after` is not a cursor this service gave out") from error
    return int(text[1:])


def page_after(after: Annotated[str | None, Query(max_length=60, description="`next` of the page before")] = None) -> int:
    """Dependency: the row number to read on from. Raises Malformed."""
    return _parse_after(after)


def next_cursor(last_id: int | None) -> str | None:
    """The cursor that continues after a row."""
    return None if last_id is None else base64.urlsafe_b64encode(f"k{last_id}".encode()).rstrip(b"=").decode()
