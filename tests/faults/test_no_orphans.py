"""Whatever kills the stack's own process, or a trainer's, nothing it started stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from isolations import require_bwrap

SUPERVISOR = """
import signal, sys, time
from pathlib import Path
from devstack.anvil import Anvil
from devstack.postgres import Postgres
from devstack.processes import Child

place = Path(sys.argv[1])
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # a caller in the background may have left it ignored
    signal.signal(number, signal.default_int_handler)
postgres, anvil = Postgres(place / "postgres", place / "postgres.log", durable=False), Anvil(place / "anvil.log")
sleeper = Child("sleeper", ["sleep", "600"], place / "sleeper.log")
try:
    for part in (postgres, anvil, sleeper):
        part.start()
    print(postgres.child.pid, anvil.child.pid, sleeper.pid, flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    pass
finally:
    for part in (sleeper, anvil, postgres):
        part.stop()
"""


TRAINER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from isolations import LIMITS, isolated
from trainer.job import Job
from trainer.pool import JobPool

async def main():
    async with isolated(sys.argv[1]) as isolation, JobPool(isolation, processes=2, waiting=1) as pool:
        for worker in pool._idle:
            await worker.feed(b"statistics 1000\\n")  # in the middle of its input
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_stack__its_own_process_is_killed__leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(tmp_path)], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        started = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(started) == 3
        family = started + [child.pid for pid in started for child in psutil.Process(pid).children(recursive=True)]
        assert all(map(_is_running, family))
        supervisor.send_signal(number)
        try:
            supervisor.wait(30)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            raise
    until = time.monotonic() + 30
    while any(map(_is_running, family)):
        assert time.monotonic() < until, [pid for pid in family if _is_running(pid)]
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
@pytest.mark.parametrize("backend", ["process", "bwrap"])
def test_trainer__killed_with_jobs_at_work__leaves_no_worker_behind(backend: str) -> None:
    if backend == "bwrap":
        require_bwrap()
    fixtures = str(Path(__file__).parents[1] / "fixtures")
    with subprocess.Popen([sys.executable, "-c", TRAINER, backend, fixtures], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "ready\n"
        workers = psutil.Process(trainer.pid).children(recursive=True)
        assert len(workers) >= 2
        trainer.kill()
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert not [worker for worker in alive if _is_running(worker.pid)]
    assert gone
