"""One request is one transaction, committed before the answer leaves.

Application code never commits, only flushes. The dependency lives here, beside the type that it hands out.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession


class Session(AsyncSession):
    """A session inside a transaction that its opener commits."""
