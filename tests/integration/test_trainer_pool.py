"""Jobs in real processes, on every backend: their limits, their refusals, their ends, and an event loop that goes on turning."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from isolations import BACKENDS, LIMITS, Before, isolated
from small_model import KEY_BITS, Rows, manifest, specification

from hessian.errors import ServiceUnavailable
from hessian.identifiers import Timestamp
from hessian.learning.formats import framed
from hessian.learning.statistics import SufficientStatistics
from hessian.testing import valid_terms
from trainer.isolation.worker import PROGRAM, JobLimits
from trainer.job import Job
from trainer.pool import JobCrashed, JobLimitExceeded, JobPool, JobRefused, TrainerBusy
from trainer.statistics import statistics_of

SPOILED = """
import sys, trainer.job, trainer.statistics
trainer.statistics.run = lambda wanted, rows: {body}
sys.exit(trainer.job.main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
"""

Pool = Callable[..., AbstractAsyncContextManager[JobPool]]


@pytest.fixture(params=BACKENDS)
def pool(request: pytest.FixtureRequest) -> Pool:
    """`pool(body)` runs statistics jobs that evaluate `body` instead, under the real limits; `pool()` runs real ones."""

    @contextlib.asynccontextmanager
    async def make(body: str | None = None, limits: JobLimits = LIMITS, *, processes: int = 1, waiting: int = 4) -> AsyncIterator[JobPool]:
        program = PROGRAM if body is None else ("-I", "-B", "-c", SPOILED.format(body=body))
        async with isolated(request.param, limits, program) as isolation:
            before = Before.now(request.param)
            async with JobPool(isolation, processes=processes, waiting=waiting) as made:
                yield made
            await before.nothing_is_left()

    return make


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


async def test_run__statistics_of_a_stream__equal_those_computed_here(pool: Pool) -> None:
    data = Rows(1, 500).csv()
    async with pool(waiting=1) as jobs:
        answer = await jobs.run(Job.STATISTICS, header(), chunks(data[:100], data[100:]))
    assert SufficientStatistics.from_plain(json.loads(answer)) == statistics_of([data], specification())


async def test_run__a_bad_cell__is_refused_by_row_and_column_without_the_cell(pool: Pool) -> None:
    data = b"income,age,region,Class\n1,30,N,bad\nsecret-canary,30,N,good\n"
    async with pool(waiting=1) as jobs:
        with pytest.raises(JobRefused, match=r"row 2, column 'income'") as refusal:
            await jobs.run(Job.STATISTICS, header(), chunks(data))
        assert "canary" not in refusal.value.sentence
        assert await jobs.run(Job.STATISTICS, header(), chunks(Rows(2, 10).csv()))  # and the next job has a process of its own


async def test_run__an_infinite_loop__is_killed_at_its_processor_time_while_the_loop_ticks(pool: Pool) -> None:
    limits = JobLimits(memory_bytes=1 << 30, cpu_seconds=1, wall_seconds=120.0, output_bytes=1 << 20)
    async with pool("[None for _ in iter(int, 1)]", limits) as jobs, ticking() as pauses:
        with pytest.raises(JobLimitExceeded, match="processor time"):
            await jobs.run(Job.STATISTICS, header())
    assert len(pauses) > 20


async def test_run__a_job_that_sleeps__is_killed_at_the_wall_clock(pool: Pool) -> None:
    limits = JobLimits(memory_bytes=1 << 30, cpu_seconds=20, wall_seconds=0.5, output_bytes=1 << 20)
    async with pool("__import__('time').sleep(60)", limits) as jobs:
        started = time.monotonic()
        with pytest.raises(JobLimitExceeded, match=r"0\.5 s"):
            await jobs.run(Job.STATISTICS, header())
        assert time.monotonic() - started < 10


async def test_run__a_memory_bomb__is_stopped_at_its_limit(pool: Pool) -> None:
    async with pool("[bytearray(1 << 24) for _ in iter(int, 1)]", JobLimits(512 << 20, 20, 20.0, 1 << 20)) as jobs:
        with pytest.raises(JobLimitExceeded, match="memory"):
            await jobs.run(Job.STATISTICS, header())


async def test_run__endless_output__is_cut_off(pool: Pool) -> None:
    async with pool("b'x' * (8 << 20)") as jobs:
        with pytest.raises(JobLimitExceeded, match="answer"):
            await jobs.run(Job.STATISTICS, header())


async def test_run__a_crash__names_neither_message_nor_data(pool: Pool) -> None:
    async with pool("1 / 0 if not rows.read() else {}['secret-canary']") as jobs:
        with pytest.raises(JobCrashed) as crash:
            await jobs.run(Job.STATISTICS, header(), chunks(b"rows"))
        assert "canary" not in crash.value.sentence


async def test_run__a_file_that_breaks_its_reader__is_refused_and_breaks_nothing_else(pool: Pool) -> None:
    async with pool("__import__('ctypes').string_at(0)") as jobs:
        with pytest.raises(JobRefused, match="damaged"):
            await jobs.run(Job.STATISTICS, header(), chunks(b"PAR1"))
        await jobs.check()


async def test_run__parquet_behind_its_frame__gives_the_sums_of_the_same_rows_as_csv(pool: Pool) -> None:
    data = Rows(1, 500)
    async with pool() as jobs:
        answer = await jobs.run(Job.STATISTICS, header(), chunks(framed(data.parquet()), data.parquet()))
    assert SufficientStatistics.from_plain(json.loads(answer)) == statistics_of([data.csv()], specification())


async def test_run__parquet_with_moments_of_a_named_zone__is_read_though_no_zone_file_can_be(pool: Pool) -> None:
    rows = Rows(1, 50)
    table = pq.read_table(io.BytesIO(rows.parquet()))
    moments = pa.array(range(50), pa.timestamp("us", "Europe/Berlin"))
    file = io.BytesIO()
    pq.write_table(table.set_column(table.schema.get_field_index("region"), "region", moments), file)
    async with pool() as jobs:
        answer = await jobs.run(Job.STATISTICS, header(), chunks(framed(file.getvalue()), file.getvalue()))
    elsewhere = rows.csv().replace(b",N,", b",S,")
    assert SufficientStatistics.from_plain(json.loads(answer)) == statistics_of([elsewhere], specification())


async def test_run__a_job_that_writes_a_file__cannot(pool: Pool, tmp_path: Path) -> None:
    written = tmp_path / "rows"
    written.touch()
    async with pool(f"open({str(written)!r}, 'wb', buffering=0).write(b'row')") as jobs:
        with pytest.raises((JobCrashed, JobLimitExceeded)):
            await jobs.run(Job.STATISTICS, header())
    assert written.read_bytes() == b""


async def test_run__rows_that_stop_coming__pass_their_own_error_on_and_free_the_place(pool: Pool) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"income,age,region,Class\n"
        raise ServiceUnavailable("owner-api does not answer")

    async with pool(waiting=0) as jobs:
        with pytest.raises(ServiceUnavailable, match="owner-api"):
            await jobs.run(Job.STATISTICS, header(), broken())
        await jobs.check()


async def test_run__more_jobs_than_may_wait__are_told_to_come_back(pool: Pool) -> None:
    async with pool("(__import__('time').sleep(1), b'{}')[1]", waiting=1) as jobs:
        asked = [asyncio.create_task(jobs.run(Job.STATISTICS, header())) for _ in range(3)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["TrainerBusy", "bytes", "bytes"]
    assert any(isinstance(answer, TrainerBusy) for answer in answers)


async def test_run__cancelled__leaves_nothing_and_frees_the_place(pool: Pool) -> None:
    async with pool("(rows.read(), __import__('time').sleep(60))", waiting=0) as jobs:
        asked = asyncio.Event()

        async def rows() -> AsyncIterator[bytes]:
            asked.set()
            yield b"rows"
            await asyncio.Event().wait()

        job = asyncio.create_task(jobs.run(Job.STATISTICS, header(), rows()))
        await asked.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await jobs.check()


async def test_run__its_worker_was_killed_while_it_waited__gets_another(pool: Pool) -> None:
    async with pool() as jobs:
        for worker in jobs._idle:
            await worker.end()
        assert await jobs.run(Job.STATISTICS, header(), chunks(Rows(2, 10).csv()))


async def test_pool__closed_with_a_job_at_work__leaves_nothing(pool: Pool) -> None:
    async with pool("__import__('time').sleep(60)", processes=2) as jobs:
        job = asyncio.create_task(jobs.run(Job.STATISTICS, header()))
        while not jobs._running:  # noqa: ASYNC110 - the process has no event of its own to wait for
            await asyncio.sleep(0.01)
    assert isinstance((await asyncio.gather(job, return_exceptions=True))[0], JobLimitExceeded)


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
