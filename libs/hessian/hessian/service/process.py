"""A service as a process: everything it runs lives and dies together, and SIGTERM is one event that every loop awaits."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import SettingsError

from hessian.errors import HessianError, Unavailable
from hessian.settings import BadSettings, ServiceSettings

log = structlog.get_logger()
GRACE_SECONDS = 20
EXIT_BAD_SETTINGS = 2
_AGAIN_SECONDS = 1.0
_ADDRESS = ("HESSIAN_HOST", "HESSIAN_PORT")
ErrorT = TypeVar("ErrorT", bound=BaseException)
WorldT = TypeVar("WorldT")


class CannotListen(BadSettings):
    """The address of the settings cannot be listened on."""


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: the process has one stop event."""

    def install_signal_handlers(self) -> None:
        """Left to run_service."""


async def serve(app: FastAPI, settings: ServiceSettings, stop: asyncio.Event, *, variables: tuple[str, str] = _ADDRESS) -> None:
    """Serve until `stop`; then finish the requests in flight within the grace period. Raises CannotListen, which names `variables`."""
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            limit_concurrency=512,
            h11_max_incomplete_event_size=64 * 1024,
            server_header=False,
        )
    )

    async def watch() -> None:
        await stop.wait()
        server.should_exit = True

    watching = asyncio.create_task(watch(), name="stop")
    try:
        await server._serve(_listen(settings.host, settings.port, variables))
    finally:
        watching.cancel()
        stop.set()


def require_listenable(settings: ServiceSettings) -> None:
    """Raises CannotListen when the address is taken or not ours, before anything that would have to be stopped again is started."""
    for listener in _listen(settings.host, settings.port, _ADDRESS):
        listener.close()


def _listen(host: str, port: int, variables: tuple[str, str]) -> list[socket.socket]:
    """A listening socket for each address of `host`. Uvicorn's own would end the process with a log line instead of an error."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(2048)
            listener.setblocking(False)
    except OSError as error:
        for listener in sockets:
            listener.close()
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise CannotListen(f"{variables[0]} {host} and {variables[1]} {port} cannot be listened on: {reason}") from error
    return sockets


@asynccontextmanager
async def opened(
    open_world: Callable[[], AbstractAsyncContextManager[WorldT]], stop: asyncio.Event, *, seconds: float
) -> AsyncIterator[WorldT]:
    """Open what a service runs on. A neighbour that does not answer yet is asked again for so long; then its error stands.

    Raises what `open_world` raises; bad settings at once.
    """
    until = time.monotonic() + seconds
    async with AsyncExitStack() as stack:
        while True:
            try:
                world = await stack.enter_async_context(open_world())
                break
            except Unavailable as error:
                if stop.is_set() or time.monotonic() + _AGAIN_SECONDS > until:
                    raise
                log.info("waiting", reason=error.sentence)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _AGAIN_SECONDS)
        yield world


def run_service(name: str, main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a composition root to its end. Exit codes: 0 stopped as asked, 2 bad configuration, 1 anything else."""
    code = 0
    try:
        asyncio.run(_until_stopped(main))
    except* ValidationError as group:
        code = EXIT_BAD_SETTINGS
        for invalid in _leaves(group):
            places = "; ".join(f"HESSIAN_{str(e['loc'][0]).upper()}: {e['msg']}" for e in invalid.errors() if e["loc"])
            print(f"{name} cannot start: {places or invalid}", file=sys.stderr)
    except* SettingsError as group:
        code = EXIT_BAD_SETTINGS
        for unreadable in _leaves(group):
            print(f"{name} cannot start: {unreadable}", file=sys.stderr)
    except* HessianError as group:
        code = 1
        for error in _leaves(group):
            print(f"{name} stops: {error}", file=sys.stderr)
    sys.exit(code)


async def _until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)


def _leaves(group: BaseExceptionGroup[ErrorT]) -> Iterator[ErrorT]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
