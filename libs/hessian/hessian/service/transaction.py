"""One request, one transaction: the dependency of every handler that touches the database.

Apart from the app, so that the trainer has no SQL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from hessian.postgres.session import Session


async def committing_session(request: Request) -> AsyncIterator[Session]:
    """One request is one transaction. Commits before the response is sent, or the client hears of the failure."""
    async with request.state.database.begin() as session:
        yield session


Transaction = Annotated[Session, Depends(committing_session, scope="function")]
"""The default scope would run the commit after the response: a failing commit would be answered as a success."""
