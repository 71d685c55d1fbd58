"""The launcher's one command, over a Unix socket: a connection that brings the token gets one container, for as long as it stays open.

What may be said is in `trainer.isolation.frames`. Whoever hangs up, or dies, takes the container with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import structlog

from hessian.settings import BadSettings
from trainer.isolation import frames
from trainer.isolation.frames import FrameRefused, Said
from trainer.launcher.containers import Container, Docker, DockerUnavailable

log = structlog.get_logger()
_PIPE_BYTES = 1 << 16
_TOKEN_SECONDS = 5.0


class _Gone(Exception):
    """The trainer hung up."""


class Launcher:
    """Serves connections; at most `containers` at a time."""

    def __init__(self, docker: Docker, *, token: str, containers: int) -> None:
        self._docker = docker
        self._token = token.encode()
        self._most = containers
        self._sessions: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Listen; on leaving, every container is removed. Raises BadSettings when nobody can listen there."""
        previous = os.umask(0o117)  # the socket is for its owner and group
        try:
            server = await asyncio.start_unix_server(self._accept, path)  # takes the place of a socket that an earlier life left
        except OSError as error:
            raise BadSettings(f"the launcher cannot listen at {path}: {error.strerror}") from error
        finally:
            os.umask(previous)
        try:
            yield
        finally:
            server.close()
            for session in self._sessions:
                session.cancel()
            if self._sessions:
                await asyncio.wait(self._sessions)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.create_task(self._session(reader, writer), name="container")
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, _Gone):
                if not await self._is_ours(reader):
                    log.warning("launch_refused", reason="the token is not the launcher's")
                    await _say(writer, frames.frame(Said.REFUSED, b"the token is not the launcher's"))
                elif len(self._sessions) > self._most:
                    await _say(writer, frames.frame(Said.REFUSED, b"every container it may start is taken"))
                else:
                    await self._serve(reader, writer)
        except DockerUnavailable as error:
            log.error("container_failed", reason=error.sentence)
            with contextlib.suppress(OSError):
                await _say(writer, frames.frame(Said.REFUSED, error.sentence.encode()))
        finally:
            writer.close()

    async def _is_ours(self, reader: asyncio.StreamReader) -> bool:
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                line = await reader.readuntil(b"\n")
        except (TimeoutError, asyncio.LimitOverrunError):
            return False
        except asyncio.IncompleteReadError as error:
            raise _Gone from error
        return hmac.compare_digest(line.rstrip(b"\n"), self._token)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        starting = asyncio.create_task(asyncio.to_thread(self._docker.start))
        try:
            container = await asyncio.shield(starting)
        except asyncio.CancelledError:  # a thread cannot be cancelled: what it starts must be removed all the same
            with contextlib.suppress(DockerUnavailable):
                await self._remove(await starting)
            raise
        try:
            from_container, to_container = await asyncio.open_connection(sock=container.streams)
            with closing(to_container):
                await _say(writer, frames.frame(Said.STARTED))
                feeding = asyncio.create_task(_feed(reader, to_container))
                answering = asyncio.create_task(self._answer(container, from_container, writer))
                try:
                    await asyncio.wait({feeding, answering}, return_when=asyncio.FIRST_COMPLETED)
                    if answering.done():
                        await answering
                finally:
                    for task in (feeding, answering):
                        task.cancel()
                    await asyncio.wait({feeding, answering})
        finally:
            await asyncio.shield(self._remove(container))

    async def _answer(self, container: Container, output: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await output.read(_PIPE_BYTES):
            await _say(writer, data)
        await _say(writer, frames.ended(await asyncio.to_thread(self._docker.exit_code, container.identity)))

    async def _remove(self, container: Container) -> None:
        await asyncio.to_thread(self._docker.remove, container.identity)
        log.info("container_removed", container=container.identity[:12])


async def _feed(reader: asyncio.StreamReader, to_container: asyncio.StreamWriter) -> None:
    """Hand the job's input on, and then wait until the trainer hangs up. Raises _Gone."""
    try:
        while data := await frames.read_piece(reader):
            with contextlib.suppress(ConnectionError):  # it ended before it read all; its exit code says why
                to_container.write(data)
                await to_container.drain()
        with contextlib.suppress(OSError):
            to_container.write_eof()
        await reader.read(1)
    except (asyncio.IncompleteReadError, FrameRefused, OSError) as error:
        raise _Gone from error
    raise _Gone


async def _say(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
