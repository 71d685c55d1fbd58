"""Work done while no job waits: it is for the one job of its own process, and for nobody else's."""

from __future__ import annotations

import json
from typing import Any

from trainer.isolation.local import ProcessIsolation
from trainer.isolation.worker import JobLimits
from trainer.job import Job
from trainer.pool import JobPool

LIMITS = JobLimits(memory_bytes=1 << 30, cpu_seconds=20, wall_seconds=30.0, output_bytes=1 << 20)
SPOILED = """
import json, os, sys, trainer.job, trainer.gradient

trainer.gradient.prepare = lambda wanted: [os.getpid(), wanted["model"]]
trainer.gradient.run = lambda wanted, prepared: json.dumps([os.getpid(), prepared]).encode()
sys.exit(trainer.job.main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
"""


def model(name: str) -> bytes:
    return json.dumps({"model": name}).encode()


async def step(pool: JobPool) -> Any:
    return json.loads(await pool.run(Job.GRADIENT_STEP, b"{}"))


async def test_prepare__before_a_job__serves_that_job_in_its_own_process_and_no_other() -> None:
    async with JobPool(ProcessIsolation(LIMITS, program=("-I", "-B", "-c", SPOILED)), processes=1, waiting=0) as pool:
        first = await step(pool)
        await pool.prepare(model("a"))
        await pool.prepare(model("a"))
        second = await step(pool)
        third = await step(pool)

    assert first[1] is None
    assert second == [second[0], [second[0], "a"]]
    assert third[1] is None
    assert len({first[0], second[0], third[0]}) == 3


async def test_prepare__for_another_model__replaces_what_was_prepared() -> None:
    async with JobPool(ProcessIsolation(LIMITS, program=("-I", "-B", "-c", SPOILED)), processes=1, waiting=0) as pool:
        await pool.prepare(model("a"))
        await pool.prepare(model("b"))
        assert (await step(pool))[1][1] == "b"


async def test_prepare__a_pool_that_closes__ends_the_prepared_process_too() -> None:
    async with JobPool(ProcessIsolation(LIMITS, program=("-I", "-B", "-c", SPOILED)), processes=1, waiting=0) as pool:
        await pool.prepare(model("a"))
        worker = pool._idle[0]
    assert worker.has_ended
