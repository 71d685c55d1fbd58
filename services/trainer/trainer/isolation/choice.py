"""Which backend runs the jobs: what the operator named, or the best one that works here. One log line says which, and why."""

from __future__ import annotations

import structlog

from hessian.confinement import filter as calls
from hessian.settings import BadSettings, read_secret
from trainer.isolation.bubblewrap import BubblewrapIsolation
from trainer.isolation.container import ContainerIsolation
from trainer.isolation.local import ProcessIsolation
from trainer.isolation.worker import Isolation, IsolationUnavailable, JobLimits
from trainer.settings import Backend, TrainerSettings

log = structlog.get_logger()


async def choose(settings: TrainerSettings) -> Isolation:
    """An isolation that has been tried out. Raises BadSettings when the one that was named does not work here."""
    limits = settings.limits()
    because = "configured"
    isolation: Isolation
    try:
        match settings.isolation:
            case Backend.BWRAP:
                isolation = await BubblewrapIsolation.prepare(limits)
            case Backend.DOCKER:
                isolation = await _container(settings, limits)
            case Backend.PROCESS:
                isolation = await _process(limits)
            case Backend.AUTO:
                isolation, because = await _best(limits)
    except IsolationUnavailable as error:
        raise BadSettings(
            f"HESSIAN_ISOLATION is {settings.isolation.value}, which does not work here: {error}. Make it work, or choose another backend"
        ) from error
    log.info("isolation_chosen", isolation=isolation.name, because=because, call_filter=calls.is_known())
    return isolation


async def _best(limits: JobLimits) -> tuple[Isolation, str]:
    try:
        return await BubblewrapIsolation.prepare(limits), "bubblewrap works here"
    except IsolationUnavailable as error:
        return await _process(limits), f"bubblewrap does not work here: {error}"


async def _process(limits: JobLimits) -> Isolation:
    isolation = ProcessIsolation(limits)
    await isolation.prove()
    return isolation


async def _container(settings: TrainerSettings, limits: JobLimits) -> Isolation:
    if settings.launcher_socket is None or settings.launcher_token_file is None:
        raise BadSettings(
            "HESSIAN_ISOLATION is docker: HESSIAN_LAUNCHER_SOCKET and HESSIAN_LAUNCHER_TOKEN_FILE must say where the launcher is"
        )
    isolation = ContainerIsolation(limits, socket=settings.launcher_socket, token=read_secret(settings.launcher_token_file))
    await isolation.prove()
    return isolation
