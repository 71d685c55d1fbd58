"""Helpers of one job: they compute what one process would, share its limits, and a helper's end is the job's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trainer.job import Job
from trainer.pool import JobCrashed, JobLimitExceeded, JobLimits, JobPool

LIMITS = JobLimits(memory_bytes=2 << 30, cpu_seconds=20, wall_seconds=30.0, output_bytes=1 << 20)
SPOILED = """
import json, os, resource, sys, trainer.job, trainer.statistics
from trainer.cores import spread_over

{definitions}
trainer.statistics.run = lambda wanted, rows: json.dumps(run()).encode()
sys.exit(trainer.job.main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
"""


async def answer(definitions: str, limits: JobLimits = LIMITS) -> Any:
    """What a real job's process answers when its work is `run` of these definitions."""
    async with JobPool(limits, processes=1, waiting=0, program=("-I", "-c", SPOILED.format(definitions=definitions))) as pool:
        return json.loads(await pool.run(Job.STATISTICS, b"{}"))


async def test_spread_over__more_pieces_than_processes__gives_every_result_in_order_from_all_of_them() -> None:
    values, pids = await answer("""
def run():
    spread = spread_over(3)
    return spread(lambda i: i**200, 8), spread(lambda i: os.getpid(), 8)
""")
    assert values == [i**200 for i in range(8)]
    assert len(set(pids)) == 3
    assert pids == pids[:3] * 2 + pids[:2]


async def test_spread_over__the_map_with_its_randomisers__opens_to_the_plain_result_and_never_repeats_one() -> None:
    opened, distinct = await answer("""
from hessian.paillier.ciphertext import affine_map
from hessian.paillier.decryption import generate_private_key
from hessian.paillier.fixed_point import centre

def run():
    private = generate_private_key(512, minimum_bits=512)
    key = private.public_key
    outputs = []
    for _ in range(2):
        outputs += affine_map(key, private.encrypt([3, -5]), [[2, 7], [-1, 4], [0, 1]], [10, 20, 30], spread=spread_over(2))
    return [centre(private.decrypt(c), key.n) for c in outputs], len(set(outputs))
""")
    assert opened == [-19, -3, 25] * 2
    assert distinct == 6


async def test_spread_over__a_job_under_limits__divides_them_and_takes_its_own_back() -> None:
    during, helpers_cpu, before, after = await answer("""
def both():
    return [resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU)]

def run():
    before = both()
    spread = spread_over(2)
    memory = spread(lambda i: resource.getrlimit(resource.RLIMIT_AS)[0], 2)
    cpu = spread(lambda i: resource.getrlimit(resource.RLIMIT_CPU)[0], 2)
    return memory, cpu[1], before, both()
""")
    assert sum(during) <= LIMITS.memory_bytes
    assert helpers_cpu <= LIMITS.cpu_seconds // 2
    assert after == before


async def test_spread_over__address_space_for_one_process_only__works_alone() -> None:
    alone = await answer("""
def run():
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() * 3 // 2, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return len(set(spread_over(4)(lambda i: os.getpid(), 4)))
""")
    assert alone == 1


@pytest.mark.parametrize(
    ("piece", "error", "sentence"),
    [
        ("[None for _ in iter(int, 1)]", JobLimitExceeded, "processor time"),
        ("[bytearray(1 << 24) for _ in iter(int, 1)]", JobLimitExceeded, "memory"),
        ("{}['secret-canary']", JobCrashed, "ended with code"),
    ],
    ids=["loops", "grows", "fails"],
)
async def test_spread_over__a_helper_that_goes_wrong__ends_the_job_in_the_same_way(
    piece: str, error: type[Exception], sentence: str
) -> None:
    limits = JobLimits(memory_bytes=2 << 30, cpu_seconds=6, wall_seconds=60.0, output_bytes=1 << 20)
    with pytest.raises(error, match=sentence) as failure:
        await answer(f"def run():\n    return spread_over(2)(lambda i: {piece} if i else 1, 2)\n", limits)
    assert "canary" not in str(failure.value)
