"""The benchmark's rooms run, on numbers too small to mean anything: no time is looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import steps
from benchmarks.__main__ import SECTIONS
from benchmarks.data import synthetic
from benchmarks.floor import gmp_rates, operations
from benchmarks.peers import PEERS
from benchmarks.peers.peer import Peer
from benchmarks.report import write
from benchmarks.run import Extent, Run
from hessian.paillier.decryption import PrivateKey, generate_private_key

TINY = Extent(repeats=1, key_bits=(512,), loan_rows=(), synthetic=((6, 40),), minimum_bits=512)
KEY = generate_private_key(512, minimum_bits=512)
EXACT = [peer for peer in PEERS if peer.by_key]


@pytest.mark.parametrize("peer", EXACT, ids=lambda peer: peer.name)
def test_step__of_each_exact_library__is_checked_and_has_all_its_parts(peer: Peer) -> None:
    if (reason := peer.missing()) is not None:
        pytest.skip(reason)
    case = synthetic(6, 40)
    step = peer.step(case, (KEY.p, KEY.q), 1)
    assert min(step.encrypt, step.owner, step.decrypt, step.upload_bytes, step.download_bytes) > 0
    assert step.error == 0
    assert step.whole == step.encrypt + step.owner + step.randomise + step.decrypt


def test_synthetic__the_same_sizes__is_the_same_case_within_its_bounds() -> None:
    case = synthetic(6, 40)
    assert case == synthetic(6, 40)
    assert max(map(abs, case.gradient())) <= case.slot_bound
    assert len(case.features) == len(case.labels) == 32


def test_operations__of_a_case__grow_with_its_dimension() -> None:
    small, large = (operations(synthetic(d, 40), PrivateKey(KEY.p, KEY.q)) for d in (6, 12))
    assert 0 < small.squarings < small.total < large.total
    assert gmp_rates(KEY.public_key.n).halves(small) > 0


def test_run__every_section_on_tiny_numbers__writes_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PEERS", PEERS[:2])
    lines: list[str] = []
    run = Run(TINY, lines.append)
    results = [SECTIONS[name](run) for name in ("one_step", "owner_floor", "key_certificate", "members", "private_quote")]
    page = write(results, tmp_path, "make bench").read_text(encoding="utf-8")
    document = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))

    assert [section["title"] for section in document["sections"]] == [result.title for result in results]
    first, second = document["sections"][0]["rows"]
    assert first["library"] == "this project"
    assert first["×"] == 1
    assert second["re-randomised"] == "yes"
    assert all(f"## {result.title}" in page for result in results)
    assert len(lines) >= 5
