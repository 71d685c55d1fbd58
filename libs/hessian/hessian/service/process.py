"""A service as a process: everything it runs lives and dies together, and SIGTERM is one event that every loop awaits."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from hessian.errors import HessianError
from hessian.settings import ServiceSettings

log = structlog.get_logger()
GRACE_SECONDS = 20
EXIT_BAD_SETTINGS = 2
ErrorT = TypeVar("ErrorT", bound=BaseException)


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: the process has one stop event."""

    def install_signal_handlers(self) -> None:
        """Left to run_service."""


async def serve(app: FastAPI, settings: ServiceSettings, stop: asyncio.Event) -> None:
    """Serve until `stop`; then finish the requests in flight within the grace period."""
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
        await server._serve()
    finally:
        watching.cancel()
        stop.set()


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
