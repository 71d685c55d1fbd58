"""The stream itself: a reader's own loop over the tables, and the answer that carries it.

Polled, not notified: NOTIFY would take a lock that orders all commits of the database, would not say when an older transaction has ended,
and would need polling behind it anyway for what it loses. A reader pulls its next batch only when it has taken the one before, so that a
slow one costs one batch of memory and no queue; one that takes nothing for a while is let go and may resume.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import structlog
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from coordinator.progress.batches import Batch, read_batch
from coordinator.progress.positions import Position
from hessian.errors import DatabaseUnavailable
from hessian.postgres.engine import Database

log = structlog.get_logger()

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
STALLED_SECONDS = 30.0
AGAIN_MILLISECONDS = 2000
"""When a reader comes back whose stream has ended: its `retry`."""


class Progress:
    """What one reader is sent. `open` before anything is answered: a database that is away is a refusal, not an empty stream."""

    def __init__(self, database: Database, position: Position, first: list[bytes], batch: Batch) -> None:
        self._database = database
        self._position = position
        self._first = first
        self._batch = batch

    @classmethod
    async def open(cls, database: Database, last_event_id: str | None, *, from_now: bool) -> Progress:
        """After the given event; without one from the beginning, or from now. Raises DatabaseUnavailable."""
        known = Position.parse(last_event_id) if last_event_id else None
        batch = await read_batch(database, known)
        first = [f"retry: {AGAIN_MILLISECONDS}\n\n".encode()]
        if known is None or not batch.stand.knows(known):
            position = batch.stand.now if from_now and not last_event_id else batch.stand.beginning
            first.append(frame("reset", position, None))
            return cls(database, position, first, await read_batch(database, position))
        return cls(database, known, first, batch)

    async def frames(self, ended: asyncio.Event) -> AsyncGenerator[bytes]:
        """Until `ended`, or until the database is away: who reads comes back by itself."""
        clock = asyncio.get_running_loop().time
        for words in self._first:
            yield words
        batch, cursor, told = self._batch, None, clock()
        while not ended.is_set():
            for event in batch.events:
                self._position = event.position
                yield frame(event.name, event.position, event.data)
            if batch.cursor != cursor and batch.cursor is not None and not batch.is_full:
                cursor = batch.cursor
                yield frame("cursor", self._position, cursor)
                told = clock()
            elif batch.events:
                told = clock()
            elif clock() - told >= HEARTBEAT_SECONDS:
                yield b": nothing new\n\n"
                told = clock()
            if not batch.is_full:
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), POLL_SECONDS)
            try:
                batch = await read_batch(self._database, self._position)
            except DatabaseUnavailable as error:
                log.info("progress_interrupted", reason=error.sentence)
                return


def frame(name: str, position: Position, data: BaseModel | None) -> bytes:
    """One event in the format of the HTML standard, section "Server-sent events"."""
    body = "{}" if data is None else data.model_dump_json()
    return f"event: {name}\nid: {position}\ndata: {body}\n\n".encode()


class Readers:
    """Who is being streamed to by one app. `stopping` ends every stream: a service that stops waits for its requests."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self.stopping = stopping
        self.count = 0


class EventStream(Response):
    """Sends frame by frame and waits for each to be taken. Ends when the reader goes, when it takes nothing, and when the service stops."""

    media_type = "text/event-stream"

    def __init__(self, progress: Progress, readers: Readers) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._progress = progress
        self._readers = readers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        ended = asyncio.Event()
        watching = [asyncio.create_task(watch, name="progress") for watch in (_gone(receive), self._readers.stopping.wait())]
        for task in watching:
            task.add_done_callback(lambda _: ended.set())
        self._readers.count += 1
        try:
            await self._send(ended, send)
        except TimeoutError:
            log.info("progress_reader_stalled", seconds=STALLED_SECONDS)
        finally:
            self._readers.count -= 1
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _send(self, ended: asyncio.Event, send: Send) -> None:
        """Raises TimeoutError when one frame is not taken in time."""
        async with aclosing(self._progress.frames(ended)) as frames:
            await _taken(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for words in frames:
                await _taken(send, {"type": "http.response.body", "body": words, "more_body": True})
        await _taken(send, {"type": "http.response.body", "body": b"", "more_body": False})


async def _taken(send: Send, message: Message) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await send(message)


async def _gone(receive: Receive) -> bool:
    """When the reader has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    return True
