"""The backend `docker`: each worker is a container, started and removed by the launcher; this side sees a socket and no Docker."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from trainer.isolation import frames
from trainer.isolation.frames import FrameRefused, Said
from trainer.isolation.worker import Isolation, IsolationUnavailable, JobLimits, Worker, exit_code

_START_SECONDS = 60.0
_PIECE_BYTES = 1 << 16


class ContainerWorker(Worker):
    """One connection to the launcher: while it is open the container may live, when it closes the container is removed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.output, self.errors = asyncio.StreamReader(), asyncio.StreamReader()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen(), name="container")

    @property
    def has_ended(self) -> bool:
        """Whether the launcher said so, or went away."""
        return self._code.done()

    async def feed(self, data: bytes) -> None:
        """Send a part of the input, no faster than the container reads."""
        for start in range(0, len(data), _PIECE_BYTES):
            self._writer.write(frames.piece(data[start : start + _PIECE_BYTES]))
            await self._writer.drain()

    async def close_input(self) -> None:
        """Say that the input is complete."""
        self._writer.write(frames.piece(b""))
        await self._writer.drain()

    async def wait(self) -> int:
        """Its exit code. Raises IsolationUnavailable when the launcher went away."""
        return exit_code(await asyncio.shield(self._code))

    def kill(self) -> None:
        """Hang up: the launcher removes the container."""
        self._end_with(-signal.SIGKILL)
        self._writer.transport.abort()

    async def end(self) -> None:
        """Hang up and forget."""
        self.kill()
        await self._listening
        self._code.exception()  # seen: nobody else may have asked

    def _end_with(self, end: int | IsolationUnavailable) -> None:
        if self._code.done():
            return
        if isinstance(end, IsolationUnavailable):
            self._code.set_exception(end)
        else:
            self._code.set_result(end)

    async def _listen(self) -> None:
        try:
            while True:
                said, data = await frames.read_frame(self._reader)
                if said is Said.OUTPUT:
                    self.output.feed_data(data)
                elif said is Said.ERRORS:
                    self.errors.feed_data(data)
                elif said is Said.ENDED:
                    self._end_with(frames.code_of(data))
                    break
                else:
                    raise FrameRefused
        except (OSError, asyncio.IncompleteReadError, FrameRefused):
            self._end_with(IsolationUnavailable("the launcher went away in the middle of a job"))
        finally:
            self.output.feed_eof()
            self.errors.feed_eof()


class ContainerIsolation(Isolation):
    """Containers of a launcher that listens on a Unix socket. Memory, processor time and program are the launcher's to set."""

    name = "docker"

    def __init__(self, limits: JobLimits, *, socket: Path, token: str) -> None:
        super().__init__(limits)
        self._socket, self._token = socket, token

    async def _begin(self) -> ContainerWorker:
        """A running container. Raises IsolationUnavailable, with the launcher's sentence when it refuses."""
        try:
            async with asyncio.timeout(_START_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket)
        except (OSError, TimeoutError) as error:
            raise IsolationUnavailable(f"no launcher answers at {self._socket}") from error
        try:
            async with asyncio.timeout(_START_SECONDS):
                writer.write(f"{self._token}\n".encode())
                said, data = await frames.read_frame(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, FrameRefused) as error:
            writer.transport.abort()
            raise IsolationUnavailable("the launcher does not start a container") from error
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        if said is not Said.STARTED:
            writer.transport.abort()
            raise IsolationUnavailable(f"the launcher refused: {data.decode('utf-8', 'replace')[:300]}")
        return ContainerWorker(reader, writer)
