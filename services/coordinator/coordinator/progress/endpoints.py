"""GET /v1/progress."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from coordinator.progress.schemas import RoundProgress
from coordinator.progress.stream import EventStream, Progress, Readers
from coordinator.world import TheWorld
from hessian.errors import DatabaseUnavailable, NotPermitted, Unauthenticated, Unavailable
from hessian.service.edge import StrictJsonRoute
from hessian.service.problems import refusals
from hessian.service.tokens import requires

MOST_READERS = 64

router = APIRouter(route_class=StrictJsonRoute, responses=refusals(Unauthenticated, NotPermitted, DatabaseUnavailable))


class TooManyReaders(Unavailable):
    """This coordinator streams to as many readers as it may; try again later."""


_DESCRIPTION = """Events, each with an id to resume after:

- `round`: a round was opened or has changed (`RoundProgress`).
- `job`: a job of this node was planned or has changed (`JobRead`).
- `cursor`: the last block done (`BlockRead`); sent when it moves, and only the newest.
- `reset`: forget what you hold: what follows starts from the beginning (or from now, if you asked so).

A change is never left out and never sent twice under one id. Who reads slowly gets an object's newest state, not every one in between.
Lines that start with a colon are heartbeats. When the stream ends, open it again with the last id as `Last-Event-ID`."""

_CONTENT: dict[str, Any] = {
    "text/event-stream": {
        "schema": {"type": "string", "description": "Server-sent events (HTML standard); `x-data` says what each one carries"},
        "x-data": {
            "round": RoundProgress.model_json_schema(),
            "job": {"$ref": "#/components/schemas/JobRead"},
            "cursor": {"$ref": "#/components/schemas/BlockRead"},
        },
        "example": 'event: cursor\nid: 0123456789abcdef.815.job.17\ndata: {"number":1207,"timestamp":1790000000}\n\n',
    }
}


@router.get(
    "/progress",
    tags=["progress"],
    summary="Stream progress",
    description=_DESCRIPTION,
    dependencies=[Depends(requires("admin", "coordinator"))],
    response_class=Response,
    responses={200: {"content": _CONTENT, "description": "A stream that ends when either side does"}, **refusals(TooManyReaders)},
)
async def stream(
    request: Request,
    world: TheWorld,
    start: Annotated[Literal["beginning", "now"], Query(description="Without a `Last-Event-ID`")] = "beginning",
    last_event_id: Annotated[str | None, Header(max_length=80, description="The id of the last event taken")] = None,
) -> Response:
    """Rounds, jobs and the cursor as they change."""
    readers: Readers = request.state.readers
    if readers.count >= MOST_READERS:
        raise TooManyReaders
    return EventStream(await Progress.open(world.database, last_event_id, from_now=start == "now"), readers)
