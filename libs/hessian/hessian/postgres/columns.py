"""Column types that know their units: wei, digests, addresses, states."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from sqlalchemy import BigInteger, DateTime, Dialect, LargeBinary, Numeric, String, func
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import TypeDecorator

from hessian.identifiers import DIGEST_BYTES, Digest, Wei


class WeiColumn(TypeDecorator[Wei]):
    """Numeric(78, 0) in Postgres, a Python int here: uint256 fits, and no float comes near it."""

    impl = Numeric(78, 0)
    cache_ok = True

    def process_bind_param(self, value: Wei | None, dialect: Dialect) -> Decimal | None:
        """Exact decimal."""
        return None if value is None else Decimal(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Wei | None:
        """Back to an int."""
        return None if value is None else Wei(int(value))


class DigestColumn(TypeDecorator[Digest]):
    """Exactly 32 bytes."""

    impl = LargeBinary(DIGEST_BYTES)
    cache_ok = True

    def process_bind_param(self, value: Digest | None, dialect: Dialect) -> bytes | None:
        """Refuses another length."""
        if value is not None and len(value) != DIGEST_BYTES:
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes, not {len(value)}")
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> Digest | None:
        """Plain bytes."""
        return None if value is None else Digest(bytes(value))


AddressColumn = String(42)

BigId = Annotated[int, mapped_column(BigInteger, primary_key=True, autoincrement=True)]
"""A row's own number, in order of insertion: what keyset pages are cut by."""

CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now(), nullable=False)]
UpdatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now(), onupdate=func.now(), nullable=False)]
