"""Plain values (integers, text, bytes, booleans, lists, maps) read into closed shapes: unknown, missing and mistyped fields are refused.

What an artifact or a JSON body holds is read through `Fields`, one named field at a time; `done()` refuses whatever was not asked for.
Real parameters travel as integers in billionths (10⁻⁹), because artifacts hold no floats (PROTOCOL §8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from hessian.errors import Malformed

Plain: TypeAlias = "int | str | bytes | bool | Sequence[Plain] | Mapping[str, Plain]"
"""What DAG-CBOR without floats, links and null can say."""

BILLION = 10**9
LARGEST_INTEGER = 2**63 - 1

_DECIMAL = re.compile(r"(-?)([0-9]{1,10})(?:\.([0-9]{1,9}))?", re.ASCII)
_UNWRITABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but the line end, and lone surrogates: what a database column, a log or a terminal chokes on."""


class ShapeRefused(Malformed):
    """A field is missing, unknown or not of its type."""


def billionths(text: str) -> int:
    """A decimal such as "-12.5" as an integer in billionths, exactly. Raises ShapeRefused: at most 10 digits before the point, 9 after."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ShapeRefused("a decimal number looks like -12.5: at most 10 digits before the point and 9 after it, no exponent")
    sign, whole, part = match.groups()
    value = int(whole) * BILLION + int((part or "").ljust(9, "0"))
    if value > LARGEST_INTEGER:
        raise ShapeRefused("a decimal number must lie between -9223372036 and 9223372036")
    return -value if sign else value


def decimal(value: int) -> str:
    """The shortest decimal text of an integer in billionths: the inverse of `billionths`."""
    whole, part = divmod(abs(value), BILLION)
    digits = f"{part:09d}".rstrip("0")
    return f"{'-' if value < 0 else ''}{whole}{'.' + digits if digits else ''}"


class Fields:
    """One map being read. `place` names it in refusals ("manifest.bounds")."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) and not _UNWRITABLE.search(name) for name in value):
            raise ShapeRefused(f"{place} must be a map with text keys, without control characters")
        self._left = dict(cast(Mapping[str, object], value))
        self.place = place

    @classmethod
    def of(cls, value: object, place: str) -> Fields:
        """The value to be read as a map; what is being read already is passed on."""
        return value if isinstance(value, Fields) else cls(value, place)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that nobody asked for yet, in order."""
        return tuple(self._left)

    def done(self) -> None:
        """Every field was asked for. Raises ShapeRefused naming those that were not."""
        if self._left:
            names = ", ".join(sorted(name[:40] for name in self._left)[:5])
            raise ShapeRefused(f"{self.place} has unknown fields: {names}")

    def integer(self, name: str, lowest: int, highest: int) -> int:
        """An integer in [lowest, highest]; a boolean is none."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ShapeRefused(f"{self.place}.{name} must be an integer")
        if not lowest <= value <= highest:
            raise ShapeRefused(f"{self.place}.{name} must lie between {lowest} and {highest}")
        return value

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise ShapeRefused(f"{self.place}.{name} must be true or false")
        return value

    def text(self, name: str, longest: int = 200, *, may_be_empty: bool = False) -> str:
        """Text of at most `longest` characters."""
        return text_of(self._take(name), f"{self.place}.{name}", longest, may_be_empty=may_be_empty)

    def octets(self, name: str, longest: int, *, shortest: int | None = None) -> bytes:
        """Bytes: exactly `longest` of them unless `shortest` allows fewer."""
        value = self._take(name)
        if not isinstance(value, bytes):
            raise ShapeRefused(f"{self.place}.{name} must be bytes")
        if not (longest if shortest is None else shortest) <= len(value) <= longest:
            raise ShapeRefused(f"{self.place}.{name} has the wrong length: {len(value)} bytes")
        return value

    def record(self, name: str) -> Fields:
        """A map inside this one; its own `done()` is the caller's to call."""
        return Fields(self._take(name), f"{self.place}.{name}")

    def records(self, name: str, most: int) -> list[Fields]:
        """A list of at most `most` maps."""
        return [Fields(item, f"{self.place}.{name}[{index}]") for index, item in enumerate(self._items(name, most))]

    def texts(self, name: str, most: int, longest: int = 200, *, may_be_empty: bool = False) -> tuple[str, ...]:
        """A list of at most `most` texts."""
        place = f"{self.place}.{name}"
        return tuple(text_of(item, place, longest, may_be_empty=may_be_empty) for item in self._items(name, most))

    def octet_strings(self, name: str, most: int) -> tuple[bytes, ...]:
        """A list of at most `most` byte strings."""
        items = self._items(name, most)
        if not all(isinstance(item, bytes) for item in items):
            raise ShapeRefused(f"{self.place}.{name} must hold bytes only")
        return tuple(cast(Sequence[bytes], items))

    def _items(self, name: str, most: int) -> Sequence[object]:
        value = self._take(name)
        if not isinstance(value, list | tuple):
            raise ShapeRefused(f"{self.place}.{name} must be a list")
        if len(value) > most:
            raise ShapeRefused(f"{self.place}.{name} has {len(value)} entries, more than the {most} allowed")
        return value

    def _take(self, name: str) -> object:
        if name not in self._left:
            raise ShapeRefused(f"{self.place} lacks the field {name}")
        return self._left.pop(name)


def text_of(value: object, place: str, longest: int = 200, *, may_be_empty: bool = False) -> str:
    """Text of at most `longest` characters that anything can store and show. Raises ShapeRefused naming `place`."""
    if not isinstance(value, str):
        raise ShapeRefused(f"{place} must be text")
    if len(value) > longest or (not value and not may_be_empty):
        raise ShapeRefused(f"{place} must have between {0 if may_be_empty else 1} and {longest} characters")
    if _UNWRITABLE.search(value):
        raise ShapeRefused(f"{place} holds a control character or a lone surrogate")
    return value
