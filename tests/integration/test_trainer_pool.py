"""Jobs in real processes: their limits, their refusals, and an event loop that goes on turning."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from small_model import KEY_BITS, Rows, manifest, specification

from hessian.errors import ServiceUnavailable
from hessian.identifiers import Timestamp
from hessian.learning.formats import framed
from hessian.learning.statistics import SufficientStatistics
from hessian.testing import valid_terms
from trainer.job import Job
from trainer.pool import JobCrashed, JobLimitExceeded, JobLimits, JobPool, JobRefused, TrainerBusy
from trainer.statistics import statistics_of

LIMITS = JobLimits(memory_bytes=1 << 30, cpu_seconds=20, wall_seconds=20.0, output_bytes=1 << 20)
SPOILED = """
import sys, trainer.job, trainer.statistics
trainer.statistics.run = lambda wanted, rows: {body}
sys.exit(trainer.job.main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
"""

MakePool = Callable[..., AbstractAsyncContextManager[JobPool]]


def spoiled(body: str, limits: JobLimits = LIMITS, **options: int) -> JobPool:
    """A pool whose statistics jobs evaluate `body` instead, under the real limits."""
    return JobPool(
        limits, processes=options.get("processes", 1), waiting=options.get("waiting", 4), program=("-I", "-c", SPOILED.format(body=body))
    )


def header() -> bytes:
    of = manifest(valid_terms(Timestamp(0)))
    return json.dumps({"manifest": base64.b64encode(of.to_bytes()).decode(), "minimum_key_bits": KEY_BITS, "threads": 2}).encode()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@contextlib.asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """The pauses between the turns of the loop."""
    pauses: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            pauses.append(time.monotonic() - before)

    task = asyncio.create_task(tick())
    yield pauses
    task.cancel()


async def test_run__statistics_of_a_stream__equal_those_computed_here() -> None:
    data = Rows(1, 500).csv()
    async with JobPool(LIMITS, processes=1, waiting=1) as pool:
        answer = await pool.run(Job.STATISTICS, header(), chunks(data[:100], data[100:]))
    assert SufficientStatistics.from_plain(json.loads(answer)) == statistics_of([data], specification())


async def test_run__a_bad_cell__is_refused_by_row_and_column_without_the_cell() -> None:
    data = b"income,age,region,Class\n1,30,N,bad\nsecret-canary,30,N,good\n"
    async with JobPool(LIMITS, processes=1, waiting=1) as pool:
        with pytest.raises(JobRefused, match=r"row 2, column 'income'") as refusal:
            await pool.run(Job.STATISTICS, header(), chunks(data))
        assert "canary" not in refusal.value.sentence
        assert await pool.run(Job.STATISTICS, header(), chunks(Rows(2, 10).csv()))  # and the next job has a process of its own


async def test_run__an_infinite_loop__is_killed_at_its_processor_time_while_the_loop_ticks() -> None:
    limits = JobLimits(memory_bytes=1 << 30, cpu_seconds=2, wall_seconds=30.0, output_bytes=1 << 20)
    async with spoiled("[None for _ in iter(int, 1)]", limits) as pool, ticking() as pauses:
        with pytest.raises(JobLimitExceeded, match="processor time"):
            await pool.run(Job.STATISTICS, header())
    assert len(pauses) > 20


async def test_run__a_job_that_sleeps__is_killed_at_the_wall_clock() -> None:
    limits = JobLimits(memory_bytes=1 << 30, cpu_seconds=20, wall_seconds=0.5, output_bytes=1 << 20)
    async with spoiled("__import__('time').sleep(60)", limits) as pool:
        started = time.monotonic()
        with pytest.raises(JobLimitExceeded, match=r"0\.5 s"):
            await pool.run(Job.STATISTICS, header())
        assert time.monotonic() - started < 10


async def test_run__a_memory_bomb__is_stopped_at_its_limit() -> None:
    async with spoiled("[bytearray(1 << 24) for _ in iter(int, 1)]", JobLimits(512 << 20, 20, 20.0, 1 << 20)) as pool:
        with pytest.raises(JobLimitExceeded, match="memory"):
            await pool.run(Job.STATISTICS, header())


async def test_run__endless_output__is_cut_off() -> None:
    async with spoiled("b'x' * (8 << 20)") as pool:
        with pytest.raises(JobLimitExceeded, match="answer"):
            await pool.run(Job.STATISTICS, header())


async def test_run__a_crash__names_neither_message_nor_data() -> None:
    async with spoiled("1 / 0 if not rows.read() else {}['secret-canary']") as pool:
        with pytest.raises(JobCrashed) as crash:
            await pool.run(Job.STATISTICS, header(), chunks(b"rows"))
        assert "canary" not in crash.value.sentence


async def test_run__a_file_that_breaks_its_reader__is_refused_and_breaks_nothing_else() -> None:
    async with spoiled("__import__('os').kill(__import__('os').getpid(), 11)") as pool:
        with pytest.raises(JobRefused, match="damaged"):
            await pool.run(Job.STATISTICS, header(), chunks(b"PAR1"))
        await pool.check()


async def test_run__parquet_behind_its_frame__gives_the_sums_of_the_same_rows_as_csv() -> None:
    data = Rows(1, 500)
    async with JobPool(LIMITS, processes=1, waiting=1) as pool:
        answer = await pool.run(Job.STATISTICS, header(), chunks(framed(data.parquet()), data.parquet()))
    assert SufficientStatistics.from_plain(json.loads(answer)) == statistics_of([data.csv()], specification())


async def test_run__a_job_that_writes_a_file__cannot(tmp_path: Path) -> None:
    written = tmp_path / "rows"
    written.touch()
    async with spoiled(f"open({str(written)!r}, 'wb', buffering=0).write(b'row')") as pool:
        with pytest.raises((JobCrashed, JobLimitExceeded)):
            await pool.run(Job.STATISTICS, header())
    assert written.read_bytes() == b""


async def test_run__rows_that_stop_coming__pass_their_own_error_on_and_free_the_place() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"income,age,region,Class\n"
        raise ServiceUnavailable("owner-api does not answer")

    async with JobPool(LIMITS, processes=1, waiting=0) as pool:
        with pytest.raises(ServiceUnavailable, match="owner-api"):
            await pool.run(Job.STATISTICS, header(), broken())
        await pool.check()


async def test_run__more_jobs_than_may_wait__are_told_to_come_back() -> None:
    async with spoiled("(__import__('time').sleep(1), b'{}')[1]", waiting=1) as pool:
        jobs = [asyncio.create_task(pool.run(Job.STATISTICS, header())) for _ in range(3)]
        answers = await asyncio.gather(*jobs, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["TrainerBusy", "bytes", "bytes"]
    assert any(isinstance(answer, TrainerBusy) for answer in answers)


async def test_pool__closed__leaves_no_process() -> None:
    async with spoiled("__import__('time').sleep(60)", processes=2) as pool:
        job = asyncio.create_task(pool.run(Job.STATISTICS, header()))
        while not pool._running:  # noqa: ASYNC110 - the process has no event of its own to wait for
            await asyncio.sleep(0.01)
        children = [process.pid for process in [*pool._idle, *pool._running]]
        job.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await job
    assert len(children) >= 2
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_imports__of_service_and_job__contain_no_chain_database_or_ipfs() -> None:
    forbidden = (
        "hessian.chain",
        "hessian.postgres",
        "hessian.ipfs",
        "hessian.outbox",
        "sqlalchemy",
        "web3",
        "aioipfs",
        "psycopg",
        "eth_account",
    )
    code = "import sys, trainer.__main__, trainer.job, trainer.gradient, trainer.statistics; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "trainer.pool" in loaded
    assert [name for name in loaded if name.startswith(forbidden)] == []
    assert "hessian.paillier.decryption" not in loaded
